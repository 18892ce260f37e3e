"""What a CompressAI model costs as a Trellic bundle, against what CompressAI itself computes.

    python -m benchmarks.imported --checkpoints DIR --photos DIR

DIR holds ``ARCHITECTURE.pth.tar`` and ``ARCHITECTURE.npz``, as
``tests/data/make_compressai_checkpoints.py`` makes them. Prints JSON, for each architecture:

* ``parity``: largest differences of y, z and picture from CompressAI's;
* ``y_bits``: code length of y under CompressAI's networks ("float"), with their standard
  deviations on the bundle's ladder ("ladder"), and under the integer h_s ("exact"), all for rounded
  latents and Gaussian tables, so that the last two differ by the price of integers alone;
* ``z_bits``: under CompressAI's factorized prior, and under Gaussians chosen per channel;
* ``files``: real bytes and PSNR at the trained rate, for rounding, RDOQ and trellises, beside what
  CompressAI estimates and reconstructs.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trellic.codec import Codec
from trellic_export import cli
from trellic_export.checkpoint import load_model
from trellic_training.losses.rates import bits
from trellic_training.models.compressai import ARCHITECTURES
from trellic_training.models.exact import ACTIVATION_UNIT
from trellic_training.models.hyperprior import LATENT_UNIT, TRAINED_QUALITY, HyperpriorModel

SEARCHES = (("round", 0), ("trellis", 0), ("trellis", 8), ("trellis", 32))


def main() -> None:
    """Export, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True, help="to calibrate on")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--out", type=Path, help="folder to keep bundles and weights in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = args.out or Path(temporary)
        found = [a for a in ARCHITECTURES if (args.checkpoints / f"{a}.pth.tar").is_file()]
        result = {a: measure(a, args.checkpoints, args.photos, args.count, out) for a in found}
    print(json.dumps(result, indent=1))


def measure(
    architecture: str, checkpoints: Path, photos: Path, count: int, out: Path
) -> dict[str, Any]:
    """Export one checkpoint and compare it with CompressAI's own results."""
    bundle, weights = out / f"{architecture}.zip", out / f"{architecture}.pt"
    checkpoint = checkpoints / f"{architecture}.pth.tar"
    source = ["--from", f"compressai:{architecture}", "--checkpoint", str(checkpoint)]
    options = ["--photos", str(photos), "--count", str(count), "--keep", str(weights), "--replace"]
    cli.main([*source, *options, str(bundle)])
    with np.load(checkpoints / f"{architecture}.npz") as archive:
        expected = dict(archive)
    model = load_model(weights)[0]
    assert isinstance(model, HyperpriorModel)
    return compare(model, expected) | {"files": files(bundle, expected)}


@torch.no_grad()
def compare(model: HyperpriorModel, expected: dict[str, np.ndarray]) -> dict[str, Any]:
    """Compare the imported networks with CompressAI's results for one picture."""
    pixels = torch.from_numpy(expected["pixels"]).permute(2, 0, 1)[None]
    reference = {k: torch.from_numpy(v)[None] for k, v in expected.items() if v.ndim == 3}
    quality = torch.tensor([TRAINED_QUALITY])
    f = model.g_a(pixels.float() / 255 - 0.5)
    z = torch.round(model.h_a(f) / ACTIVATION_UNIT)
    x_hat = (model.g_s(reference["y_hat"] / LATENT_UNIT) + 0.5).clamp(0, 1) * 255
    seen = reference["x_hat"].permute(0, 3, 1, 2).float()
    y = reference["y"]
    apart = reference["z_hat"] - z  # the fraction of the channel's median, were all well
    moved = (apart - apart.flatten(2).median(2)[0][..., None, None]).abs() > 0.5
    features = model.features(z * ACTIVATION_UNIT, quality)
    mean, index = model.parameters_of(0, features, torch.zeros_like(y), quality)
    float_mean = reference.get("means", torch.zeros_like(y))
    ladder = model.sigma(torch.arange(model.config.scales))
    wanted = reference["scales"].clamp_min(0.11)[..., None]
    nearest = (wanted.log() - ladder.log()).abs().argmin(-1)
    z_mean, z_sigma = (
        (t / ACTIVATION_UNIT)[None, :, None, None]
        for t in (model.hyper_mean, model.hyper_log_sigma.exp())
    )
    z_bits = bits(z - z_mean.round(), z_sigma.expand_as(z))
    y_bits = {
        "compressai": float(expected["y_bits"]),
        "float": gaussian_bits(y, float_mean, reference["scales"]),
        "ladder": gaussian_bits(y, float_mean, ladder[nearest]),
        "exact": gaussian_bits(y, mean, ladder[index.round().long()]),
    }
    return {
        "parity": {
            "y, relative to its largest": float((LATENT_UNIT * f - y).abs().max() / y.abs().max()),
            "z, share of other integers": float(moved.float().mean()),
            "picture, of 255": float((x_hat - seen).abs().max()),
        },
        "y_bits": {k: round(v, 1) for k, v in y_bits.items()},
        "price of integers, %": round(100 * (y_bits["exact"] / y_bits["ladder"] - 1), 3),
        "z_bits": {
            "compressai": round(float(expected["z_bits"]), 1),
            "per-channel Gaussians": round(float(z_bits.sum()), 1),
        },
        "pixels": expected["pixels"].shape[0] * expected["pixels"].shape[1],
    }


def gaussian_bits(y: Tensor, mean: Tensor, sigma: Tensor) -> float:
    """Code length of ``round(y - mean)`` as CompressAI's GaussianConditional computes it."""
    k = torch.round(y - mean).abs().double()
    root = 1 / (sigma.double().clamp_min(0.11) * math.sqrt(2))
    upper, lower = torch.erfc((k - 0.5) * root), torch.erfc((k + 0.5) * root)
    return float(-torch.log2(((upper - lower) / 2).clamp_min(1e-9)).sum())


def files(bundle: Path, expected: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Bytes and PSNR of real files at the trained rate, after CompressAI's own."""
    codec = Codec.load(str(bundle), device="cpu", threads=1)
    pixels = expected["pixels"]
    estimate = math.ceil(float(expected["y_bits"] + expected["z_bits"]) / 8)
    result = {"compressai": {"bytes": estimate, "psnr": psnr(expected["x_hat"], pixels)}}
    for search, states in SEARCHES:
        data = codec.encode(pixels, quality=TRAINED_QUALITY, trellis=states, search=search)
        seen = psnr(codec.decode(data), pixels)
        result[f"{search} {states}"] = {"bytes": len(data), "psnr": seen}
    return result


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of 8-bit pictures."""
    error = np.square(a.astype(float) - b.astype(float)).mean()
    return round(10 * math.log10(255**2 / error), 3)


if __name__ == "__main__":
    main()
