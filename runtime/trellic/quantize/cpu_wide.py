"""The search for many lanes at once, compiled: the same bits as for one lane after the other.

Lanes are independent paths, so up to `WIDE` of them advance together, side by side in memory. The
step over all states is then a loop over lanes without branches, which compilers turn into vectors.
"""

from typing import Any, Final

import numpy as np

from trellic.quantize.cpu_branches import MEMO_RANGE, RENORMALISE, UNREACHABLE, best, branches
from trellic.quantize.search_tables import Int32s, Uint8s
from trellic.support.numba import njit

WIDE: Final = 16  # lanes that advance together: one vector of 512 bits, or two of 256


@njit
def _step(
    old: Int32s, new: Int32s, source: Int32s, tie: Int32s, costs: Int32s, taken: Uint8s, width: int
) -> None:
    """Advance the metrics (states, lanes) by one latent of each lane."""
    half = len(new) // 2
    for q in range(2):
        even, odd = costs[2 * q], costs[2 * q + 1]
        for j in range(q * half, q * half + half):
            low, high, to, won = old[source[0, j]], old[source[1, j]], new[j], taken[j]
            less = tie[j]
            for lane in range(width):  # the loop that becomes vectors
                a = low[lane] + even[lane]
                b = high[lane] + odd[lane]
                take = b - less < a  # on a tie the lower predecessor wins
                to[lane] = b if take else a
                won[lane] = take


@njit
def _pack(taken: Uint8s, survivors: Uint8s, width: int) -> None:
    """Pack the survivors of eight states to a byte."""
    for w in range(len(survivors)):
        out = survivors[w]
        out[:] = 0
        for j in range(min(8, len(taken))):
            won = taken[8 * w + j]
            for lane in range(width):
                out[lane] |= won[lane] << np.uint8(j)


@njit
def _renormalise(metrics: Int32s, width: int) -> None:
    """Subtract each lane's least metric from all of its metrics."""
    least = metrics[0].copy()
    for s in range(1, len(metrics)):
        for lane in range(width):
            least[lane] = min(least[lane], metrics[s, lane])
    for s in range(len(metrics)):
        for lane in range(width):
            metrics[s, lane] -= least[lane]


@njit
def _end(metrics: Int32s, first: int, last: int, state: Any) -> None:
    """Choose the lowest of equally good final states for some lanes."""
    for lane in range(first, last):
        state[lane] = metrics[:, lane].argmin()


@njit
def search_lanes(
    t32: Int32s,
    scale_index: Uint8s,
    first: int,
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
    """Search the paths of up to `WIDE` lanes from ``first`` on; write them to their places."""
    states = source.shape[1]
    width = min(WIDE, lanes - first)
    full = len(t32) // lanes  # rows that all lanes have
    more = min(max(len(t32) - full * lanes - first, 0), width)  # lanes that have one more
    rows = full + (1 if more else 0)
    survivors = np.empty((rows, max(states // 8, 1), width), np.uint8)
    taken = np.empty((states, width), np.uint8)
    old = np.full((states, width), UNREACHABLE, np.int32)
    old[0] = 0
    new = np.empty((states, width), np.int32)
    costs = np.zeros((4, width), np.int32)
    far_cost = np.empty(4, np.int32)
    far_k = np.empty(4, np.int16)
    state = np.empty(width, np.int64)
    for n in range(rows):
        if n == full:
            _end(old, more, width, state)  # their paths end before the last row
        base = n * lanes + first
        for lane in range(width if n < full else more):
            t = min(max(int(t32[base + lane]), -limit), limit)
            index = int(scale_index[base + lane])
            if -MEMO_RANGE <= t < MEMO_RANGE:
                found = memo_cost[index, t + MEMO_RANGE]
                if found[0] < 0:
                    branches(t, index, levels, lam, found, memo_k[index, t + MEMO_RANGE])
            else:
                found = far_cost
                branches(t, index, levels, lam, found, far_k)
            for branch in range(4):
                costs[branch, lane] = found[branch]
        _step(old, new, source, tie, costs, taken, width)
        _pack(taken, survivors[n], width)
        old, new = new, old
        if n % RENORMALISE == 0:
            _renormalise(old, width)
    _end(old, 0, more if more else width, state)
    for n in range(rows - 1, -1, -1):
        base = n * lanes + first
        for lane in range(width if n < full else more):
            t = min(max(int(t32[base + lane]), -limit), limit)
            index = int(scale_index[base + lane])
            parity = (survivors[n, state[lane] >> 3, lane] >> (state[lane] & 7)) & 1
            state[lane] = source[parity, state[lane]]
            quantizer = state[lane] & 1
            if -MEMO_RANGE <= t < MEMO_RANGE:
                k_out[base + lane] = memo_k[index, t + MEMO_RANGE, 2 * quantizer + parity]
            else:
                k_out[base + lane] = best(t, 1 + quantizer, parity, index, levels, lam)[0]
            cls_out[base + lane] = 1 + quantizer
