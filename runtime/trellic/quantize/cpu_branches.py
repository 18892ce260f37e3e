"""The cost of one latent in each branch of the trellis, compiled: an exact scan outwards.

The four (quantizer, parity) branches of a latent are found once and remembered per (scale index, t)
for small t.
"""

from typing import Any, Final

from trellic.limits import MAX_INDEX, STEP32
from trellic.quantize.search_tables import Int32s
from trellic.support.numba import njit

MEMO_RANGE: Final = 8 * STEP32  # |t32| below which branches are remembered
UNKNOWN: Final = -32768  # no index yet in the scalar memo
UNREACHABLE: Final = 1 << 30  # metric of a state that no path has reached
# A branch costs less than 2^25 (levels.py), so between two renormalisations a metric grows by less
# than 2^28, and after at most 8 steps every state is reached and UNREACHABLE is gone.
RENORMALISE: Final = 8


@njit
def level_of(k: int, cls: int, index: int, off: Int32s, step: int) -> int:
    """Return the reconstruction of an index, in 1/32 step."""
    magnitude = abs(k)
    base = STEP32 * magnitude if cls == 0 else (2 * magnitude - (cls - 1)) * step
    value = int(base - off[cls, index, min(magnitude, 3)])
    if k > 0:
        return value
    return -value if k < 0 else 0


@njit
def rate_of(k: int, cls: int, index: int, rate: Int32s, zero: Int32s, half_width: Int32s) -> int:
    """Return the cost of an index, in 1/64 bit."""
    width = half_width[cls, index]
    if abs(k) <= width:
        return int(rate[zero[cls, index] + k])
    excess = abs(k) - width
    bits = 0
    while excess > 0:
        excess >>= 1
        bits += 2
    return int(rate[zero[cls, index] + width + 1]) + 64 * bits


@njit
def best(t: int, cls: int, parity: int, index: int, levels: Any, lam: int) -> tuple[int, int]:
    """Return the cheapest index and its cost; parity 2 means both.

    Two scans start at the level nearest to t, one up, one down. Rates are never negative and
    offsets move a level by at most max_off. So a scan may stop once its base level has passed t by
    so much that the distortion alone exceeds the best cost, because later base levels are further
    away.
    """
    rate, zero, half_width, off, max_off, step = levels
    stride = 1 if parity == 2 else 2
    first = 0 if parity == 2 else parity
    spacing = STEP32 if cls == 0 else 2 * step
    start = first + stride * ((t - first * spacing) // (stride * spacing))
    best_k = 0
    best_cost = 1 << 60
    for direction in (-1, 1):
        k = start if direction < 0 else start + stride
        while -MAX_INDEX <= k <= MAX_INDEX:
            base = STEP32 * k if cls == 0 else 2 * k * step
            if cls == 2 and k != 0:
                base -= step if k > 0 else -step
            slack = (base - t) * direction - max_off
            if slack > 0 and 16 * slack * slack > best_cost:
                break
            error = t - level_of(k, cls, index, off, step)
            cost = 16 * error * error + lam * rate_of(k, cls, index, rate, zero, half_width)
            tie = cost == best_cost and (
                abs(k) < abs(best_k) or (abs(k) == abs(best_k) and k > best_k)
            )
            if cost < best_cost or tie:
                best_k, best_cost = k, cost
            k += direction * stride
    return best_k, best_cost


@njit
def branches(t: int, index: int, levels: Any, lam: int, costs: Int32s, ks: Any) -> None:
    """Fill the four branches (2 * quantizer + parity) of one latent."""
    for branch in range(4):
        k, cost = best(t, 1 + (branch >> 1), branch & 1, index, levels, lam)
        ks[branch] = k
        costs[branch] = cost
