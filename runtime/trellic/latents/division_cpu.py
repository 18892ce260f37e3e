"""Kernels of intervals that are divided; the formulas are those of ``docs/format.md``, section 8.4.

All numbers are int64, `low`, `high`, `mean` and edges in 1/32 step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import PRECISION
from trellic.latents.law import FAR, INVERSE_BITS, NODE_BITS, SIGMA_BITS, Law
from trellic.limits import (
    INTERVAL_MOST_EDGES,
    INTERVAL_SNAP32,
    INTERVAL_ZONE32,
    STEP32,
    VARIANCE_LIMIT,
)
from trellic.support.numba import njit

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Uint16 = npt.NDArray[np.uint16]

SHIFT = INVERSE_BITS - 2 * NODE_BITS
LIMIT = FAR << 2 * NODE_BITS
REST = (1 << NODE_BITS) - 1
MOST_PARTS = 2 * INTERVAL_MOST_EDGES + 1
EVEN = -1  # in place of the number of edges below the mean
REACH = INTERVAL_ZONE32 + INTERVAL_SNAP32  # of the first edge beyond the mean
ERROR_COST, RATE_COST = 4, 5  # of 1/1024 square step, and of 1/64 bit; for encoders alone


@njit
def _edges_within(room: int) -> int:
    return min(max((room - REACH) // STEP32 + 1, 0), INTERVAL_MOST_EDGES)


@njit
def _shape(low: int, high: int, mean: int) -> tuple[int, int]:
    """Return the number of edges below the mean, or `EVEN`, and the number of parts."""
    if low < mean < high:
        left = _edges_within(mean - low)
        return left, left + _edges_within(high - mean) + 1
    return EVEN, min(max((high - low + INTERVAL_SNAP32) // STEP32, 1), MOST_PARTS)


@njit
def _edge(j: int, left: int, parts: int, low: int, high: int, mean: int) -> int:
    """Return an edge: 0 is the low end, `parts` the high one."""
    if j <= 0:
        return low
    if j >= parts:
        return high
    if left == EVEN:
        return low + j * (high - low) // parts
    if j <= left:
        return mean + (j - left) * STEP32 - INTERVAL_ZONE32
    return mean + (j - left - 1) * STEP32 + INTERVAL_ZONE32


@njit
def _at(table: Int64, edge: int, mean: int, inverse: int) -> int:
    """Return a table of the law up to an edge, on lines between its nodes."""
    place = ((edge - mean) * inverse + (1 << (SHIFT - 1))) >> SHIFT
    place = min(max(place, -LIMIT), LIMIT - 1)
    node = (place >> NODE_BITS) + (FAR << NODE_BITS)
    low, high = int(table[node]), int(table[node + 1])
    return low + (((high - low) * (place & REST)) >> NODE_BITS)


@njit
def _value(low: int, high: int, mean: int, index: int, law: Law) -> int:
    """Return the mean of the law in an interval, mixed with a flat one."""
    width, inverse, sigma = high - low, int(law.inverse[index]), int(law.sigma[index])
    whole = _at(law.mass, high, mean, inverse) - _at(law.mass, low, mean, inverse) + width
    first = _at(law.moment, high, mean, inverse) - _at(law.moment, low, mean, inverse)
    first = 2 * ((sigma * first) >> SIGMA_BITS) + width * (low + high - 2 * mean)
    return min(max(mean + (first + whole) // (2 * whole), low), high)


@njit
def count(low: Int64, high: Int64, mean: Int64, parts: Int64) -> None:
    """Fill in the number of parts of each interval."""
    for i in range(len(low)):
        parts[i] = _shape(low[i], high[i], mean[i])[1]


@njit
def values(low: Int64, high: Int64, mean: Int64, index: Int64, law: Law, out: Int64) -> None:
    """Fill in the value of each interval."""
    for i in range(len(low)):
        out[i] = _value(low[i], high[i], mean[i], index[i], law)


@njit
def spreads(low: Int64, high: Int64, index: Int64, law: Law, out: Int64) -> None:
    """Fill in what is unknown of each latent, as a scale index."""
    for i in range(len(low)):
        width = high[i] - low[i]
        flat, of_law = min(width * width // 12, VARIANCE_LIMIT), law.centres[index[i]]
        out[i] = np.searchsorted(law.borders, of_law * flat // (of_law + flat), side="right")


@njit
def frequencies(low: Int64, high: Int64, mean: Int64, index: Int64, law: Law, out: Uint16) -> None:
    """Fill in the frequencies before each part: (n, most parts + 1)."""
    for i in range(len(low)):
        left, parts = _shape(low[i], high[i], mean[i])
        inverse = law.inverse[index[i]]
        before = _at(law.mass, low[i], mean[i], inverse) + low[i]
        total = _at(law.mass, high[i], mean[i], inverse) + high[i] - before
        for j in range(out.shape[1]):
            edge = _edge(j, left, parts, low[i], high[i], mean[i])
            share = _at(law.mass, edge, mean[i], inverse) + edge - before
            out[i, j] = share * ((1 << PRECISION) - parts) // total + min(j, parts)


@njit
def find(low: Int64, high: Int64, mean: Int64, y32: Int64, out: Int32) -> None:
    """Fill in the part that each latent lies in, the nearest for one outside."""
    for i in range(len(low)):
        left, parts = _shape(low[i], high[i], mean[i])
        j = 0
        while j + 1 < parts and y32[i] >= _edge(j + 1, left, parts, low[i], high[i], mean[i]):
            j += 1
        out[i] = j


@njit
def cheapest(
    low: Int64,
    high: Int64,
    mean: Int64,
    index: Int64,
    law: Law,
    cumulative: Uint16,
    rates: Int64,
    y32: Int64,
    out: Int32,
) -> None:
    """Fill in the part of least cost of each latent, the first of several."""
    for i in range(len(low)):
        left, parts = _shape(low[i], high[i], mean[i])
        least = -1
        for j in range(parts):
            a = _edge(j, left, parts, low[i], high[i], mean[i])
            b = _edge(j + 1, left, parts, low[i], high[i], mean[i])
            off = y32[i] - _value(a, b, mean[i], index[i], law)
            rate = rates[np.int64(cumulative[i, j + 1]) - np.int64(cumulative[i, j])]
            cost = ERROR_COST * off * off + RATE_COST * rate
            if least < 0 or cost < least:
                least, out[i] = cost, j


@njit
def narrow(low: Int64, high: Int64, mean: Int64, k: Int32, below: Int64, above: Int64) -> None:
    """Fill in the ends of a part of each interval."""
    for i in range(len(low)):
        left, parts = _shape(low[i], high[i], mean[i])
        below[i] = _edge(k[i], left, parts, low[i], high[i], mean[i])
        above[i] = _edge(k[i] + 1, left, parts, low[i], high[i], mean[i])
