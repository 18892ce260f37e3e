"""Intervals that layers narrow, in integers.

A layer names the cell that a latent lies in; the next one divides that cell, and a symbol has the
probability that the model's law gives to its part of it (`trellic.latents.law`). (Specification:
``docs/format.md``, section 8.4. Li, "Learned progressive image compression with dead-zone
quantizers", 2023.)

Edges, means and values are in 1/32 step of a layer.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.latents import division_cpu as kernels
from trellic.latents.law import law, rates
from trellic.latents.refine import rescaled
from trellic.limits import INTERVAL_SKIPPED32, INTERVAL_ZONE32, MAX_INDEX, STEP32

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint16 = npt.NDArray[np.uint16]
Integers = npt.NDArray[np.signedinteger[Any]]


def zone(k: Int32, mean32: Integers) -> tuple[Int64, Int64]:
    """Return the ends of the cells that the lowest layer's indices name."""
    k, mean = k.astype(np.int64), mean32.astype(np.int64)
    near = (np.abs(k) - 1) * STEP32 + INTERVAL_ZONE32
    low, high = (
        np.where(k == 0, -INTERVAL_ZONE32, near),
        np.where(k == 0, INTERVAL_ZONE32, near + STEP32),
    )
    return mean + np.where(k < 0, -high, low), mean + np.where(k < 0, -low, high)


def skipped(mean32: Integers) -> tuple[Int64, Int64]:
    """Return the ends of the intervals of latents that the lowest layer does not code."""
    mean = mean32.astype(np.int64)
    return mean - INTERVAL_SKIPPED32, mean + INTERVAL_SKIPPED32


def zone_index(t32: Int32) -> Int32:
    """Return the index of the cell of the lowest layer that a latent less its mean lies in.

    That of the last cell with an index, for a latent beyond it.
    """
    steps = (np.abs(t32) - INTERVAL_ZONE32 + STEP32 - 1) // STEP32
    k: Int32 = (np.sign(t32) * np.clip(steps, 0, MAX_INDEX)).astype(np.int32)
    return k


def carried(low: Int64, high: Int64, before: Int64, after: Int64) -> tuple[Int64, Int64]:
    """Convert intervals to another layer's steps.

    Parameters
    ----------
    low, high : (channels, rows, columns), ends
    before, after : int64 (channels,), gains of the two layers
    """
    first, last = (rescaled(ends, before, after) for ends in (low, high))
    return first, np.maximum(last, first + 1)


class Division:
    """Intervals divided into parts, with the law's frequencies of the parts.

    Where the mean lies inside of an interval, its parts are those of a grid with a dead zone around
    the mean. Other intervals are divided evenly.

    Parameters
    ----------
    low, high, mean32 : int64 (n,)
    index : int64 (n,), scale indices
    scales : how many there are
    """

    def __init__(self, low: Int64, high: Int64, mean32: Int64, index: Int64, scales: int) -> None:
        self.low, self.high, self.mean32, self.index = low, high, mean32, index
        self._law = law(scales)

    @cached_property
    def parts(self) -> Int64:
        """Number of parts of each, 1 to 17."""
        found = np.empty_like(self.low)
        kernels.count(self.low, self.high, self.mean32, found)
        return found

    def find(self, y32: Int64) -> Int32:
        """Return the part that each latent lies in, the nearest for one outside."""
        found = np.empty(len(self.low), np.int32)
        kernels.find(self.low, self.high, self.mean32, y32, found)
        return found

    def cheapest(self, y32: Int64) -> Int32:
        """Return the part of least cost for each latent, at 5/64 square step a bit."""
        found = np.empty(len(self.low), np.int32)
        costs = self.cumulative(), rates()
        kernels.cheapest(*self._columns(), self._law, *costs, y32, found)
        return found

    def cumulative(self) -> Uint16:
        """Return the sums of frequencies before each part, of 2**15: uint16 (n, most + 1).

        Columns from `parts` on hold 2**15.
        """
        columns = np.empty((len(self.low), 1 + int(self.parts.max(initial=1))), np.uint16)
        kernels.frequencies(*self._columns(), self._law, columns)
        return columns

    def values(self) -> Int64:
        """Return the mean of the law within each interval."""
        found = np.empty_like(self.low)
        kernels.values(*self._columns(), self._law, found)
        return found

    def spreads(self) -> Int64:
        """Return what is unknown, as scale indices: how wide law and interval are together."""
        found = np.empty_like(self.low)
        kernels.spreads(self.low, self.high, self.index, self._law, found)
        return found

    def part(self, k: Int32) -> tuple[Int64, Int64]:
        """Return the ends of part k of each interval."""
        low, high = np.empty_like(self.low), np.empty_like(self.low)
        kernels.narrow(self.low, self.high, self.mean32, k, low, high)
        return low, high

    def _columns(self) -> tuple[Int64, Int64, Int64, Int64]:
        return self.low, self.high, self.mean32, self.index
