"""Intervals that layers narrow, and the law of latents within them, in integers.

A layer names the cell that a latent lies in; the next one divides that cell, and a symbol has the
probability that the model's law gives to its part of it. The law around a predicted mean is nine
tenths of a normal law of the predicted deviation and one tenth of one twice as wide, which
frequency tables are fitted from, too. (Specification: ``docs/format.md``, section 8.4. Li, "Learned
progressive image compression with dead-zone quantizers", 2023.)

Edges, means and values are in 1/32 step of a layer.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import PRECISION, RATE_UNIT, TOTAL
from trellic.latents.refine import variances
from trellic.limits import MEAN_LIMIT, SIGMA_FIRST, SIGMA_LAST, STEP32, VARIANCE_LIMIT

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint16 = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.signedinteger[Any]]

ZONE32: Final = 23  # half of the dead zone around a mean
SNAP32: Final = 13  # an edge of the zone's grid that is nearer to the interval's end is left out
SKIPPED32: Final = 39  # half of the interval of a latent that the lowest layer does not code
MOST_EDGES: Final = 8  # of that grid, on each side of the mean
MOST_PARTS: Final = 2 * MOST_EDGES + 1

LAW_BITS: Final = 24  # of the tables of the law
NODE_BITS: Final = 6  # nodes in a deviation, and as many places between two nodes
FAR: Final = 16  # deviations beyond which the law is not tabulated
INVERSE_BITS: Final = 28  # of the reciprocal of a deviation
SIGMA_BITS: Final = 8  # of a deviation, beyond 1/32 step
# For encoders alone: the price of an error in 1/1024 square step, and of 1/64 bit
ERROR_COST: Final = 4
RATE_COST: Final = 5
MIXTURE: Final = ((0.9, 1.0), (0.1, 2.0))  # weight and width of each normal law


class Law(NamedTuple):
    """The model's law as integers.

    Attributes
    ----------
    mass : int64, probability up to each node, of 2**24
    moment : int64, first moment up to each node, in deviations, of 2**24
    sigma : int64 (scales,), deviation of each scale index, in 1/8192 step
    inverse : int64 (scales,), its reciprocal, as 2**28 / deviation in 1/32 step
    """

    mass: Int64
    moment: Int64
    sigma: Int64
    inverse: Int64


class Known(NamedTuple):
    """What is known of latents: int64 ends of their intervals, and their values within them."""

    low: Int64
    high: Int64
    v32: Int64

    def window(self, first: int, last: int) -> Known:
        """Return some of the channels."""
        return Known(*(of[first:last] for of in self))


@cache
def law(scales: int) -> Law:
    """Return the law for a number of scale indices."""
    nodes = np.arange(-FAR << NODE_BITS, (FAR << NODE_BITS) + 1)
    mass, moment = [], []
    for node in np.abs(nodes).tolist():
        x, tail, first = node / 2**NODE_BITS, 0.0, 0.0
        for weight, width in MIXTURE:
            tail += weight * math.erfc(x / width / math.sqrt(2)) / 2
            first -= weight * width * math.exp(-((x / width) ** 2) / 2) / math.sqrt(2 * math.pi)
        mass.append(math.floor(2**LAW_BITS * tail + 0.5))
        moment.append(math.floor(2**LAW_BITS * first + 0.5))
    tails = np.array(mass, np.int64)
    sigma = SIGMA_FIRST * (SIGMA_LAST / SIGMA_FIRST) ** (np.arange(scales) / max(scales - 1, 1))
    found = Law(
        np.where(nodes > 0, 2**LAW_BITS - tails, tails),
        np.array(moment, np.int64),
        np.rint(sigma * STEP32 * 2**SIGMA_BITS).astype(np.int64),
        np.rint(2**INVERSE_BITS / (sigma * STEP32)).astype(np.int64),
    )
    for table in found:
        table.flags.writeable = False
    return found


@cache
def rates() -> Int64:
    """Bits that symbols of each frequency cost, in 1/64 bit; of frequency 0, more than any."""
    bits = [2 * PRECISION, *(PRECISION - math.log2(f) for f in range(1, TOTAL + 1))]
    found: Int64 = np.rint(np.array(bits) * RATE_UNIT).astype(np.int64)
    found.flags.writeable = False
    return found


def zone(k: Int32, mean32: Integers) -> tuple[Int64, Int64]:
    """Return the ends of the cells that the lowest layer's indices name."""
    k, mean = k.astype(np.int64), mean32.astype(np.int64)
    near = (np.abs(k) - 1) * STEP32 + ZONE32
    low, high = np.where(k == 0, -ZONE32, near), np.where(k == 0, ZONE32, near + STEP32)
    return mean + np.where(k < 0, -high, low), mean + np.where(k < 0, -low, high)


def skipped(mean32: Integers) -> tuple[Int64, Int64]:
    """Return the ends of the intervals of latents that the lowest layer does not code."""
    mean = mean32.astype(np.int64)
    return mean - SKIPPED32, mean + SKIPPED32


def zone_index(t32: Int32) -> Int32:
    """Return the index of the cell of the lowest layer that a latent less its mean lies in."""
    steps = (np.abs(t32) - ZONE32 + STEP32 - 1) // STEP32
    k: Int32 = (np.sign(t32) * np.maximum(steps, 0)).astype(np.int32)
    return k


