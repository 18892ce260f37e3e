"""Generation loss: what encoding and decoding again and again does to a photo.

::

    python -m benchmarks.generations --images DIR [--rounds 50] [--codecs trellic,again,jpeg,avif]

Each photo is encoded, decoded to 8 bits, encoded again, and so on, in three ways: always at one
quality; at two qualities in turn; and at one quality after the first round's picture lost some rows
and columns, so that no block or latent lies where it lay. `again` is Trellic, from the second round
on by `Codec.encode_again` with the file of the round before, which needs one quality and one size.
The qualities of each codec are those whose first round comes nearest to Trellic's PSNR at
`QUALITIES`, so that all start alike. Figures are means over the photos. (Kim et al., "Instability
of successive deep image compression", ACM Multimedia 2020, describe what learned codecs are prone
to.)
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import Progress

from benchmarks._machine import describe
from benchmarks._rows import Report
from benchmarks.codecs import Codec, Pixels, Spec, make
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from benchmarks.speed_tables import table
from trellic.codec import Codec as TrellicCodec
from trellic.images import Picture
from trellic.scored import ssimulacra2

ROOT = Path(__file__).resolve().parent
QUALITIES: Final = (60, 75)  # of Trellic; the second in one way only
SHOWN: Final = (1, 2, 5, 10, 20, 50)  # rounds that tables have, and whose SSIMULACRA 2 is taken
ALL: Final = slice(None)
CROP: Final = (slice(5, None), slice(3, None))  # rows and columns that are left


@dataclass(frozen=True)
class Way:
    """How a photo is encoded again.

    Attributes
    ----------
    rounds : at most
    qualities : how many of `QUALITIES`, used in turn
    kept : rows and columns of the first round's picture that the second round encodes
    """

    rounds: int
    qualities: int = 1
    kept: tuple[slice, slice] = (ALL, ALL)


WAYS: Final[dict[str, Way]] = {
    "steady": Way(50),
    "changing": Way(10, qualities=2),
    "cropped": Way(10, kept=CROP),
}
NAMES: Final[dict[str, str]] = {
    "trellic": "Trellic",
    "again": "Trellic, `--like`",
    "trellic:trellis=0": "Trellic, RDOQ",
    "trellic:steady=1": "Trellic, `--steady`",
    "jpeg": "mozjpeg",
    "webp": "WebP",
    "avif": "AVIF, speed 6",
}


@dataclass(frozen=True)
class Loss:
    """One codec in one way: qualities by photo; then means over the photos, round by round."""

    way: str
    codec: str
    qualities: list[list[float]]
    psnr: list[float]  # dB to the original
    bpp: list[float]
    step_psnr: list[float]  # between a round's picture and the one before
    ssimulacra2: list[float]  # to the original, of the rounds `SHOWN`


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


def generations(
    codec: Codec | Again, pixels: Pixels, way: Way, qualities: list[float], rounds: int
) -> tuple[list[tuple[float, float, float]], list[float]]:
    """Return for each round PSNR, bits per pixel, PSNR to the round before; and SSIMULACRA 2."""
    out, seen, current, original = [], [], pixels, pixels[way.kept]
    for n in range(rounds):
        data = codec.encode(current, qualities[n % len(qualities)])
        decoded = codec.decode(data)
        bpp = 8 * len(data) / current[..., 0].size
        step = min(psnr(current, decoded), 99.0)
        current = decoded if n else np.ascontiguousarray(decoded[way.kept])
        out.append((psnr(original, current), bpp, step))
        if n + 1 in SHOWN:
            seen.append(ssimulacra2(original, current))
    return out, seen


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


def qualities_of(name: str, photos: list[Pixels]) -> list[list[float]]:
    """Return for each photo the codec's qualities that match Trellic's."""
    if _is_ours(name):
        return [[float(quality) for quality in QUALITIES] for _ in photos]
    ours, codec = make(Spec.parse("trellic")), make(Spec.parse(name))
    return [
        [
            nearest_quality(codec, pixels, psnr(pixels, ours.decode(ours.encode(pixels, quality))))
            for quality in QUALITIES
        ]
        for pixels in photos
    ]


def measure(name: str, photos: list[Pixels], rounds: int, progress: Progress) -> Iterator[Loss]:
    """Run a codec over all photos, in every way that it has."""
    ways = ["steady"] if name == "again" else list(WAYS)
    task = progress.add_task(name, total=len(ways) * len(photos))
    qualities = qualities_of(name, photos)
    for label in ways:
        way, runs, seen = WAYS[label], [], []
        used = [own[: way.qualities] for own in qualities]
        for pixels, own in zip(photos, used, strict=True):
            codec = Again() if name == "again" else make(Spec.parse(name))
            run, scores = generations(codec, pixels, way, own, min(rounds, way.rounds))
            runs.append(run)
            seen.append(scores)
            progress.advance(task)
        means = np.mean(runs, 0).round(4).T.tolist()
        yield Loss(label, name, used, *means, np.mean(seen, 0).round(2).tolist())


def _is_ours(name: str) -> bool:
    """Whether a codec is Trellic with the same quality scale; steady files have another."""
    return name.partition(":")[0] in ("trellic", "again") and "steady" not in name


def markdown(record: Mapping[str, Any], way: str) -> str:
    """Return PSNR, bits a pixel and SSIMULACRA 2 as docs/saving-again.md shows them."""
    rows = [row for row in record["results"] if row["way"] == way]
    shown = [n for n in SHOWN if n <= len(rows[0]["psnr"])]
    head = ("codec", *(f"round {n}" for n in shown), "bpp at first", "at last", "SSIMULACRA 2")
    body = []
    for row in rows:
        cells = [f"{row['psnr'][n - 1]:.2f}" for n in shown]
        rates = [f"{row['bpp'][0]:.3f}", f"{row['bpp'][-1]:.3f}"]
        scores = f"{row['ssimulacra2'][0]:.0f}, then {row['ssimulacra2'][-1]:.0f}"
        body.append([NAMES.get(row["codec"], row["codec"]), *cells, *rates, scores])
    return table(head, body)


def plot(record: Mapping[str, Any], path: Path) -> None:
    """Draw PSNR over the rounds, a panel for each way."""
    from matplotlib.figure import Figure

    from benchmarks import svg

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = figure.subplots(1, len(WAYS), sharey=True)
    for axes, way in zip(panels, WAYS, strict=True):
        for row in (row for row in record["results"] if row["way"] == way):
            label = NAMES.get(row["codec"], row["codec"]).replace("`", "")
            axes.plot(range(1, len(row["psnr"]) + 1), row["psnr"], label=label)
        axes.set(title=way, xlabel="times encoded and decoded", xscale="log")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("PSNR to the original, dB")
    panels[0].legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    svg.save(figure, path)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Loss over generations.")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument(
        "--rounds", type=int, default=50, help="at most; 10 in ways other than steady"
    )
    parser.add_argument("--count", type=int, default=8, help="photos to use, by name")
    parser.add_argument("--codecs", default=",".join(NAMES))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "generations.json")
    parser.add_argument("--plot", type=Path, default=ROOT.parent / "docs/plots/generations.svg")
    options = parser.parse_args()
    try:
        paths = find_images(options.images)[: options.count]
    except FileNotFoundError as error:
        parser.error(str(error))
    photos = [read_pixels(path) for path in paths]
    report = Report(
        options.out,
        {
            "machine": describe(("numpy", "numba", "onnxruntime", "pillow", "ssimulacra2")),
            "model": make(Spec.parse("trellic")).versions,
            "photos": [path.name for path in paths],
        },
    )
    with Progress() as progress:
        for name in options.codecs.split(","):
            for loss in measure(name, photos, options.rounds, progress):
                report.add("results", asdict(loss))
    for way in WAYS:
        print(f"{way}\n{markdown(report.content, way)}\n")
    plot(report.content, options.plot)


if __name__ == "__main__":
    main()
