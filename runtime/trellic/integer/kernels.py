"""Layers of `compiled` networks on planes of words; every function writes its last argument.

``x`` and ``out`` : uint32 (channels / 4, room), four channels a word, positions side by side; a
plane has room for a tile of `vectors` at least. ``weight``, ``bias``, ``shift``, ``low``, ``high``:
as in `vectors`, for all results; ``added`` and ``fill`` make bytes of what may be negative.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.integer import vectors
from trellic.support.numba import njit

OFFSET = 128  # added to values that may be negative
TILE, WORD, STEP = vectors.TILE, vectors.WORD, vectors.STEP
Words = npt.NDArray[np.uint32]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
dot_words, dot_floats, dot_apart = vectors.dot_words, vectors.dot_floats, vectors.dot_apart


@njit
def turn(x: Float32, out: Words) -> None:
    """Join channels to words."""
    channels, count = x.shape
    for q in range(len(out)):
        present = min(WORD, channels - WORD * q)
        for i in range(count):
            out[q, i] = np.uint32(np.int32(x[WORD * q, i]) + OFFSET)
        for c in range(1, present):
            for i in range(count):
                byte = np.uint32(np.int32(x[WORD * q + c, i]) + OFFSET)
                out[q, i] |= byte << np.uint32(8 * c)


@njit
def shuffle(x: Words, height: int, width: int, out: Words) -> None:
    """Make of the four channels of a word four positions of one channel."""
    out[:] = 0
    for q in range(len(x)):
        place = np.uint32(8 * (q % WORD))
        for y in range(height):
            for dy in range(2):
                row = out[q // WORD, (2 * y + dy) * 2 * width : (2 * y + dy + 1) * 2 * width]
                for column in range(width):
                    word = x[q, y * width + column] >> np.uint32(16 * dy)
                    row[2 * column] |= (word & np.uint32(255)) << place
                    row[2 * column + 1] |= (word >> np.uint32(8) & np.uint32(255)) << place


@njit
def pointwise(
    x: Words,
    count: int,
    weight: Any,
    bias: Int32,
    shift: Int32,
    low: int,
    high: int,
    added: int,
    out: Words,
) -> None:
    """Compute each position from its own channels."""
    offsets = np.arange(len(x)) * (4 * x.shape[1])
    for start in range(0, count, TILE):
        first = min(start, max(count - TILE, 0))  # the last tile overlaps the one before it
        place = x.ctypes.data + 4 * first
        for q in range(len(out)):
            dot_words(
                place,
                offsets.ctypes.data,
                weight.ctypes.data + q * len(offsets) * STEP,
                len(offsets),
                bias.ctypes.data + 16 * q,
                shift.ctypes.data + 16 * q,
                low,
                high,
                added,
                out.ctypes.data + 4 * (q * out.shape[1] + first),
            )


@njit
def pointwise_end(
    x: Words,
    count: int,
    weight: Any,
    bias: Int32,
    shift: Int32,
    low: int,
    high: int,
    out: Float32,
) -> None:
    """Like `pointwise`, to float32 (results, positions)."""
    offsets = np.arange(len(x)) * (4 * x.shape[1])
    steps = len(x)
    for start in range(0, count, TILE):
        first = min(start, max(count - TILE, 0))
        for q in range(len(weight)):
            dot_floats(
                x.ctypes.data + 4 * first,
                offsets.ctypes.data,
                weight.ctypes.data + q * steps * STEP,
                steps,
                bias.ctypes.data + 16 * q,
                shift.ctypes.data + 16 * q,
                low,
                high,
                out.ctypes.data + 4 * (WORD * q * out.shape[1] + first),
                4 * out.shape[1],
            )


@njit
def depthwise(
    x: Words,
    height: int,
    width: int,
    side: int,
    fill: Any,
    weight: Any,
    bias: Int32,
    shift: Int32,
    low: int,
    high: int,
    added: int,
    out: Words,
) -> None:
    """Compute plane by plane, on a copy with zeros around; sums between its rows are not used.

    Rows are copied in loops: for an assignment of slices numba compiles its message, two seconds.
    """
    half, wide = side // 2, width + side - 1
    taps = side * side
    offsets = np.empty(taps, np.int64)
    for tap in range(taps):
        offsets[tap] = 4 * (tap // side * wide + tap % side)
    around = np.full((height + side - 1) * wide + TILE, fill, np.uint32)
    count = (height - 1) * wide + width
    results = np.empty(count + TILE, np.uint32)
    for q in range(len(out)):
        for y in range(height):
            start = (y + half) * wide + half
            for i in range(width):
                around[start + i] = x[q, y * width + i]
        for start in range(0, count, TILE):
            first = min(start, max(count - TILE, 0))
            dot_apart(
                around.ctypes.data + 4 * first,
                offsets.ctypes.data,
                weight.ctypes.data + q * taps * STEP,
                taps,
                bias.ctypes.data + 16 * q,
                shift.ctypes.data + 16 * q,
                low,
                high,
                added,
                results.ctypes.data + 4 * first,
            )
        for y in range(height):
            for i in range(width):
                out[q, y * width + i] = results[y * wide + i]
