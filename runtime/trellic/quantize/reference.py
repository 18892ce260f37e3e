"""Plain quantizers, which define what a search must choose and a decoder must reconstruct.

Everything is an integer: latents and levels in 1/32 of the scalar step, rates in 1/64 bit. Python
integers hold the costs here, so nothing can overflow; `trellic.quantize.cpu` gives the same bits in
int32.
"""

from math import isqrt
from typing import TYPE_CHECKING, Final

import numpy as np

from trellic.limits import MAX_INDEX, STEP32
from trellic.quantize.search_tables import (
    Int32s,
    SearchTables,
    Uint8s,
    checked_arguments,
    checked_indices,
    clamp_limit,
    escape_rate,
)
from trellic.quantize.trellis import CLASS_SCALAR, next_state

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

DISTORTION_WEIGHT: Final = 16  # cost of one squared 1/32 step; lambda is scaled by it


def base_level(k: int, cls: int, step: int) -> int:
    """Return the level of index `k` before the centroid offset, in 1/32 step."""
    if cls == CLASS_SCALAR:
        return STEP32 * k
    sign = (k > 0) - (k < 0)
    return (2 * k - sign * (cls - 1)) * step


def level(k: int, cls: int, index: int, levels: SearchTables) -> int:
    """Return the reconstruction of index `k`, in 1/32 step."""
    if k == 0:
        return 0
    offset = int(levels.off[cls, index, min(abs(k), 3)])
    return base_level(k, cls, levels.step) - (offset if k > 0 else -offset)


def rate64(k: int, cls: int, index: int, levels: SearchTables) -> int:
    """Return the coder's cost of index `k`, in 1/64 bit."""
    width = int(levels.half_width[cls, index])
    zero = int(levels.zero[cls, index])
    if abs(k) <= width:
        return int(levels.rate[zero + k])
    return int(levels.rate[zero + width + 1]) + escape_rate(abs(k) - width - 1)


def cost(k: int, t: int, cls: int, index: int, levels: SearchTables, lam: int) -> int:
    """Return ``16 * error^2 + lam * rate`` of one index."""
    error = t - level(k, cls, index, levels)
    return DISTORTION_WEIGHT * error * error + lam * rate64(k, cls, index, levels)


