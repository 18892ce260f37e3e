"""Generation loss: what encoding and decoding again and again does to a photo.

::

    python -m benchmarks.generations --images DIR [--rounds 50] [--codecs trellic,again,jpeg,avif]

Every codec encodes each photo at one quality, decodes it to 8 bits, encodes that at the same
quality, and so on; `again` is Trellic, from the second round on by `Codec.encode_again` with the
file of the round before. The quality of each codec is the one whose first round comes nearest to
Trellic's PSNR at quality 60, so that all start alike. Figures are means over the photos. (Kim et
al., "Instability of successive deep image compression", ACM Multimedia 2020, describe what learned
codecs are prone to.)
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks._machine import describe
from benchmarks.codecs import Codec, Pixels, Spec, make
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from trellic.codec import Codec as TrellicCodec
from trellic.images import Picture

ROOT = Path(__file__).resolve().parent
QUALITY = 60.0  # of Trellic
SHOWN = (1, 2, 5, 10, 20, 50)  # rounds that are printed


@dataclass(frozen=True)
class Loss:
    """One codec: quality per photo, then for each round PSNR to the original and bits per pixel."""

    codec: str
    qualities: list[float]
    psnr: list[float]
    bpp: list[float]
    step_psnr: list[float]  # between a round's picture and the one before


class Again:
    """Trellic, which is given the file that a picture was decoded from."""

    def __init__(self) -> None:
        self._codec = TrellicCodec.load("photo", device="cpu")
        self._last: bytes | None = None

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode anew, or like the file that was decoded last."""
        if self._last is None:
            return self._codec.encode(pixels, quality=quality)
        return self._codec.encode_again(Picture(pixels), self._last).data

    def decode(self, data: bytes) -> Pixels:
        """Decode, and remember the file."""
        self._last = data
        return self._codec.decode(data)


def generations(codec: Codec | Again, pixels: Pixels, quality: float, rounds: int) -> np.ndarray:
    """Return (rounds, 3): PSNR to the original, bits per pixel, PSNR to the round before."""
    out, current = [], pixels
    for _ in range(rounds):
        data = codec.encode(current, quality)
        decoded = codec.decode(data)
        step = min(psnr(current, decoded), 99.0)
        out.append((psnr(pixels, decoded), 8 * len(data) / pixels[..., 0].size, step))
        current = decoded
    return np.array(out)


def nearest_quality(codec: Codec, pixels: Pixels, target: float) -> float:
    """Return the quality of the codec's ladder, or between two, whose PSNR is nearest."""
    low, high = min(codec.ladder), max(codec.ladder)
    best, distance = low, float("inf")
    for _ in range(7):  # bisection; whole numbers are all that most codecs take
        middle = round((low + high) / 2)
        seen = psnr(pixels, codec.decode(codec.encode(pixels, middle)))
        if abs(seen - target) < distance:
            best, distance = float(middle), abs(seen - target)
        low, high = (middle, high) if seen < target else (low, middle)
    return best


def measure(names: list[str], photos: list[Pixels], rounds: int) -> list[Loss]:
    """Run all codecs over all photos."""
    trellic = make(Spec.parse("trellic"))
    goals = [psnr(p, trellic.decode(trellic.encode(p, QUALITY))) for p in photos]
    results = []
    with Progress() as progress:
        task = progress.add_task("generations", total=len(names) * len(photos))
        for name in names:
            runs, qualities = [], []
            for pixels, goal in zip(photos, goals, strict=True):
                if name == "again" or name.startswith("trellic"):
                    codec = Again() if name == "again" else make(Spec.parse(name))
                    qualities.append(QUALITY)
                else:
                    codec = make(Spec.parse(name))
                    qualities.append(nearest_quality(codec, pixels, goal))
                runs.append(generations(codec, pixels, qualities[-1], rounds))
                progress.advance(task)
            mean = np.mean(runs, 0).round(4).T.tolist()
            results.append(Loss(name, qualities, *mean))
    return results


def table(results: list[Loss]) -> str:
    """Return PSNR and bits of some rounds as text."""
    lines = []
    for loss in results:
        shown = [n for n in SHOWN if n <= len(loss.psnr)]
        cells = [f"{n}: {loss.psnr[n - 1]:.2f} dB {loss.bpp[n - 1]:.3f} bpp" for n in shown]
        lines.append(f"{loss.codec:<12} " + " | ".join(cells))
    return "\n".join(lines)


def plot(results: list[Loss], path: Path) -> None:
    """Draw PSNR over the rounds."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "generations"
    from matplotlib.figure import Figure

    axes = (figure := Figure(figsize=(6.4, 4.0), layout="constrained")).subplots()
    for loss in results:
        axes.plot(range(1, len(loss.psnr) + 1), loss.psnr, label=loss.codec)
    axes.set(xlabel="times encoded and decoded", ylabel="PSNR to the original, dB", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Loss over generations.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--count", type=int, default=8, help="photos to use, by name")
    parser.add_argument("--codecs", default="trellic,again,trellic:trellis=0,jpeg,webp,avif")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "generations.json")
    parser.add_argument("--plot", type=Path, default=ROOT.parent / "docs/plots/generations.svg")
    options = parser.parse_args()
    try:
        paths = find_images(options.images)[: options.count]
    except FileNotFoundError as error:
        parser.error(str(error))
    photos = [read_pixels(path) for path in paths]
    results = measure(options.codecs.split(","), photos, options.rounds)
    print(table(results))
    record = {
        "machine": describe(("numpy", "numba", "onnxruntime", "pillow", "imagecodecs")),
        "photos": [path.name for path in paths],
        "results": [asdict(loss) for loss in results],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    plot(results, options.plot)


if __name__ == "__main__":
    main()
