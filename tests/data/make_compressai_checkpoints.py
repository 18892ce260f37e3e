"""Make the checkpoints that the import of CompressAI's models is tested on.

Run where CompressAI is installed (it pins ``numpy<2`` and needs torchvision: not beside Trellic):

    python tests/data/make_compressai_checkpoints.py

Each architecture is built, briefly trained and saved by CompressAI itself, in the form of its
``examples/train.py``; beside each checkpoint lies what CompressAI computes with it for one picture.
Tests read both and need no CompressAI. ``--photos``, ``--n``, ``--m`` and ``--minutes`` train
larger models, for measurements.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from compressai.models import MeanScaleHyperprior, ScaleHyperprior
from PIL import Image

ROOT = Path(__file__).parents[2]
ARCHITECTURES = {"bmshj2018_hyperprior": ScaleHyperprior, "mbt2018_mean": MeanScaleHyperprior}
SUFFIXES = {".png", ".avif", ".jpg", ".webp"}


def crops(photos: list[np.ndarray], rng: np.random.Generator, batch: int, size: int):
    """Random crops, float32 (batch, 3, size, size) in [0, 1]."""
    out = np.empty((batch, size, size, 3), np.uint8)
    for i in range(batch):
        photo = photos[rng.integers(len(photos))]
        y, x = (int(rng.integers(side - size + 1)) for side in photo.shape[:2])
        out[i] = photo[y : y + size, x : x + size]
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() / 255


def train(net, photos, args) -> int:
    """CompressAI's usual objective, lmbda * 255**2 * MSE + bits per pixel; returns the steps."""
    rng = np.random.default_rng(args.seed)
    own = [p for n, p in net.named_parameters() if not n.endswith(".quantiles")]
    aux = [p for n, p in net.named_parameters() if n.endswith(".quantiles")]
    optimizer = torch.optim.Adam(own, args.learning_rate)
    aux_optimizer = torch.optim.Adam(aux, 1e-2)
    net.train()
    start, step = time.monotonic(), 0
    while True:
        done = max(step / args.steps, (time.monotonic() - start) / (60 * args.minutes))
        if done >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * min(1.0, max(0.02, (1 - done) / 0.3))
        x = crops(photos, rng, args.batch, args.crop)
        out = net(x)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        bpp = sum(-torch.log2(p).sum() for p in out["likelihoods"].values()) / pixels
        mse = (out["x_hat"] - x).square().mean()
        loss = bpp + args.lmbda * 255**2 * mse
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        aux_optimizer.zero_grad()
        net.aux_loss().backward()
        aux_optimizer.step()
        if step % 200 == 0:
            psnr = -10 * math.log10(mse.item())
            print(f"{step:6d} {100 * done:5.1f} % {bpp.item():.3f} bpp {psnr:.2f} dB", flush=True)
        step += 1


@torch.no_grad()
def expected(net, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """What CompressAI computes for one picture, its sides multiples of 64."""
    net.eval()
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    means_too = isinstance(net, MeanScaleHyperprior)
    y = net.g_a(x)
    z = net.h_a(y if means_too else y.abs())
    z_hat, z_likelihood = net.entropy_bottleneck(z)
    parameters = net.h_s(z_hat)
    scales, means = parameters.chunk(2, 1) if means_too else (parameters, None)
    y_hat, y_likelihood = net.gaussian_conditional(y, scales, means=means)
    x_hat = net.g_s(y_hat).clamp(0, 1)
    whole = net(x)
    assert torch.equal(whole["x_hat"].clamp(0, 1), x_hat)
    arrays = {"y": y, "z": z, "z_hat": z_hat, "y_hat": y_hat, "scales": scales}
    arrays |= {} if means is None else {"means": means}
    bits = {"y_bits": -torch.log2(y_likelihood).sum(), "z_bits": -torch.log2(z_likelihood).sum()}
    return {
        "pixels": pixels,
        "x_hat": (255 * x_hat[0].permute(1, 2, 0)).round().to(torch.uint8).numpy(),
        **{name: value[0].numpy() for name, value in arrays.items()},
        **{name: value.double().numpy() for name, value in bits.items()},
    }


def main() -> None:
    """Train, save and evaluate each architecture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "compressai")
    parser.add_argument("--photos", type=Path, default=ROOT / "samples")
    parser.add_argument("--picture", type=Path, default=ROOT / "samples" / "osprey.png")
    parser.add_argument("--side", type=int, default=128, help="pixels of the picture, its centre")
    parser.add_argument("--architectures", nargs="+", default=list(ARCHITECTURES))
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--m", type=int, default=12)
    parser.add_argument("--lmbda", type=float, default=0.013)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(p for p in args.photos.rglob("*") if p.suffix.lower() in SUFFIXES)
    photos = [np.asarray(Image.open(p).convert("RGB")) for p in paths]
    photos = [p for p in photos if min(p.shape[:2]) >= args.crop]
    pixels = np.asarray(Image.open(args.picture).convert("RGB"))
    top, left = ((side - min(side, args.side)) // 2 for side in pixels.shape[:2])
    pixels = pixels[top : top + args.side, left : left + args.side]
    pixels = pixels[: pixels.shape[0] // 64 * 64, : pixels.shape[1] // 64 * 64]
    for name in args.architectures:
        torch.manual_seed(args.seed)
        net = ARCHITECTURES[name](args.n, args.m)
        steps = train(net, photos, args)
        checkpoint = {"epoch": 0, "loss": 0.0, "state_dict": net.state_dict()}
        torch.save(checkpoint, args.out / f"{name}.pth.tar")
        values = expected(net, pixels)
        np.savez_compressed(args.out / f"{name}.npz", **values)
        bpp = (values["y_bits"] + values["z_bits"]) / (pixels.shape[0] * pixels.shape[1])
        print(f"{name}: {steps} steps; {bpp:.4f} bpp on {args.picture.name}")


if __name__ == "__main__":
    main()
