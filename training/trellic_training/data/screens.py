"""Pictures like screenshots, drawn at random: text, windows, tables, charts, icons, and photos.

::

    python -m trellic_training.data.screens OUT --count 480 --fonts /usr/share/fonts --photos DIR

A model that has only seen photos is poor at flat areas, thin lines and text. Few screenshots are
free to use, so these are made up: apart from the photos, nothing in them is anybody's. The same
seed, fonts and photos give the same pictures. Name no folder of photos that are to be tested on.
"""

from __future__ import annotations

import argparse
import colorsys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFilter

from trellic_training.bars import shown
from trellic_training.data.canvas import (
    BLACK,
    FRINGED,
    PLAIN,
    SMOOTH,
    WHITE,
    Box,
    Canvas,
    Colour,
    Theme,
)
from trellic_training.data.widgets import fill

SIDE = 640  # pixels of a picture
LEAST = 90  # pixels a side of a part of a window
FONTS = (".ttf", ".otf")


class Artist:
    """Draws a screen after another.

    Parameters
    ----------
    seed : decides everything that is random
    fonts, photos : files to take them from; both may be empty
    """

    def __init__(self, seed: int, fonts: Sequence[Path] = (), photos: Sequence[Path] = ()) -> None:
        self.random = Random(seed)  # noqa: S311
        self.fonts, self.photos = list(fonts), list(photos)

    def screen(self) -> Image.Image:
        """Return a new picture, SIDE pixels a side."""
        chance = self.random
        scale = chance.choice((1.0, 1.0, 1.0, chance.uniform(1.0, 2.2)))
        side = round(SIDE * scale)
        canvas = Canvas(chance, theme(chance, self.fonts), side)
        if chance.random() < 0.35:
            canvas.gradient((0, 0, side, side), *chance.choices(canvas.theme.accents, k=2))
        for box in parts(chance, (0, 0, side, side)):
            fill(canvas, box, self.photos)
        for _ in range(chance.choice((0, 0, 1, 2))):
            self._window(canvas, side)
        if scale > 1:
            return canvas.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        return canvas.image

    def _window(self, canvas: Canvas, side: int) -> None:
        """Draw a window with a title over what is there."""
        chance = self.random
        left, top = chance.randrange(side // 2), chance.randrange(side // 2)
        right, bottom = (
            at + chance.randrange(least, side // 2) for at, least in ((left, 160), (top, 120))
        )
        if chance.random() < 0.6:  # a soft shadow
            shadow = Image.new("L", canvas.image.size)
            ImageDraw.Draw(shadow).rectangle((left, top + 6, right, bottom + 10), 110)
            canvas.image.paste(BLACK, (0, 0), shadow.filter(ImageFilter.GaussianBlur(9)))
        title = chance.randrange(16, 30)
        colours = chance.choices(canvas.theme.accents, k=2)
        canvas.gradient((left, top, right, top + title), *colours)
        canvas.draw.rectangle((left, top + title, right, bottom), canvas.theme.paper, (90,) * 3)
        canvas.text((left + 8, top + 3), canvas.words(3), title - 9, WHITE)
        for part in parts(chance, (left, top + title, right, bottom)):
            fill(canvas, part, self.photos)


def theme(chance: Random, fonts: Sequence[Path]) -> Theme:
    """Choose colours and fonts of a screen."""
    dark = chance.random() < 0.35
    greys = (0, 12, 24, 32) if dark else (255, 255, 255, 246, 236, 192)
    grey = chance.choice(greys)
    light_inks, dark_inks = (
        (WHITE, (220,) * 3, (170, 255, 170)),
        (BLACK, BLACK, (40,) * 3, (20, 30, 60)),
    )
    ink = chance.choice(light_inks if dark else dark_inks)
    accents = tuple(colour(chance) for _ in range(4))
    tint = chance.choice((0, 0, 0, 6))
    paper = (
        (max(0, grey - tint), grey, min(255, grey + tint))
        if dark
        else (grey, grey, max(0, grey - tint))
    )
    text = chance.choice((PLAIN, SMOOTH, SMOOTH, SMOOTH, FRINGED))
    return Theme(dark, paper, ink, accents, text, tuple(chance.sample(fonts, min(2, len(fonts)))))


def colour(chance: Random) -> Colour:
    """Choose a strong colour."""
    saturation, value = chance.uniform(0.3, 1), chance.uniform(0.35, 1)
    red, green, blue = colorsys.hsv_to_rgb(chance.random(), saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def parts(chance: Random, box: Box) -> list[Box]:
    """Cut a box in two, and the halves again, until the parts are small or chance ends it."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    longest = max(width, height)
    if longest < 2 * LEAST or (longest < 400 and chance.random() < 0.3):
        return [box]
    at = chance.uniform(0.25, 0.75)
    if width > height:
        middle = left + round(width * at)
        halves = (left, top, middle, bottom), (middle, top, right, bottom)
    else:
        middle = top + round(height * at)
        halves = (left, top, right, middle), (left, middle, right, bottom)
    return [part for half in halves for part in parts(chance, half)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw screens into a folder, as PNG."""
    parser = argparse.ArgumentParser(prog="python -m trellic_training.data.screens")
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=480)
    parser.add_argument("--fonts", type=Path, help="folder of .ttf and .otf files")
    parser.add_argument("--photos", type=Path, help="folder of photos to paste")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    fonts = _files(options.fonts, FONTS)
    photos = _files(options.photos, tuple(Image.registered_extensions()))
    artist = Artist(options.seed, fonts, photos)
    options.out.mkdir(parents=True, exist_ok=True)
    for number in shown(range(options.count), "drawing"):
        artist.screen().save(options.out / f"screen-{number:04d}.png")


def _files(folder: Path | None, endings: tuple[str, ...]) -> list[Path]:
    found = sorted(folder.rglob("*")) if folder else []
    return [path for path in found if path.suffix.lower() in endings]


if __name__ == "__main__":
    main()
