"""The search and the reconstruction compiled for CPUs: same bits as `trellic.quantize.reference`.

What makes a latent cheap: the costs of its branches are remembered (`cpu_branches`), so the step
over all states is two additions, a comparison and a selection per state, without branches. The
parity that wins is the survivor, and eight survivors are packed to a byte. From `NARROW` lanes on,
lanes advance side by side (`cpu_wide`).
"""

import functools
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from trellic.quantize.cpu_branches import (
    MEMO_RANGE,
    RENORMALISE,
    UNKNOWN,
    UNREACHABLE,
    best,
    branches,
    level_of,
)
from trellic.quantize.cpu_wide import WIDE, search_lanes
from trellic.quantize.reference import round_to_step
from trellic.quantize.search_tables import (
    Int32s,
    Uint8s,
    checked_arguments,
    checked_indices,
    clamp_limit,
)
from trellic.quantize.trellis import next_state
from trellic.support.numba import njit

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

__all__ = ["reconstruct", "round_to_step", "search"]

NARROW: Final = 8  # lanes below which they are searched one after the other
PACK: Final = 0x0102040810204080  # times eight 0/1 bytes: their bits in the top byte


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
                branches(t, index, levels, lam, costs, memo_k[index, t + MEMO_RANGE])
        else:
            costs = far_cost
            branches(t, index, levels, lam, costs, far_k)
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
            k_out[i] = best(t, 1 + quantizer, parity, index, levels, lam)[0]
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
                memo_k[index, t + MEMO_RANGE] = best(t, 0, 2, index, levels, lam)[0]
            k_out[i] = memo_k[index, t + MEMO_RANGE]
        else:
            k_out[i] = best(t, 0, 2, index, levels, lam)[0]


@njit
def _reconstruct(
    k: Int32s, cls: Uint8s, scale_index: Uint8s, off: Int32s, step: int, out: Int32s
) -> None:
    for i in range(len(k)):
        out[i] = level_of(int(k[i]), int(cls[i]), int(scale_index[i]), off, step)


@functools.cache
def _wiring(states: int) -> tuple[Int32s, Int32s]:
    """Return the way into each state by an even and by an odd index, and the winner of ties.

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


class _Memo(threading.local):
    """The branches that a thread has found, for the tables and weight of its last search."""

    def __init__(self) -> None:
        self._key: tuple[Tables | None, int] = (None, 0)

    def of(self, tables: "Tables", lam: int, indices: int) -> tuple[Int32s, npt.NDArray[np.int16]]:
        """Return costs, -1 where unknown, and indices, both (scale index, t, branch)."""
        if self._key != (tables, lam):
            shape = (indices, 2 * MEMO_RANGE, 4)
            self._arrays = np.full(shape, -1, np.int32), np.empty(shape, np.int16)
            self._key = (tables, lam)
        return self._arrays


_memo = _Memo()


def _plain(array: npt.NDArray[Any], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Return the array as the one kind that kernels are compiled for, contiguous and writeable."""
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
    the GIL; memory beyond the results is ``states / 8`` bytes per latent of 16 lanes, and less than
    a megabyte that each thread keeps.
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
    rest = *_wiring(states), plain, lam, *_memo.of(tables, lam, indices), k, cls
    if lanes < NARROW:
        for lane in range(min(lanes, len(k))):
            _search_lane(t32, scale_index, lane, lanes, limit, *rest)
    else:
        for first in range(0, min(lanes, len(k)), WIDE):
            search_lanes(t32, scale_index, first, lanes, limit, *rest)
    return k, cls


def warm_up(states: int, tables: "Tables") -> None:
    """Compile the search of many lanes, which a small picture does not use."""
    t32 = np.zeros(NARROW, np.int32)
    search(t32, t32.astype(np.uint8), NARROW, states, tables, 1)


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
