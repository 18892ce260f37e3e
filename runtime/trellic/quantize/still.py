"""A lattice that stands still, in plain numpy: levels do not move with the means.

Specification: ``docs/format.md``, section 8.3. The levels of latents are the whole steps, wherever
their means lie::

    mean32 -> offset, -16 .. 15: from the nearest level to the mean -> bucket -> frequency table

    v32 = mean32 + 32 k - offset, a multiple of 32

A picture that is encoded again has nearly the latents that it was decoded from, but some of its
hyper-latents differ, and then so do its means. On this lattice each latent still finds its level.
The frequency tables are those of dithered streams, since noise moves levels in the same
way: an offset counts as noise of twice as many 1/64 steps.

`trellic.quantize.still_cpu` has the compiled twins.
"""

from math import isqrt
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from trellic.limits import MAX_INDEX, STEP32
from trellic.quantize.dither import FIRST_CLASS, Int8s
from trellic.quantize.reference import DISTORTION_WEIGHT
from trellic.quantize.search_tables import Int32s, Uint8s, clamp_limit, escape_rate

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

HALF32: Final = STEP32 // 2


class Rates(NamedTuple):
    """Cost of each index in the tables of a dithered stream.

    Attributes
    ----------
    rate : int32, flat
        In 1/64 bit; that of index k lies at ``zero + k``, that of an escape at ``zero + K + 1``.
    zero, half_width : int32, shape (19, S)
    """

    rate: Int32s
    zero: Int32s
    half_width: Int32s


def rates_of(tables: "Tables") -> Rates:
    """Arrange the tables of a bundle for `search`.

    Raises
    ------
    BadBundle
        When it has none for dither.
    """
    book = tables.dithered
    width = book.half_width.astype(np.int32)
    return Rates(book.rates(), book.start.reshape(width.shape).astype(np.int32) + width, width)


def offsets(mean32: Int32s) -> Int8s:
    """Return how far means lie above their nearest level, in 1/32 step: -16 to 15.

    Examples
    --------
    >>> offsets(np.array([5, 70, -17, 16])).tolist()
    [5, 6, 15, -16]
    """
    return (((mean32 + HALF32) & (STEP32 - 1)) - HALF32).astype(np.int8)


def classes(offset: Int8s) -> Uint8s:
    """Return the class, 3 to 18, whose frequency tables belong to each offset."""
    return (FIRST_CLASS + ((offset.astype(np.int32) + HALF32) >> 1)).astype(np.uint8)


def search(t32: Int32s, scale_index: Uint8s, offset: Int8s, tables: "Tables", lam: int) -> Int32s:
    """Choose the indices that minimise ``16 * error^2 + lam * rate``, each by itself.

    Ties go to the smaller magnitude, then to the positive index.

    Parameters
    ----------
    t32 : int32, shape (n,)
        Latents less their means, in 1/32 step; clamped to +-32767 steps.
    scale_index : uint8, shape (n,)
    offset : int8, shape (n,)
        As of `offsets`.
    lam : int
        Cost weight, as of `trellic.quantize.reference.search`.

    Returns
    -------
    int32, shape (n,)
    """
    rates, limit = rates_of(tables), clamp_limit(0, 1)
    rows = zip(t32.tolist(), scale_index.tolist(), offset.tolist(), strict=True)
    found = [_best(min(max(t, -limit), limit), i, shift, rates, lam) for t, i, shift in rows]
    return np.array(found, np.int32)


def _best(t: int, index: int, offset: int, rates: Rates, lam: int) -> int:
    """Return the cheapest index of a latent.

    Rates are never negative, so no index wins whose distortion alone exceeds the whole cost of
    another one.
    """
    cls = FIRST_CLASS + ((offset + HALF32) >> 1)
    width, zero = int(rates.half_width[cls, index]), int(rates.zero[cls, index])

    def cost(k: int) -> int:
        error = t - (STEP32 * k - offset)
        if abs(k) <= width:
            rate = int(rates.rate[zero + k])
        else:
            rate = int(rates.rate[zero + width + 1]) + escape_rate(abs(k) - width - 1)
        return DISTORTION_WEIGHT * error * error + lam * rate

    near = min(max((t + offset + HALF32) // STEP32, -MAX_INDEX), MAX_INDEX)
    reach = isqrt(cost(near) // DISTORTION_WEIGHT) // STEP32 + 2
    low, high = max(near - reach, -MAX_INDEX), min(near + reach, MAX_INDEX)
    return min((cost(k), abs(k), k < 0, k) for k in range(low, high + 1))[3]


def kept(t32: Int32s, offset: Int8s, k: Int32s) -> Int32s:
    """Return indices in which latents that lie exactly on a level have that one; others keep k.

    The search may leave such a level if it is much more expensive than the next one. So it would
    move latents that were decoded from a file, though they lie where it had put them.
    """
    target = t32 + offset
    on_level = (target % STEP32 == 0) & (np.abs(target) <= STEP32 * MAX_INDEX)
    return np.where(on_level, target // STEP32, k).astype(np.int32)


def reconstruct(k: Int32s, offset: Int8s) -> Int32s:
    """Return what a decoder adds to the means, in 1/32 step: int32, shape (n,)."""
    return STEP32 * k.astype(np.int32) - offset.astype(np.int32)
