"""Draw the README's picture: a crop of a photo beside two codecs at equal bytes.

::

    python -m benchmarks.compare_picture PHOTO OUT.webp --quality 20 --crop 300,200,320,320

The first codec (Trellic) encodes at the quality given; each other one takes the lowest of its
qualities whose file is *not smaller*. So the others are never short of bytes, unless their smallest
file is asked for. Bytes and PSNR are of the whole photo.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.codecs import Codec, CodecUnavailableError, Pixels, Spec, SpecError, make
from benchmarks.labels import label
from benchmarks.measure import read_pixels
from benchmarks.metrics import psnr

BACKGROUND = "#161b22"  # reads well on light and on dark pages
TEXT, FAINT = "#f0f6fc", "#9da7b3"
GAP = 6  # pixels between panels
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One version of the photo."""

    title: str
    details: str
    pixels: Pixels


def panels(photo: Path, specs: Sequence[Spec], quality: float) -> list[Panel]:
    """Return the original, then the first codec's picture last and the others between."""
    original = read_pixels(photo)
    first, *others = ((spec, make(spec)) for spec in specs)
    data = first[1].encode(original, quality)
    matched = [
        _panel(spec, codec, original, at_least(codec, original, len(data)))
        for spec, codec in others
    ]
    start = Panel("Original", _details(photo.stat().st_size, original, None), original)
    return [start, *matched, _panel(*first, original, data)]


def at_least(codec: Codec, original: Pixels, size: int) -> bytes:
    """Return the smallest of a codec's files that has at least this many bytes.

    Bisects over a hundred steps between the ends of the codec's ladder; its file at the best
    quality if even that is smaller.
    """
    low, high = codec.ladder[0], codec.ladder[-1]
    steps = 100
    worst, best = 0, steps
    found = codec.encode(original, high)
    while worst < best:
        middle = (worst + best) // 2
        data = codec.encode(original, low + (high - low) * middle / steps)
        if len(data) >= size:
            best, found = middle, data
        else:
            worst = middle + 1
    return found


def draw(shown: Sequence[Panel], crop: Box, scale: int) -> Image.Image:
    """Draw the panels' crops side by side with their captions.

    Parameters
    ----------
    shown
        Panels of one size.
    crop
        Left, top, width and height in pixels of the photo.
    scale
        Magnification, by whole pixels.
    """
    left, top, width, height = crop
    wide, high = width * scale, height * scale
    size = max(13, wide // 20)
    caption = round(size * 3.2)
    total = len(shown) * (wide + GAP) - GAP
    sheet = Image.new("RGB", (total, high + caption), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for index, panel in enumerate(shown):
        x = index * (wide + GAP)
        part = Image.fromarray(panel.pixels[top : top + height, left : left + width])
        sheet.paste(part.resize((wide, high), Image.Resampling.NEAREST), (x, 0))
        titles, details = ImageFont.load_default(size), ImageFont.load_default(size * 0.8)
        pen.text((x + size // 2, high + size * 0.4), panel.title, TEXT, titles)
        pen.text((x + size // 2, high + size * 1.8), panel.details, FAINT, details)
    return sheet


def parse_box(text: str) -> Box:
    """Read ``left,top,width,height``."""
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not left,top,width,height") from None
    if min(left, top) < 0 or min(width, height) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} lies outside of any photo")
    return left, top, width, height


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and write the picture; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        specs = [Spec.parse(text) for text in options.codecs.split(",")]
        shown = panels(options.photo, specs, options.quality)
    except (CodecUnavailableError, SpecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    height, width = shown[0].pixels.shape[:2]
    left, top, *size = options.crop or (0, 0, width, height)
    box = (min(left, width - 1), min(top, height - 1), *size)
    box = (box[0], box[1], min(box[2], width - box[0]), min(box[3], height - box[1]))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(shown, box, options.scale).save(options.out, quality=95, method=6)
    for panel in shown:
        print(f"{panel.title}: {panel.details}")
    return 0


def _panel(spec: Spec, codec: Codec, original: Pixels, data: bytes) -> Panel:
    decoded = codec.decode(data)
    return Panel(label(str(spec)), _details(len(data), original, decoded), decoded)


def _details(size: int, original: Pixels, decoded: Pixels | None) -> str:
    rate = 8 * size / np.prod(original.shape[:2])
    text = f"{size:,} bytes, {rate:.3f} bpp"
    return text if decoded is None else f"{text}, {psnr(original, decoded):.2f} dB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare_picture", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("photo", type=Path)
    add("out", type=Path, metavar="OUT.webp")
    add("--codecs", default="trellic,jpeg", help="the first one sets the bytes")
    add("--quality", type=float, default=20.0, help="of the first codec")
    add("--crop", type=parse_box, metavar="X,Y,W,H", help="default: the whole photo")
    add("--scale", type=int, default=1, help="magnification")
    return parser


if __name__ == "__main__":
    sys.exit(main())