def carried(known: Known, before: Int64, after: Int64) -> Known:
    """Convert to another layer's steps.

    Parameters
    ----------
    known : (channels, rows, columns)
    before, after : int64 (channels,), gains of the two layers
    """
    gains = before[:, None, None], after[:, None, None]
    low, high, v32 = (
        np.clip((of * gains[1] + (gains[0] >> 1)) // gains[0], -MEAN_LIMIT, MEAN_LIMIT)
        for of in known
    )
    return Known(low, np.maximum(high, low + 1), v32)


class Division:
    """Intervals divided into parts, with the law's frequencies of the parts.

    Where the mean lies inside of an interval, its parts are those of a grid with a dead zone around
    the mean. Other intervals are divided evenly.

    Parameters
    ----------
    low, high, mean32 : int64 (n,)
    index : int64 (n,), scale indices
    scales : how many there are

    Attributes
    ----------
    parts : int64 (n,), number of parts, 1 to 17
    """

    def __init__(self, low: Int64, high: Int64, mean32: Int64, index: Int64, scales: int) -> None:
        self.low, self.high, self.mean32, self.index = low, high, mean32, index
        self._law, self._width = law(scales), high - low
        self._inside = (low < mean32) & (mean32 < high)
        left = (mean32 - low - ZONE32 - SNAP32) // STEP32 + 1
        right = (high - mean32 - ZONE32 - SNAP32) // STEP32 + 1
        self._left = np.clip(left, 0, MOST_EDGES)
        grid = self._left + np.clip(right, 0, MOST_EDGES) + 1
        even = np.clip((self._width + SNAP32) // STEP32, 1, MOST_PARTS)
        self.parts = np.where(self._inside, grid, even)

    def part(self, j: Int64) -> Division:
        """Return part j of each interval; where there is none, what follows the high end."""
        low, high = self.edge(j), self.edge(j + 1)
        narrower = low, np.maximum(high, low + 1)
        return Division(*narrower, self.mean32, self.index, len(self._law.sigma))

    def edge(self, j: Int64) -> Int64:
        """Return edge j of each interval: its low end is edge 0, edge `parts` its high end."""
        grid = self.mean32 + np.where(
            j <= self._left,
            (j - self._left) * STEP32 - ZONE32,
            (j - self._left - 1) * STEP32 + ZONE32,
        )
        even = self.low + j * self._width // self.parts
        inner = np.where(self._inside, grid, even)
        edge: Int64 = np.where(j <= 0, self.low, np.where(j >= self.parts, self.high, inner))
        return edge

    def find(self, y32: Int64) -> Int32:
        """Return the part that each latent lies in, the nearest for one outside."""
        found = np.zeros(len(self.low), np.int32)
        for j in range(1, int(self.parts.max(initial=1))):
            found += (j < self.parts) & (y32 >= self.edge(np.full(len(self.low), j)))
        return found

    def cheapest(self, y32: Int64) -> Int32:
        """Return the part of least cost for each latent, at 5/64 square step a bit."""
        cumulative = self.cumulative().astype(np.int64)
        found = np.zeros(len(self.low), np.int32)
        least = np.full(len(self.low), np.iinfo(np.int64).max)
        for j in range(int(self.parts.max(initial=1))):
            off = y32 - self.part(np.full(len(self.low), j)).centroid()
            rate = rates()[cumulative[:, j + 1] - cumulative[:, j]]
            cost = ERROR_COST * off * off + RATE_COST * rate
            better = (j < self.parts) & (cost < least)
            found[better], least[better] = j, cost[better]
        return found

    def cumulative(self) -> Uint16:
        """Return the sums of frequencies before each part, of 2**15: uint16 (n, most + 1).

        Columns from `parts` on hold 2**15.
        """
        most = int(self.parts.max(initial=1))
        edges = [self.edge(np.full(len(self.low), j)) for j in range(most + 1)]
        masses = [self._mass(edge) + edge for edge in edges]
        total, left = masses[-1] - masses[0], (1 << PRECISION) - self.parts
        columns = [
            (mass - masses[0]) * left // total + np.minimum(j, self.parts)
            for j, mass in enumerate(masses)
        ]
        return np.stack(columns, axis=1).astype(np.uint16)

    def centroid(self) -> Int64:
        """Return the mean of the law within each interval."""
        a, b = self._places(self.low), self._places(self.high)
        mass = between(self._law.mass, b) - between(self._law.mass, a) + self._width
        moment = between(self._law.moment, b) - between(self._law.moment, a)
        moment = 2 * (self._law.sigma[self.index] * moment >> SIGMA_BITS)
        moment += self._width * (self.low + self.high - 2 * self.mean32)
        found: Int64 = self.mean32 + (moment + mass) // (2 * mass)
        return np.clip(found, self.low, self.high)

    def spread(self) -> Int64:
        """Return what is unknown, as a scale index: how wide law and interval are together."""
        centres, borders = variances(len(self._law.sigma))
        flat = np.minimum(self._width * self._width // 12, VARIANCE_LIMIT)
        of_law = centres[self.index]
        left: Int64 = of_law * flat // (of_law + flat)
        return np.searchsorted(borders, left, side="right")

    def _mass(self, edge: Int64) -> Int64:
        return between(self._law.mass, self._places(edge))

    def _places(self, edge: Int64) -> Int64:
        """Return how far edges are from the means, in 1/4096 deviation."""
        shift = INVERSE_BITS - 2 * NODE_BITS
        far = (edge - self.mean32) * self._law.inverse[self.index]
        limit = FAR << 2 * NODE_BITS
        places: Int64 = (far + (1 << shift - 1)) >> shift
        return np.clip(places, -limit, limit - 1)


def between(table: Int64, place: Int64) -> Int64:
    """Return values of a table of the law at places, in 1/4096 deviation, on lines between."""
    node, rest = (place >> NODE_BITS) + (FAR << NODE_BITS), place & (1 << NODE_BITS) - 1
    value: Int64 = table[node] + ((table[node + 1] - table[node]) * rest >> NODE_BITS)
    return value
