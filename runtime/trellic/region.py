"""Regions of a picture, as users name them: x, y, width, height."""

from __future__ import annotations

import operator

import numpy as np

from .bitstream import Chunks, Rectangle
from .errors import BadParameter

Region = tuple[int, int, int, int]


def to_rectangle(region: Region | None, width: int, height: int) -> Rectangle:
    """Return a region as a rectangle of pixels.

    Parameters
    ----------
    region : x, y, width and height in pixels from the picture's upper left corner; None is all
    width, height : of the picture, in pixels

    Raises
    ------
    BadParameter
        When it is empty, or does not lie inside the picture.
    """
    if region is None:
        return Rectangle(0, height, 0, width)
    try:
        x, y, wide, high = (operator.index(number) for number in region)
    except (TypeError, ValueError):
        raise BadParameter(
            f"region {region!r}", expected="four whole numbers: x, y, width, height"
        ) from None
    if min(x, y) < 0 or min(wide, high) < 1 or x + wide > width or y + high > height:
        raise BadParameter(
            f"region {x},{y},{wide},{high} of a picture of {width}x{height} pixels",
            expected=f"x + width at most {width}, y + height at most {height}, at least one pixel",
        )
    return Rectangle(y, y + high, x, x + wide)


def crop(chunks: Chunks, part: Rectangle) -> Chunks:
    """Return the chunks of a region: its part of alpha, and all metadata."""
    if chunks.alpha is None or chunks.alpha.shape == part.shape:
        return chunks
    alpha = np.ascontiguousarray(chunks.alpha[part.index()])
    return Chunks(alpha, chunks.icc, chunks.exif, chunks.xmp)
