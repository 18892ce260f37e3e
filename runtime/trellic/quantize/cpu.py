"""The search and the reconstruction compiled for CPUs: same bits as `trellic.quantize.reference`.

How one latent costs little: the four (quantizer, parity) branches are found once, by an exact scan
outwards from the nearest level, and remembered per (scale index, t) for small t. The step over all
states is then two additions, a comparison and a selection per state, without branches. The parity
that won is the survivor; eight of them are packed to a byte.
"""

import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trellic._numba import njit
from trellic.quantize.levels import (
    MAX_INDEX,
    STEP32,
    Int32s,
    Uint8s,
    checked_arguments,
    checked_indices,
    clamp_limit,
)
from trellic.quantize.reference import round_to_step
from trellic.quantize.trellis import next_state

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

__all__ = ["reconstruct", "round_to_step", "search"]

MEMO_RANGE: Final = 8 * STEP32  # |t32| below which branches are remembered
UNKNOWN: Final = -32768  # no index yet in the scalar memo
UNREACHABLE: Final = 1 << 30  # metric of a state that no path has reached
# A branch costs less than 2^25 (levels.py), so between two renormalisations a metric grows by less
# than 2^28, and after at most 8 steps every state is reached and UNREACHABLE is gone.
RENORMALISE: Final = 8
PACK: Final = 0x0102040810204080  # times eight 0/1 bytes: their bits in the top byte


@njit
def _level(k: int, cls: int, index: int, off: Int32s, step: int) -> int:
    magnitude = abs(k)
    base = STEP32 * magnitude if cls == 0 else (2 * magnitude - (cls - 1)) * step
    value = int(base - off[cls, index, min(magnitude, 3)])
    if k > 0:
        return value
    return -value if k < 0 else 0


@njit
def _rate(k: int, cls: int, index: int, rate: Int32s, zero: Int32s, half_width: Int32s) -> int:
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
def _best(t: int, cls: int, parity: int, index: int, levels: Any, lam: int) -> tuple[int, int]:
    """Return the cheapest index and its cost; parity 2 means both.

    Two scans leave the level nearest to t, one up, one down. Rates are never negative and offsets
    move a level by at most max_off, so a scan may stop once its base level has passed t by so much
    that the distortion alone exceeds the best cost: base levels only move further away from there.
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
            error = t - _level(k, cls, index, off, step)
            cost = 16 * error * error + lam * _rate(k, cls, index, rate, zero, half_width)
            tie = cost == best_cost and (
                abs(k) < abs(best_k) or (abs(k) == abs(best_k) and k > best_k)
            )
            if cost < best_cost or tie:
                best_k, best_cost = k, cost
            k += direction * stride
    return best_k, best_cost


@njit
def _branches(t: int, index: int, levels: Any, lam: int, costs: Int32s, ks: Any) -> None:
    """Fill the four branches (2 * quantizer + parity) of one latent."""
    for branch in range(4):
        k, cost = _best(t, 1 + (branch >> 1), branch & 1, index, levels, lam)
        ks[branch] = k
        costs[branch] = cost


@njit
def _step(
    old: Int32s,
    new: Int32s,
    source: Int32s,
    tie: Int32s,
    costs: Int32s,
    survivor: Uint8s,
) -> None:
    """Advance the metrics of all states by one latent.

    Next states below states/2 come from even states (Q0), the others from odd ones (Q1).
    """
    half = len(new) // 2
    for q in range(2):
        even, odd = costs[2 * q], costs[2 * q + 1]
        for j in range(q * half, q * half + half):
            a = old[source[0, j]] + even
            b = old[source[1, j]] + odd
            take = b - tie[j] < a  # on a tie the lower predecessor wins
            survivor[j] = take
            new[j] = b if take else a


@njit
def _search_lane(
    t32: Int32s,
    scale_index: Uint8s,
    lane: int,
    lanes: int,
    limit: int,
    source: Int32s,
    tie: Int32s,
    levels: Any,
    lam: int,
    memo_cost: Int32s,
    memo_k: Any,
    k_out: Int32s,
    cls_out: Uint8s,
) -> None:
    """Search one path and write it to its places in the outputs."""
    states = source.shape[1]
    words = max(states // 8, 1)
    count = (len(t32) - lane + lanes - 1) // lanes
    survivors = np.empty((count, words), np.uint8)
    chosen = np.zeros(8 * words, np.uint8)
    chosen8 = chosen.view(np.uint64)
    old = np.full(states, UNREACHABLE, np.int32)
    old[0] = 0
    new = np.empty(states, np.int32)
    far_cost = np.empty(4, np.int32)
    far_k = np.empty(4, np.int16)
    for n in range(count):
        i = lane + n * lanes
        t = min(max(int(t32[i]), -limit), limit)
        index = int(scale_index[i])
        if -MEMO_RANGE <= t < MEMO_RANGE:
            costs = memo_cost[index, t + MEMO_RANGE]
            if costs[0] < 0:
                _branches(t, index, levels, lam, costs, memo_k[index, t + MEMO_RANGE])
        else:
            costs = far_cost
            _branches(t, index, levels, lam, costs, far_k)
        _step(old, new, source, tie, costs, chosen)
        for w in range(words):
            survivors[n, w] = (chosen8[w] * np.uint64(PACK)) >> np.uint64(56)
        old, new = new, old
        if n % RENORMALISE == 0:
            low = old.min()
            for s in range(states):
                old[s] -= low
    state = old.argmin()  # the lowest final state of equals
    for n in range(count - 1, -1, -1):
        i = lane + n * lanes
        t = min(max(int(t32[i]), -limit), limit)
        index = int(scale_index[i])
        parity = (survivors[n, state >> 3] >> (state & 7)) & 1
        state = source[parity, state]
        quantizer = state & 1
        if -MEMO_RANGE <= t < MEMO_RANGE:
            k_out[i] = memo_k[index, t + MEMO_RANGE, 2 * quantizer + parity]
        else:
            k_out[i] = _best(t, 1 + quantizer, parity, index, levels, lam)[0]
        cls_out[i] = 1 + quantizer


@njit
def _search_scalar(
    t32: Int32s, scale_index: Uint8s, limit: int, levels: Any, lam: int, memo_k: Any, k_out: Int32s
) -> None:
    """Choose every index by itself: rate-distortion optimised scalar quantization."""
    for i in range(len(t32)):
        t = min(max(int(t32[i]), -limit), limit)
        index = int(scale_index[i])
        if -MEMO_RANGE <= t < MEMO_RANGE:
            if memo_k[index, t + MEMO_RANGE] == UNKNOWN:
                memo_k[index, t + MEMO_RANGE] = _best(t, 0, 2, index, levels, lam)[0]
            k_out[i] = memo_k[index, t + MEMO_RANGE]
        else:
            k_out[i] = _best(t, 0, 2, index, levels, lam)[0]


@njit
def _reconstruct(
    k: Int32s, cls: Uint8s, scale_index: Uint8s, off: Int32s, step: int, out: Int32s
) -> None:
    for i in range(len(k)):
        out[i] = _level(int(k[i]), int(cls[i]), int(scale_index[i]), off, step)


@functools.cache
def _wiring(states: int) -> tuple[Int32s, Int32s]:
    """Return the way into each state by an even and by an odd index, and how its ties go.

    Returns
    -------
    source : int32, shape (2, states)
        ``source[x, s]`` leads to `s` with parity `x`.
    tie : int32, shape (states,)
        1 where the odd way comes from the lower state and so wins a tie.
    """
    source = np.empty((2, states), np.int32)
    table = next_state(states)
    for x in (0, 1):
        source[x, table[:, x]] = np.arange(states)
    return source, (source[1] < source[0]).astype(np.int32)


def _plain(array: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the array as the one kind, contiguous and writeable, that kernels are compiled for."""
    return np.require(array, dtype, ["C", "W"])


