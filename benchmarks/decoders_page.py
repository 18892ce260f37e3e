"""Crops to look at: the original, decoders of one file, and AVIF at equal bytes.

::

    python -m benchmarks.decoders_page kodim05.png kodim08.png --out page.html --sheet sheet.webp

One self-contained HTML page: press a picture to see the original in its place. The crop of each
photo is where the decoders differ most (the square in which their mean absolute difference is
largest), so it shows what there is to see and is no fair sample; ``--crop`` takes another one. The
rival gets the smallest of its files that is not smaller than ours. Bytes, PSNR and SSIMULACRA2 are
of the whole photo.
"""

import argparse
import base64
import html
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.codecs import CodecUnavailableError, Pixels, Spec, SpecError, make
from benchmarks.compare_picture import BACKGROUND, GAP, Box, Panel, at_least, draw, parse_box
from benchmarks.labels import label
from benchmarks.measure import read_pixels
from benchmarks.metrics import psnr
from benchmarks.scores import SCORES
from trellic.codec import Codec
from trellic.errors import TrellicError

STEP = 16  # pixels between the places where a crop may start
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Trellic: one file, many decoders</title>
<meta name="viewport" content="width=device-width">
<style>
:root {{ color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }}
body {{ margin: 1.5rem; max-width: 120rem }}
section {{ display: flex; flex-wrap: wrap; gap: .6rem; margin-bottom: 2rem }}
h2 {{ font-size: 1.05rem; flex-basis: 100%; margin: 0 }}
figure {{ margin: 0 }}
img {{ display: block; width: {side}px; max-width: 94vw; cursor: pointer;
  image-rendering: pixelated; touch-action: none }}
