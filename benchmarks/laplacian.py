"""How well a Laplace density fits the latents, with and without shrinkage.

::

    python -m benchmarks.laplacian --images DIR [--models photo,photo-psnr] [--quality 40]

Shrinkage is ``sign(t) max(|t| - theta, 0)``, soft thresholding, done here to the finished latents.
Latents are taken twice: as they are, a distribution for each channel, and less their predicted
means, one for each scale index. They are rounded, and coded by the density of each family that
codes them best; what it needs above the entropy of the symbols is the misfit. Reconstruction is the
centroid of each symbol, so that shrinkage is not blamed for its bias. It is compared with plain
rounding of a coarser step at equal entropy.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy.special import gammainc

from benchmarks import _machine
from benchmarks.measure import describe_image, find_images, read_pixels
from benchmarks.speed_tables import table
from trellic.engines.pool import EnginePool
from trellic.images import Picture
from trellic.limits import STEP32
from trellic.model.bundle import Bundle, find
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import EncodeOptions
from trellic.support.clock import Clock

ROOT = Path(__file__).resolve().parent
THRESHOLDS = (0.0, 0.15, 0.3, 0.5)  # in steps
COARSER = np.geomspace(1, 2.5, 21)  # steps of plain rounding that shrinkage is compared with
SCALES = np.geomspace(0.02, 200, 160)  # candidates of a density's scale, in steps
SHAPES = {"gauss": 2.0, "laplace": 1.0}  # exponents of generalised Gaussians
EXPONENTS = np.arange(0.4, 2.05, 0.1)
FEWEST = 500  # samples of a distribution

Floats = npt.NDArray[np.float64]
Groups = list[Floats]


@dataclass(frozen=True)
class Fit:
    """One kind of latents, with one threshold."""

    model: str
    latents: str
    """"channels": as they are; "predicted": less their means, by scale index."""
    threshold: float
    bits: float
    """Entropy of a symbol."""
    gauss: float
    """Bits of a symbol that the best Gaussians need above it."""
    laplace: float
    exponent: float
    """Of the generalised Gaussian that fits best: 2 Gauss, 1 Laplace."""
    zeros: float
    """Share of symbols that are 0."""
    gain_db: float
    """By how much its error is below that of plain rounding at equal entropy."""


def collect(model: str, images: Iterable[Path], quality: float) -> dict[str, Groups]:
    """Return the latents of photos in steps: by channel, and less their means by scale index."""
    bundle = Bundle(find(model))
    pool = EnginePool(bundle, "cpu", 1, "fp32")
    seen: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
    encoder = StreamEncoder(bundle, pool, lambda t32, index, *_: seen.append((t32, index)))
    layout, sees = bundle.manifest.layout, bundle.manifest.encoder.sees_quality
    level = bundle.levels.at(round(16 * quality), 0)
    planes = []
    for path in images:
        picture = Picture(read_pixels(path))
        encoder.picture(picture, EncodeOptions(quality, trellis=0, search="round"))
        plane = layout.plane(picture.width, picture.height)
        told = level.quality if sees else None
        f, _ = encoder.analyse(picture, plane, Clock(), quality=told)
        planes.append((f * level.gain_float[:, None, None]).reshape(len(f), -1))
    y = np.concatenate(planes, axis=1).astype(np.float64)
    t = np.concatenate([t32 for t32, _ in seen]) / STEP32
    index = np.concatenate([index for _, index in seen])
    by_index = [t[index == i] for i in range(layout.scales)]
    return {
        "channels": [channel - np.median(channel) for channel in y],
        "predicted": [group for group in by_index if len(group) >= FEWEST],
    }


def shrink(t: Floats, threshold: float) -> Floats:
    """Return soft thresholding."""
    return np.sign(t) * np.maximum(np.abs(t) - threshold, 0)


def entropy_and_error(groups: Groups, threshold: float = 0, step: float = 1) -> tuple[float, float]:
    """Return bits a symbol, and the mean squared error with centroids, in squared steps."""
    bits = error = 0.0
    for t in groups:
        k = np.rint(shrink(t, threshold * step) / step).astype(np.int64)
        _, place, counts = np.unique(k, return_inverse=True, return_counts=True)
        centroid = np.bincount(place, t) / counts
        bits -= float((counts * np.log2(counts / len(t))).sum())
        error += float(((t - centroid[place]) ** 2).sum())
    total = sum(map(len, groups))
    return bits / total, error / total


def code_length(k: npt.NDArray[np.int64], exponent: float) -> float:
    """Return the bits of all symbols under the generalised Gaussian of the best scale.

    Parameters
    ----------
    k : int64 (n,), symbols; signs do not matter
    exponent : 2 for a Gaussian, 1 for a Laplace density
    """
    counts = np.bincount(np.abs(k))
    edges = np.arange(len(counts)) + 0.5
    # P(|x| < e) of a generalised Gaussian
    inside = gammainc(1 / exponent, (edges[None] / SCALES[:, None]) ** exponent)
    mass = np.diff(inside, prepend=0, axis=1)
    mass[:, 1:] /= 2  # two signs
    lengths = -np.log2(np.maximum(mass, 1e-12)) @ counts
    return float(lengths.min())


def measure(model: str, latents: str, groups: Groups) -> Iterator[Fit]:
    """Yield the fit of one kind of latents with each threshold."""
    total = sum(map(len, groups))
    plain = np.array([entropy_and_error(groups, step=step) for step in COARSER])
    for threshold in THRESHOLDS:
        symbols = [np.rint(shrink(t, threshold)).astype(np.int64) for t in groups]
        bits, error = entropy_and_error(groups, threshold)
        equal = np.interp(-bits, -plain[:, 0], np.log10(plain[:, 1]))

        def needs(exponent: float, symbols: Sequence[Any] = symbols) -> float:
            return sum(code_length(k, exponent) for k in symbols) / total

        yield Fit(
            model,
            latents,
            threshold,
            bits,
            **{name: needs(exponent) - bits for name, exponent in SHAPES.items()},
            exponent=float(min(EXPONENTS, key=needs)),
            zeros=float(sum((k == 0).sum() for k in symbols)) / total,
            gain_db=10 * float(equal - np.log10(error)),
        )


def markdown(record: Mapping[str, Any]) -> str:
    """Draw the fits as Markdown."""
    head = ("model", "latents", "threshold", "bits", "zeros", "Gauss", "Laplace", "exponent")
    kinds = {"channels": "by channel", "predicted": "less their means, by scale"}
    rows = [
        [
            f"`{one.model}`",
            kinds[one.latents],
            f"{one.threshold:g}",
            f"{one.bits:.3f}",
            f"{one.zeros:.0%}".replace("%", " %"),
            f"+{one.gauss / one.bits:.1%}".replace("%", " %"),
            f"+{one.laplace / one.bits:.1%}".replace("%", " %"),
            f"{one.exponent:.1f}",
            f"{one.gain_db:+.2f} dB",
        ]
        for one in (Fit(**row) for row in record["rows"])
    ]
    return table((*head, "against rounding"), rows)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Densities of latents, with shrinkage.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--models", default="photo,photo-psnr")
    parser.add_argument("--quality", type=float, default=40)
    parser.add_argument("--count", type=int, default=6, help="photos to use, by name")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "laplacian.json")
    options = parser.parse_args()
    paths = find_images(options.images)[: options.count]
    record: dict[str, Any] = {
        "benchmark": "laplacian",
        "machine": _machine.describe(("numpy", "scipy", "onnxruntime")),
        "quality": options.quality,
        "images": [describe_image(path) for path in paths],
        "rows": [],
    }
    for model in options.models.split(","):
        for latents, groups in collect(model, paths, options.quality).items():
            bar = track(measure(model, latents, groups), f"{model}, {latents}", len(THRESHOLDS))
            record["rows"] += [asdict(fit) for fit in bar]
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(markdown(record))


if __name__ == "__main__":
    main()