def best_index(
    t: int, cls: int, parity: int | None, index: int, levels: SearchTables, lam: int
) -> tuple[int, int]:
    """Return the cheapest index of one parity (None: of both) and its cost.

    Rates are never negative, so an index whose distortion alone exceeds the whole cost of some
    other index cannot win. The offsets move a level by at most `levels.max_off`; hence every
    possible winner has its base level within ``max_off + sqrt(cost / 16)`` of `t`, and that finite
    range is searched. Ties go to the smaller magnitude, then to the positive index.
    """
    stride, first = (1, 0) if parity is None else (2, parity)
    spacing = STEP32 if cls == CLASS_SCALAR else 2 * levels.step
    near = first + stride * round((t / spacing - first) / stride)
    bound = cost(near, t, cls, index, levels, lam)
    radius = levels.max_off + isqrt(bound // DISTORTION_WEIGHT) + 1
    reach = radius // spacing + 2  # Q1 levels are up to half a spacing away from 2 k D
    low, high = max(-MAX_INDEX, t // spacing - reach), min(MAX_INDEX, t // spacing + reach + 1)
    candidates = (k for k in range(low, high + 1) if (k - first) % stride == 0)
    value, _, _, k = min(
        (cost(k, t, cls, index, levels, lam), abs(k), k < 0, k) for k in candidates
    )
    return k, value


def _search_lane(
    t32: list[int], scale_index: list[int], table: Uint8s, levels: SearchTables, lam: int
) -> list[int]:
    """Viterbi search of one path that starts in state 0 and may end in any state."""
    states = len(table)
    unreachable = 1 << 62
    metric = [0] + [unreachable] * (states - 1)
    history: list[list[tuple[int, int]]] = []
    for t, index in zip(t32, scale_index, strict=True):
        branch = [[best_index(t, 1 + q, x, index, levels, lam) for x in (0, 1)] for q in (0, 1)]
        best = [unreachable * 2] * states
        survivor = [(0, 0)] * states
        for s in range(states):  # ascending, with <: ties stay with the lower predecessor
            for x in (0, 1):
                k, value = branch[s & 1][x]
                after = int(table[s, x])
                if metric[s] + value < best[after]:
                    best[after] = metric[s] + value
                    survivor[after] = (s, k)
        metric = best
        history.append(survivor)
    state = metric.index(min(metric))  # ties: the lowest final state
    path = []
    for survivor in reversed(history):
        state, k = survivor[state]
        path.append(k)
    return path[::-1]


def _classes(k: Int32s, lanes: int, states: int) -> Uint8s:
    """Return the quantizer of each index of trellis paths that start in state 0."""
    table = next_state(states)
    state = np.zeros(lanes, np.uint8)
    cls = np.empty(len(k), np.uint8)
    for i in range(0, len(k), lanes):
        row = k[i : i + lanes]
        cls[i : i + lanes] = 1 + (state[: len(row)] & 1)
        state[: len(row)] = table[state[: len(row)], row & 1]
    return cls


def search(
    t32: Int32s,
    scale_index: Uint8s,
    lanes: int,
    states: int,
    tables: "Tables",
    lam: int,
) -> tuple[Int32s, Uint8s]:
    """Choose the indices that minimise ``sum(16 * error^2 + lam * rate)``.

    The choice is exactly optimal. Latent `i` belongs to lane ``i % lanes``; every lane is a
    separate path that starts in state 0.

    Parameters
    ----------
    t32 : int32, shape (n,)
        Latents less their mean, in 1/32 step. Values beyond the reach of indices of magnitude 32767
        are clamped (see `trellic.quantize.search_tables.clamp_limit`).
    scale_index : uint8, shape (n,)
        The table that each latent uses.
    lanes
        Number of interleaved paths, at least 1.
    states
        States of the trellis, or 0: each latent by itself with the scalar quantizer (RDOQ).
    tables
        Integer tables of the bundle.
    lam
        Price of 1/64 bit in units of 1/16 of a squared 1/32 step, 0 to `MAX_LAMBDA`.

    Returns
    -------
    k : int32, shape (n,)
        Indices, at most 32767 in magnitude.
    cls : uint8, shape (n,)
        Quantizer of each index: 0 scalar, 1 Q0, 2 Q1.

    Raises
    ------
    BadParameter
        Shapes differ, or an argument is out of its range.

    Notes
    -----
    Ties go to the lower predecessor (or final) state, then the smaller ``|k|``, then positive.
    """
    levels = checked_arguments(t32, scale_index, lanes, states, tables, lam)
    limit = clamp_limit(states, levels.step)
    values = np.clip(t32, -limit, limit).tolist()
    index = scale_index.tolist()
    k = np.zeros(len(values), np.int32)
    if states == 0:
        for i, t in enumerate(values):
            k[i] = best_index(t, CLASS_SCALAR, None, index[i], levels, lam)[0]
        return k, np.zeros(len(k), np.uint8)
    table = next_state(states)
    for lane in range(min(lanes, len(k))):
        path = slice(lane, None, lanes)
        k[path] = _search_lane(values[path], index[path], table, levels, lam)
    return k, _classes(k, lanes, states)


def round_to_step(t32: Int32s) -> Int32s:
    """Return the index of the nearest scalar level, halves upwards: plain rounding.

    Parameters
    ----------
    t32 : int32, any shape
        Latents less their mean, in 1/32 step; clamped to +-32767 steps.
    """
    limit = clamp_limit(0, 1)
    return ((np.clip(t32, -limit, limit) + STEP32 // 2) >> 5).astype(np.int32)


def reconstruct(k: Int32s, cls: Uint8s, scale_index: Uint8s, tables: "Tables") -> Int32s:
    """Return the reconstruction of every index, in 1/32 step.

    Parameters
    ----------
    k : int32, shape (n,)
        Indices, at most 32767 in magnitude.
    cls, scale_index : uint8, shape (n,)
        Quantizer (0, 1, 2) and table of each index.
    tables
        Integer tables of the bundle.

    Raises
    ------
    BadParameter
        Shapes differ, or a quantizer or scale index does not exist.
    """
    levels = checked_indices(k, cls, scale_index, tables)
    recon = [
        level(*one, levels)
        for one in zip(k.tolist(), cls.tolist(), scale_index.tolist(), strict=True)
    ]
    return np.array(recon, np.int32)
