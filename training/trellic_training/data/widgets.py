"""What fills the parts of drawn screens; each function fills a box of a canvas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from trellic_training.data.canvas import BLACK, WHITE, Box, Canvas, Colour

EDGE = (100, 100, 100)


def fill(canvas: Canvas, box: Box, photos: Sequence[Path]) -> None:
    """Fill a box with something, perhaps on a background of its own."""
    chance, theme = canvas.random, canvas.theme
    if chance.random() < 0.4:
        near = [min(255, max(0, value + chance.choice((-14, -6, 6, 14)))) for value in theme.paper]
        edge = chance.choice((None, (128,) * 3, theme.accents[3]))
        canvas.draw.rectangle(box, (near[0], near[1], near[2]), edge)
    draw = chance.choices(list(WIDGETS), list(WIDGETS.values()))[0]
    inside = box[0] + 6, box[1] + 6, box[2] - 6, box[3] - 6
    if draw is photo:
        photo(canvas, inside, photos)
    else:
        draw(canvas, inside)


def paragraph(canvas: Canvas, box: Box) -> None:
    """Write lines of one size and colour."""
    size = canvas.random.choice((9, 10, 11, 12, 13, 14, 16, 18, 24, 36))
    ink = canvas.random.choice((canvas.theme.ink,) * 4 + canvas.theme.accents)
    y = box[1]
    while y + size < box[3]:
        y = _line(canvas, box, y, size, ink)
        if canvas.random.random() < 0.1:
            y += size


def _line(canvas: Canvas, box: Box, y: int, size: int, ink: Colour) -> int:
    """Write a line that fits the box; return where the next one begins."""
    words = canvas.words(max(1, (box[2] - box[0]) // (4 * size)))
    canvas.text((box[0], y), words, size, ink, box[2])
    return y + round(size * 1.35)


def code(canvas: Canvas, box: Box) -> None:
    """Write short lines of words in several colours, indented."""
    chance = canvas.random
    size, y, indent = chance.choice((10, 11, 12, 14)), box[1], 0
    while y + size < box[3]:
        x = box[0] + 2 * size * indent
        for _ in range(chance.randrange(5)):
            word = canvas.words(1) + chance.choice((" ", "(", ");", " = ", ".", ": ", "{"))
            ink = chance.choice((canvas.theme.ink, *canvas.theme.accents))
            x = canvas.text((x, y), word, size, ink, box[2])
        indent = min(4, max(0, indent + chance.choice((-1, 0, 0, 1))))
        y += round(size * 1.4)


def table(canvas: Canvas, box: Box) -> None:
    """Write numbers in rows, every second row shaded."""
    chance, theme = canvas.random, canvas.theme
    rows, columns = chance.randrange(16, 34), chance.randrange(40, 110)
    line = chance.choice(((200,) * 3, (128,) * 3, theme.accents[0]))
    for number, y in enumerate(range(box[1], box[3] - rows, rows)):
        if number % 2 and chance.random() < 0.8:
            shade = 18 if theme.dark else -14
            row = tuple(min(255, max(0, value + shade)) for value in theme.paper)
            canvas.draw.rectangle((box[0], y, box[2], y + rows), row)
        for x in range(box[0], box[2] - columns, columns):
            value = f"{chance.uniform(0, 10 ** chance.randrange(5)):.2f}"
            canvas.text((x + 4, y + 3), value, rows // 2, theme.ink, x + columns)
        canvas.draw.line((box[0], y, box[2], y), line)


def buttons(canvas: Canvas, box: Box) -> None:
    """Draw rounded rectangles with a word each."""
    chance = canvas.random
    x, y, size = box[0], box[1], chance.choice((11, 13, 15))
    while y + 2 * size < box[3]:
        width = chance.randrange(50, 130)
        if x + width > box[2]:
            x, y = box[0], y + round(3 * size)
            if x + width > box[2] or y + 2 * size > box[3]:
                return
        place = (x, y, x + width, y + 2 * size)
        face = chance.choice((*canvas.theme.accents, canvas.theme.paper))
        canvas.draw.rounded_rectangle(place, chance.choice((0, 3, 8)), face, EDGE)
        ink = WHITE if sum(face) < 380 else BLACK
        canvas.text((x + 8, y + size // 3), canvas.words(1), size, ink, x + width)
        x += width + 10


def chart(canvas: Canvas, box: Box) -> None:
    """Draw axes with curves, or bars."""
    chance, theme, draw = canvas.random, canvas.theme, canvas.draw
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if min(width, height) < 40:
        return
    for step in range(5):
        y = top + height * step // 5
        draw.line((left, y, right, y), (180,) * 3)
        canvas.text((left, y), str(100 - 20 * step), 9, theme.ink)
    for number, colour in enumerate(theme.accents[: chance.randrange(1, 5)]):
        if number == 0 and chance.random() < 0.4:
            for x in range(left + 24, right - 12, 18):
                draw.rectangle((x, bottom - chance.randrange(height), x + 11, bottom), colour)
            continue
        phase, speed = chance.uniform(0, 6), chance.uniform(0.01, 0.08)
        points = [
            (x, top + height * (0.5 + 0.4 * math.sin(phase + speed * (x - left)) * rough))
            for x in range(left + 24, right, chance.choice((2, 5, 12)))
            for rough in (chance.uniform(0.8, 1),)
        ]
        draw.line(points, colour, chance.choice((1, 1, 2, 3)))
    draw.rectangle(box, None, theme.ink)


def icons(canvas: Canvas, box: Box) -> None:
    """Draw small figures in rows."""
    chance, draw = canvas.random, canvas.draw
    side = chance.choice((20, 32, 48))
    for y in range(box[1], box[3] - side, side + 14):
        for x in range(box[0], box[2] - side, side + 14):
            place = (x, y, x + side, y + side)
            face, line = chance.choices((*canvas.theme.accents, WHITE, BLACK), k=2)
            shape = chance.randrange(4)
            if shape == 0:
                draw.ellipse(place, face, line, chance.choice((1, 2)))
            elif shape == 1:
                circle = (x + side / 2, y + side / 2, side / 2)
                draw.regular_polygon(
                    circle, chance.randrange(3, 7), chance.randrange(90), face, line
                )
            elif shape == 2:
                canvas.gradient(place, face, line)
            else:
                draw.rounded_rectangle(place, side // 5, face, line)


def bubbles(canvas: Canvas, box: Box) -> None:
    """Draw messages, left and right."""
    chance, theme = canvas.random, canvas.theme
    y, size = box[1], chance.choice((11, 13, 15, 18))
    while y + 3 * size < box[3]:
        lines = chance.randrange(1, 4)
        height = round((1.35 * lines + 1) * size)
        width = round((box[2] - box[0]) * chance.uniform(0.4, 0.9))
        if y + height > box[3]:
            return
        x = chance.choice((box[0], box[2] - width))
        face = chance.choice((theme.accents[0], theme.accents[1], (230,) * 3))
        canvas.draw.rounded_rectangle((x, y, x + width, y + height), size, face)
        inside, at = (x + size, y, x + width - size // 2, y + height), y + size // 2
        for _ in range(lines):
            at = _line(canvas, inside, at, size, WHITE if sum(face) < 400 else BLACK)
        y += height + size


def photo(canvas: Canvas, box: Box, photos: Sequence[Path] = ()) -> None:
    """Paste part of a photo, made smaller."""
    size = box[2] - box[0], box[3] - box[1]
    if not photos or min(size) < 8:
        return
    chance = canvas.random
    with Image.open(chance.choice(photos)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((2 * size[0] + 64, 2 * size[1] + 64))
    wide, high = min(size[0], picture.width), min(size[1], picture.height)
    x, y = chance.randint(0, picture.width - wide), chance.randint(0, picture.height - high)
    canvas.image.paste(picture.crop((x, y, x + wide, y + high)), box[:2])


def dots(canvas: Canvas, box: Box) -> None:
    """Draw a pattern of single pixels, as old screens shade with."""
    chance = canvas.random
    tile = Image.new("1", (chance.choice((2, 4, 8)),) * 2)
    tile.putdata([chance.random() < 0.4 for _ in range(tile.width * tile.height)])
    pattern = Image.new("1", (max(1, box[2] - box[0]), max(1, box[3] - box[1])))
    for y in range(0, pattern.height, tile.height):
        for x in range(0, pattern.width, tile.width):
            pattern.paste(tile, (x, y))
    canvas.image.paste(chance.choice(canvas.theme.accents), box[:2], pattern)


def nothing(canvas: Canvas, box: Box) -> None:
    """Leave the box as it is."""


# How often each is drawn.
WIDGETS: dict[Callable[..., None], int] = {
    paragraph: 6,
    code: 3,
    table: 2,
    buttons: 2,
    chart: 2,
    icons: 2,
    bubbles: 2,
    photo: 2,
    dots: 1,
    nothing: 2,
}
