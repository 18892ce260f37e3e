"""Regions of a picture, as users name them: x, y, width, height."""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Chunks
from trellic.errors import BadParameter
from trellic.geometry import Rectangle

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


def crop(chunks: Chunks, part: Rectangle, scale: int = 1) -> Chunks:
    """Return the chunks of a region: its part of alpha, and all metadata.

    Parameters
    ----------
    part : in pixels of the full size
    scale : alpha is made smaller by this factor, rounded outwards
    """
    if chunks.alpha is None or (chunks.alpha.shape == part.shape and scale == 1):
        return chunks
    height, width = chunks.alpha.shape
    blocks = part.coarser(scale)
    wide = blocks.finer(scale).within(Rectangle(0, height, 0, width))
    alpha = shrunk(np.ascontiguousarray(chunks.alpha[wide.index()]), scale)
    return Chunks(alpha, chunks.icc, chunks.exif, chunks.xmp)


def shrunk(plane: npt.NDArray[np.uint8], scale: int) -> npt.NDArray[np.uint8]:
    """Mean of each block of ``scale`` x ``scale``, or of a part of it at the edges."""
    if scale == 1:
        return plane
    starts = [np.arange(0, side, scale) for side in plane.shape]
    rows = np.add.reduceat(plane, starts[0], 0, np.uint32)
    total = np.add.reduceat(rows, starts[1], 1)
    high, wide = (
        np.diff(start, append=side).astype(np.uint32)
        for start, side in zip(starts, plane.shape, strict=True)
    )
    count = high[:, None] * wide
    mean: npt.NDArray[np.uint8] = ((2 * total + count) // (2 * count)).astype(np.uint8)
    return mean
