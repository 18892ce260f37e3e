"""The still lattice compiled for CPUs: signatures and integers of `trellic.quantize.still`."""

from typing import TYPE_CHECKING, Any

import numpy as np

from trellic.limits import MAX_INDEX, STEP32
from trellic.quantize.cpu_branches import rate_of
from trellic.quantize.dither import FIRST_CLASS, Int8s
from trellic.quantize.search_tables import Int32s, Uint8s, clamp_limit
from trellic.quantize.still import HALF32, classes, kept, offsets, rates_of, reconstruct
from trellic.support.numba import njit

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

__all__ = ["classes", "kept", "offsets", "reconstruct", "search"]  # others: fast enough in numpy

LIMIT = clamp_limit(0, 1)


def search(t32: Int32s, scale_index: Uint8s, offset: Int8s, tables: "Tables", lam: int) -> Int32s:
    """See `trellic.quantize.still.search`."""
    out = np.empty(len(t32), np.int32)
    _search(t32, scale_index, offset, tuple(rates_of(tables)), lam, out)
    return out


@njit
def _search(
    t32: Int32s, scale_index: Uint8s, offset: Int8s, rates: Any, lam: int, out: Int32s
) -> None:
    """Scan outwards from t, until distortion alone costs more than the best index."""
    rate, zero, half_width = rates
    for i in range(len(t32)):
        index, shift = int(scale_index[i]), int(offset[i])
        t = min(max(int(t32[i]), -LIMIT), LIMIT) + shift
        cls = FIRST_CLASS + ((shift + HALF32) >> 1)
        best_k, best_cost = 0, 1 << 60
        for direction in (-1, 1):
            k = t // STEP32 + (direction > 0)
            while -MAX_INDEX <= k <= MAX_INDEX:
                error = t - STEP32 * k
                distortion = 16 * error * error
                if distortion > best_cost:
                    break
                cost = distortion + lam * rate_of(k, cls, index, rate, zero, half_width)
                tie = cost == best_cost and (
                    abs(k) < abs(best_k) or (abs(k) == abs(best_k) and k > best_k)
                )
                if cost < best_cost or tie:
                    best_k, best_cost = k, cost
                k += direction
        out[i] = best_k
