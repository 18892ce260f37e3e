"""Strokes of drawn screens: text in three ways, gradients, colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw, ImageFont

Box = tuple[int, int, int, int]  # left, top, right, bottom
Colour = tuple[int, int, int]
VOWELS, CONSONANTS = "aeiou" * 3 + "y", "bcdfghlmnprstvwt" * 2 + "jkqxz"
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
PLAIN, SMOOTH, FRINGED = "1", "L", "RGB"  # how text is drawn: hard, grey, or by sub-pixels


@dataclass(frozen=True)
class Theme:
    """What the parts of one screen have in common.

    Attributes
    ----------
    text : PLAIN, SMOOTH or FRINGED
    fonts : of this screen; where there is none, Pillow's own
    """

    dark: bool
    paper: Colour
    ink: Colour
    accents: tuple[Colour, ...]
    text: str
    fonts: tuple[Path, ...]


class Canvas:
    """A picture that is drawn on by chance.

    Parameters
    ----------
    random : decides everything that is random
    theme : of the whole picture
    side : pixels of the picture
    """

    def __init__(self, random: Random, theme: Theme, side: int) -> None:
        self.random, self.theme = random, theme
        self.image = Image.new("RGB", (side, side), theme.paper)
        self.draw = ImageDraw.Draw(self.image)

    def gradient(self, box: Box, first: Colour, last: Colour) -> None:
        """Fill a box with colours between two, from one side to the other."""
        ramp = Image.linear_gradient("L")
        ramp = ramp.rotate(90) if self.random.random() < 0.5 else ramp
        size = max(1, box[2] - box[0]), max(1, box[3] - box[1])
        mixed = Image.composite(
            Image.new("RGB", size, last), Image.new("RGB", size, first), ramp.resize(size)
        )
        self.image.paste(mixed, box[:2])

    def text(
        self, place: tuple[int, int], text: str, size: int, ink: Colour, end: int | None = None
    ) -> int:
        """Write text, cut off at x = ``end``; return where it ends."""
        font = self._font(size)
        width = math.ceil(font.getlength(text)) + 2
        room = min(width, (self.image.width if end is None else end) - place[0])
        if room <= 0:
            return place[0] + width
        height = round(1.4 * size) + 1
        wide = 3 if self.theme.text == FRINGED else 1
        cover = Image.new("L", (width * wide, height))
        brush = ImageDraw.Draw(cover)
        brush.fontmode = "1" if self.theme.text == PLAIN else "L"
        if wide == 1:
            brush.text((0, 0), text, 255, font)
            self.image.paste(ink, place, cover.crop((0, 0, room, height)))
        else:
            self._fringed(place, text, size, ink, (room, height))
        return place[0] + width

    def _fringed(
        self, place: tuple[int, int], text: str, size: int, ink: Colour, room: tuple[int, int]
    ) -> None:
        """Write text of three times the width, a third of a pixel for each colour."""
        wide = Image.new("L", (room[0] * 3, room[1] * 3))
        ImageDraw.Draw(wide).text((0, 0), text, 255, self._font(3 * size))
        wide = wide.resize((room[0] * 3, room[1]), Image.Resampling.BOX)
        box = (*place, place[0] + room[0], place[1] + room[1])
        below = self.image.crop(box).split()
        drawn = []
        for channel, (under, value) in enumerate(zip(below, ink, strict=True)):
            cover = wide.transform(room, Image.Transform.AFFINE, (3, 0, channel - 1, 0, 1, 0))
            drawn.append(Image.composite(Image.new("L", room, value), under, cover))
        self.image.paste(Image.merge("RGB", drawn), box)

    def _font(self, size: int) -> ImageFont.FreeTypeFont:
        size = max(size, 6)
        if not self.theme.fonts:
            return ImageFont.load_default(size)  # type: ignore[return-value]
        return ImageFont.truetype(self.random.choice(self.theme.fonts), size)

    def words(self, count: int) -> str:
        """Return words that mean nothing, and numbers."""
        return " ".join(self._word() for _ in range(count))

    def _word(self) -> str:
        chance = self.random
        if chance.random() < 0.08:
            return str(chance.randrange(10 ** chance.randrange(1, 6)))
        letters = "".join(
            chance.choice(CONSONANTS) + chance.choice(VOWELS)
            for _ in range(chance.choice((1, 1, 2, 2, 3)))
        ) + chance.choice(("", "n", "s", "t", "r", ","))
        return letters.title() if chance.random() < 0.15 else letters
