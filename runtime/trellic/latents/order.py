"""The order of segments in a file: z, then step 0 of every slice, then step 1, and so on."""

from __future__ import annotations

from collections.abc import Sequence

from trellic.errors import CorruptStream
from trellic.geometry import Plane, Rectangle, slice_grid


def grid_of(plane: Plane, side: int | None = None) -> list[Rectangle]:
    """Return the slices of a plane of latents; ``side``, in latents, is chosen if left out."""
    return slice_grid(*plane.latents, side or plane.slice_side)


def in_file_order(slices: Sequence[Sequence[bytes]], steps: int) -> list[bytes]:
    """Order the segments of each slice as the file does.

    Parameters
    ----------
    slices : for each slice the segments of its steps; the first slice's begin with that of z
    steps : how many context steps there are
    """
    hyper, *first = slices[0]
    rows = [first, *slices[1:]]
    return [hyper] + [row[k] for k in range(steps) for row in rows]


def numbers_of(slice_: int, steps: int, slices: int) -> list[int]:
    """Return the numbers in the file of a slice's segments, step by step; z has number 0."""
    return [1 + step * slices + slice_ for step in range(steps)]


def check_count(segments: int, steps: int, slices: int) -> None:
    """Check the number of segments.

    Raises
    ------
    CorruptStream
        When there is not one for z, and one for each step of each slice.
    """
    expected = 1 + steps * slices
    if segments != expected:
        raise CorruptStream(
            f"the stream has {segments} segments", expected=f"{expected} for its size and model"
        )