figcaption {{ max-width: {side}px; font-size: .85rem }}
</style>
<h1>One file, many decoders</h1>
<p>{note} Press a picture to see the original in its place.</p>
{sections}
<script>
for (const image of document.querySelectorAll("section img")) {{
  const own = image.src, original = image.closest("section").querySelector("img").src;
  image.onpointerdown = () => {{ image.src = original; }};
  image.onpointerup = image.onpointerleave = image.onpointercancel = () => {{ image.src = own; }};
}}
</script>
</html>
"""
NOTE = (
    "Each row is one photo. All of Trellic's pictures in a row come from the same file. Bytes and "
    "scores are of the whole photo; the crop is {crop}, {scale} times as large."
)


@dataclass(frozen=True)
class Strip:
    """One photo: its versions, and what is shown of them."""

    name: str
    panels: list[Panel]
    crop: Box


def strip(
    photo: Path,
    codec: Codec,
    decoders: Sequence[str],
    rivals: Sequence[Spec],
    quality: float,
    crop: Box | int,
) -> Strip:
    """Encode a photo once, decode it by every decoder, and match the rivals' bytes.

    Parameters
    ----------
    photo
        File of a picture.
    codec
        Ours.
    decoders
        Names; of full-size pictures.
    rivals
        Other codecs.
    quality
        Ours.
    crop
        What to show; or the side of the square that is to be found.

    Raises
    ------
    ValueError
        A decoder makes a picture of another size.
    """
    original = read_pixels(photo)
    data = codec.encode(original, quality=quality)
    made = {name: np.asarray(codec.decode(data, decoder=name)) for name in decoders}
    for name, decoded in made.items():
        if decoded.shape != original.shape:
            raise ValueError(f"decoder {name} makes {decoded.shape} of {original.shape}")
    panels = [Panel("Original", "", original)]
    panels += [_panel(f"Trellic, {name}", original, one, data) for name, one in made.items()]
    for spec in rivals:
        rival = make(spec)
        matched = at_least(rival, original, len(data))
        panels.append(_panel(label(str(spec)), original, rival.decode(matched), matched))
    found = _inside(crop, original) if isinstance(crop, tuple) else where(list(made.values()), crop)
    return Strip(photo.name, panels, found)


def where(pictures: Sequence[Pixels], side: int) -> Box:
    """Return the square in which the first and the last of some pictures differ most.

    Of one picture alone: the one with the strongest edges.
    """
    first, last = (one.astype(np.float32).mean(axis=2) for one in (pictures[0], pictures[-1]))
    difference = np.abs(first - last) if len(pictures) > 1 else np.hypot(*np.gradient(first))
    height, width = difference.shape
    tall, wide = min(side, height), min(side, width)
    total = np.pad(difference.cumsum(0, np.float64).cumsum(1), ((1, 0), (1, 0)))
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    coarse = sums[::STEP, ::STEP]
    top, left = np.unravel_index(int(coarse.argmax()), coarse.shape)
    return int(left) * STEP, int(top) * STEP, wide, tall


def page(strips: Sequence[Strip], scale: int, note: str) -> str:
    """Return the HTML page, the pictures inside it."""
    sections = "\n".join(_section(one) for one in strips)
    side = scale * max(one.crop[2] for one in strips)
    return PAGE.format(side=side, note=html.escape(note), sections=sections)


def sheet(strips: Sequence[Strip], scale: int) -> Image.Image:
    """Return all rows below each other in one picture."""
    return stacked([draw(one.panels, one.crop, scale) for one in strips])


def stacked(rows: Sequence[Image.Image]) -> Image.Image:
    """Return pictures below each other in one picture."""
    height = sum(row.height + GAP for row in rows) - GAP
    whole = Image.new("RGB", (max(row.width for row in rows), height), BACKGROUND)
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height + GAP
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the page and the sheet; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        codec = Codec.load(options.model)
        rivals = [Spec.parse(text) for text in options.rivals.split(",") if text]
        decoders, crop = options.decoders.split(","), options.crop or options.side
        strips = [
            strip(photo, codec, decoders, rivals, options.quality, crop)
            for photo in track(options.photos, "encode and match")
        ]
    except (CodecUnavailableError, SpecError, TrellicError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    chosen = "as asked for" if options.crop else "where the decoders differ most"
    note = NOTE.format(crop=chosen, scale=options.scale)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(strips, options.scale, note), encoding="utf-8")
    print(f"wrote {options.out}")
    if options.sheet:
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet(strips, options.scale).save(options.sheet, quality=95, method=6)
        print(f"wrote {options.sheet}")
    return 0


def _panel(title: str, original: Pixels, decoded: Pixels, data: bytes) -> Panel:
    score = SCORES["ssimulacra2"]
    details = f"{len(data):,} bytes, {psnr(original, decoded):.2f} dB"
    if score.needs() is None and score.defined(original):
        details += f", SSIMULACRA2 {score.compute(original, decoded):.1f}"
    return Panel(title, details, decoded)


def _inside(crop: Box, pixels: Pixels) -> Box:
    left, top, width, height = crop
    if left + width > pixels.shape[1] or top + height > pixels.shape[0]:
        raise ValueError(f"crop {crop} does not lie in a picture of {pixels.shape[1::-1]} pixels")
    return crop


def _section(one: Strip) -> str:
    left, top, width, height = one.crop
    figures = []
    for panel in one.panels:
        buffer = io.BytesIO()
        part = panel.pixels[top : top + height, left : left + width]
        Image.fromarray(part).save(buffer, "PNG", optimize=True)
        source = base64.b64encode(buffer.getvalue()).decode()
        title, details = html.escape(panel.title), html.escape(panel.details)
        figures.append(
            f'<figure><img alt="{title}" src="data:image/png;base64,{source}">'
            f"<figcaption><b>{title}</b><br>{details}</figcaption></figure>"
        )
    return f"<section><h2>{html.escape(one.name)}</h2>{''.join(figures)}</section>"


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoders_page",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photos", type=Path, nargs="+", metavar="PHOTO")
    add("--out", type=Path, default=Path("decoders.html"), metavar="HTML")
    add("--sheet", type=Path, metavar="WEBP", help="also write all crops as one picture")
    add("--model", default="photo", metavar="NAME|PATH")
    add("--decoders", default="quality,perceptual", metavar="NAME,NAME")
    add("--rivals", default="avif", help="codecs at equal bytes (default avif)")
    add("--quality", type=float, default=15.0, help="default 15")
    add("--side", type=int, default=192, help="of the crops that are found, in pixels")
    add("--crop", type=parse_box, metavar="X,Y,W,H", help="of every photo")
    add("--scale", type=int, default=2, help="magnification (default 2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
