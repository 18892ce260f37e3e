"""Cut-outs on pure white and pure black: does the background stay what it was?

::

    python -m benchmarks.cutouts --images DIR

Makes a set as shops show products: parts of photos in soft ellipses and rounded boxes, and drawn
objects, half of them on 255 with a shadow, half on 0. Each codec encodes each picture at each
quality, in its own scale of 1 to 100; what is measured is the share of background pixels whose
three samples are exactly 255 (or 0) after decoding, and the largest error among them. The same
photos give the same set. ``--write DIR`` keeps it as PNG files.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from rich.progress import track

from benchmarks import _machine
from benchmarks.codecs import Codec, CodecUnavailableError, Pixels, Spec, SpecError, make
from benchmarks.labels import label
from benchmarks.measure import find_images
from benchmarks.runs import lines

Floats = npt.NDArray[np.float64]
SIZE = 512  # pixels a side
SEED = 20
WHITE, BLACK = 255, 0
QUALITIES = (30, 50, 60, 75, 90)
SHADOW = 0.35  # of the light that is missing where the shadow is darkest


@dataclass(frozen=True)
class Cutout:
    """An object on a background of one level."""

    name: str
    level: int
    pixels: Pixels
    background: npt.NDArray[np.bool_]
    """Where nothing was drawn and all samples have the level."""


@dataclass(frozen=True)
class Kept:
    """What one codec left of the background at one quality, over all pictures of one level."""

    codec: str
    quality: int
    level: int
    share: float
    """Of the background's pixels that are exact: mean over the pictures."""
    largest: int
    """Error of a background sample, over all pictures."""
    bpp: float


def cutouts(photos: Sequence[Path], count: int, size: int = SIZE) -> Iterator[Cutout]:
    """Make a set: every third picture a drawn object, the others parts of the photos in turn.

    Parameters
    ----------
    photos
        Files of pictures, any size.
    count
        Pictures on each of the two backgrounds; they show the same objects.
    size
        Pixels a side.
    """
    for number in range(count):
        rng = np.random.default_rng((SEED, number))
        path = photos[number % len(photos)]
        mask, light = _mask(rng, size)
        drawn = number % 3 == 2
        filling = _object(rng, light, size) if drawn else _part(path, size)
        kind = "drawn" if drawn else path.stem
        for level in (WHITE, BLACK):
            yield _composed(f"{number:02d}-{kind}-{level}", filling, mask, level)


def kept(pictures: Sequence[Cutout], spec: Spec, quality: int, codec: Codec) -> Iterator[Kept]:
    """Yield what a codec leaves of the backgrounds at one quality, for each level."""
    for level in (WHITE, BLACK):
        shares, errors, rates = [], [], []
        for picture in (one for one in pictures if one.level == level):
            data = codec.encode(picture.pixels, quality)
            error = np.abs(codec.decode(data)[picture.background].astype(np.int32) - level)
            shares.append(float((error.max(axis=1) == 0).mean()))
            errors.append(int(error.max()))
            rates.append(8 * len(data) / picture.background.size)
        yield Kept(
            str(spec), quality, level, float(np.mean(shares)), max(errors), float(np.mean(rates))
        )