def search(
    t32: Int32s,
    scale_index: Uint8s,
    lanes: int,
    states: int,
    tables: "Tables",
    lam: int,
) -> tuple[Int32s, Uint8s]:
    """Choose the indices that minimise ``sum(16 * error^2 + lam * rate)``.

    Arguments, results, errors and bits are those of `trellic.quantize.reference.search`. Releases
    the GIL; memory beyond the results is ``states / 8`` bytes per latent of a lane.
    """
    levels = checked_arguments(t32, scale_index, lanes, states, tables, lam)
    t32, scale_index = _plain(t32, np.int32), _plain(scale_index, np.uint8)
    limit = clamp_limit(states, levels.step)
    k = np.empty(len(t32), np.int32)
    cls = np.zeros(len(t32), np.uint8)
    plain = tuple(levels)
    indices = levels.half_width.shape[1]
    if states == 0:
        memo = np.full((indices, 2 * MEMO_RANGE), UNKNOWN, np.int16)
        _search_scalar(t32, scale_index, limit, plain, lam, memo, k)
        return k, cls
    source, tie = _wiring(states)
    memo_cost = np.full((indices, 2 * MEMO_RANGE, 4), -1, np.int32)
    memo_k = np.empty((indices, 2 * MEMO_RANGE, 4), np.int16)
    for lane in range(min(lanes, len(k))):
        _search_lane(
            t32, scale_index, lane, lanes, limit, source, tie, plain, lam, memo_cost, memo_k, k, cls
        )
    return k, cls


def reconstruct(k: Int32s, cls: Uint8s, scale_index: Uint8s, tables: "Tables") -> Int32s:
    """Return the reconstruction of every index, in 1/32 step.

    Arguments, result and bits are those of `trellic.quantize.reference.reconstruct`.
    """
    levels = checked_indices(k, cls, scale_index, tables)
    out = np.empty(len(k), np.int32)
    _reconstruct(
        _plain(k, np.int32),
        _plain(cls, np.uint8),
        _plain(scale_index, np.uint8),
        levels.off,
        levels.step,
        out,
    )
    return out