def markdown(rows: Sequence[Kept]) -> str:
    """Return a table for each level: share of exact pixels in percent, and the largest error."""
    qualities = sorted({row.quality for row in rows})
    parts = []
    for level in (WHITE, BLACK):
        text = [
            f"| on {level}, quality | " + " | ".join(map(str, qualities)) + " |",
            "|---" + "|---:" * len(qualities) + "|",
        ]
        for codec in dict.fromkeys(row.codec for row in rows):
            found = {r.quality: r for r in rows if r.codec == codec and r.level == level}
            cells = (f"{100 * found[q].share:.2f} ({found[q].largest})" for q in qualities)
            text.append(f"| {label(codec)} | " + " | ".join(cells) + " |")
        parts.append("\n".join(text))
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the set, measure and print; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        specs = [Spec.parse(text) for text in options.codecs.split(",")]
        pictures = list(cutouts(find_images(options.images), options.count, options.size))
        codecs = {spec: make(spec) for spec in specs}
    except (CodecUnavailableError, SpecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.write:
        _write(pictures, options.write)
    jobs = [(spec, quality) for spec in specs for quality in options.qualities]
    rows = [row for job in track(jobs, "encode") for row in kept(pictures, *job, codecs[job[0]])]
    print(markdown(rows), end="")
    if options.out:
        head = {
            "benchmark": "cutouts",
            "machine": _machine.describe(("numpy", "pillow", "onnxruntime")),
            "pictures": [one.name for one in pictures],
            "versions": {str(spec): codec.versions for spec, codec in codecs.items()},
        }
        text = lines({**head, "kept": [asdict(row) for row in rows]})
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


def _mask(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Return how much of the object each pixel shows, and how it is lit, both in [0, 1].

    A superellipse, from an ellipse to a rounded box, with an edge of one to six pixels.
    """
    y, x = np.mgrid[:size, :size] / size - 0.5
    turn, power = rng.uniform(0, np.pi), rng.choice((2.0, 2.5, 4.0, 6.0))
    wide, tall = rng.uniform(0.18, 0.38, 2)
    along = (x * np.cos(turn) + y * np.sin(turn)) / wide
    across = (y * np.cos(turn) - x * np.sin(turn)) / tall
    radius = (np.abs(along) ** power + np.abs(across) ** power) ** (1 / power)
    soft = rng.uniform(1, 6) / size / min(wide, tall)
    shown = np.clip((1 - radius) / soft + 0.5, 0, 1)
    height = np.sqrt(np.clip(1 - radius**2, 0, 1))
    return shown, np.clip(0.25 + 0.6 * height - 0.4 * (along + across) / 2, 0, 1)


def _object(rng: np.random.Generator, light: Floats, size: int) -> Floats:
    """Draw a lit surface of one or two colours with stripes and a highlight, (H, W, 3)."""
    y, x = np.mgrid[:size, :size] / size
    first, second = rng.uniform(30, 230, (2, 3))
    stripe = np.sin(2 * np.pi * rng.uniform(4, 40) * (x * rng.uniform() + y * rng.uniform())) > 0.3
    colour = np.where(stripe[..., None], first, second)
    return colour * (0.3 + 0.7 * light[..., None]) + 220 * light[..., None] ** 12


def _part(path: Path, size: int) -> Floats:
    """Return the middle of a photo, scaled so that it covers the square."""
    with Image.open(path) as photo:
        fitted = ImageOps.fit(photo.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.float64)


def _composed(name: str, filling: Floats, mask: Floats, level: int) -> Cutout:
    ground = np.full_like(filling, level)
    if level == WHITE:  # on black a shadow is not seen
        ground *= 1 - SHADOW * _shadow(mask)[..., None]
    mixed = ground + (filling - ground) * mask[..., None]
    pixels = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    background = (mask == 0) & (pixels == level).all(axis=2)
    return Cutout(name, level, pixels, background)


def _shadow(mask: Floats) -> Floats:
    """Return a soft patch of shade under the object; most of the picture has none."""
    size = len(mask)
    rows, columns = np.nonzero(mask)
    y, x = np.mgrid[:size, :size]
    half = (columns.max() - columns.min()) / 2 or 1
    across = (x - columns.mean()) / half
    down = (y - rows.max()) / (0.12 * half)
    return np.exp(-4 * (across**2 + down**2)) * (across**2 + down**2 < 1.5)


def _write(pictures: Sequence[Cutout], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in pictures:
        Image.fromarray(one.pixels).save(folder / f"{one.name}.png", optimize=True)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cutouts",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="photos to cut from")
    add("--count", type=int, default=12, help="objects (default 12), each on both backgrounds")
    add("--size", type=int, default=SIZE, help=f"pixels a side (default {SIZE})")
    add("--codecs", default="trellic,avif,webp,jpeg", help="with qualities of 1 to 100")
    add("--qualities", type=_numbers, default=QUALITIES, metavar="Q,Q")
    add("--write", type=Path, metavar="DIR", help="keep the pictures there")
    add("--out", type=Path, metavar="JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
