"""CUDA kernels of the encoder: a warp for each group of 32 lanes, backwards through a slice.

A group's words are written from the end of its region towards the beginning. When a segment is
done, its warp reserves a place among the packed words and copies its own there, so that one copy
brings all to the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import int32, uint32

from trellic.entropy.lanes import EXPONENT_BITS, STATE_LOW
from trellic.entropy.tables import PRECISION
from trellic.gpu.jobs import LANES, REGION, REGION_AT, STATE_AT, SYMBOL_AT, USED_AT
from trellic.gpu.kernels.kernel import SCRATCH, WARP, ballot, device, kernel, shuffle
from trellic.gpu.toolkit import cuda


@device
def _put(x: Any, out: Any, words: Any, at: Any, lane: Any, shared: Any) -> Any:
    """Move the low word out of the states of those lanes that must, in order.

    All lanes of the warp take part. Returns the state, and where the words now begin.
    """
    takers = ballot(out, shared)
    at -= cuda.popc(takers)
    if out:
        rank = cuda.popc(np.uint32(takers & np.uint32((np.uint32(1) << np.uint32(lane)) - 1)))
        words[at + rank] = x & np.uint32(0xFFFF)
        x = np.uint32(x >> np.uint32(16))
    return np.uint32(x), at


@device
def _put_alone(x: Any, value: Any, bits: Any, words: Any, at: Any) -> Any:
    """Push raw bits onto one state; return it, and where the words now begin."""
    if bits > 0 and np.uint32(x >> np.uint32(32 - bits)) != 0:
        at -= 1
        words[at] = x & np.uint32(0xFFFF)
        x = np.uint32(x >> np.uint32(16))
    return np.uint32(np.uint32(x << np.uint32(bits)) | np.uint32(value)), at


@device
def _put_states(x: Any, members: Any, words: Any, at: Any) -> Any:
    """Code the states of lanes 1 and up through ``x[0]``; return where the words now begin."""
    for back in range(members - 1):
        lane = members - 1 - back
        high = np.uint32(x[lane] >> np.uint32(16))
        exponent = np.int32(31 - cuda.clz(high))
        at -= 1
        words[at] = x[lane] & np.uint32(0xFFFF)
        low = np.uint32(high - np.uint32(np.uint32(1) << np.uint32(exponent)))
        x[0], at = _put_alone(np.uint32(x[0]), low, exponent, words, at)
        x[0], at = _put_alone(np.uint32(x[0]), np.uint32(exponent), EXPONENT_BITS, words, at)
    return at


@kernel(
    "void(int32[:, ::1], int32, int64[:, ::1], int32[::1], int32[:, ::1], int32[::1], uint8[::1],"
    " uint8[::1], int32, uint64[::1], int32[::1], int32[::1], uint16[::1], uint16[::1],"
    " int32[::1], int32[:, ::1], uint32[::1])"
)
def encode_slices(
    order: Any,
    first_slice: Any,
    jobs: Any,
    counts: Any,
    warps: Any,
    k: Any,
    cls: Any,
    index: Any,
    scales: Any,
    entry: Any,
    zero: Any,
    half_width: Any,
    words: Any,
    packed: Any,
    total: Any,
    found: Any,
    heads: Any,
) -> None:
    """Code all segments of many slices.

    Parameters
    ----------
    order, first_slice : jobs of each slice in coding order, -1 for none; where this launch's begin
    jobs, counts : table of jobs (`trellic.gpu.jobs`), and the symbols of each
    warps : (slice less `first_slice`, group) of each warp
    k, cls, index : index, class and scale index of each symbol
    scales, entry, zero, half_width : the tables (`Tables.coding`)
    words : where they go, in the regions of the jobs' groups, at their ends
    packed : the same words, all groups next to one another, in whatever order they come
    total : how many words there are; 0 at first
    found : of each job's groups, where its words are among the packed ones, and how many
    heads : state of each group's first lane, at the place of the slice's first lane in that group
    """
    shared = cuda.shared.array(SCRATCH, int32)
    closing = cuda.shared.array(WARP, uint32)
    lane = np.int32(cuda.threadIdx.x)
    warp = cuda.blockIdx.x
    row, group = first_slice + warps[warp, 0], warps[warp, 1]
    mine = np.int32(group * WARP + lane)
    x = np.uint32(STATE_LOW)
    for back in range(order.shape[1]):
        number = order.shape[1] - 1 - back
        job = order[row, number]
        if job >= 0:
            lanes = np.int32(jobs[job, LANES])
            members = min(lanes, WARP)
            n = np.int32(counts[job])
            symbol_at = jobs[job, SYMBOL_AT]
            end = jobs[job, REGION_AT] + (group + 1) * jobs[job, REGION]
            at = end
            rounds = (n - group * WARP + lanes - 1) // lanes if n > group * WARP else 0
            for turn in range(rounds):
                i = np.int32(mine + (rounds - 1 - turn) * lanes)
                here = lane < members and i < n
                freq, cumulative = np.uint32(1), np.uint32(0)
                excess, negative = np.int32(0), np.int32(0)
                if here:
                    value = np.int32(k[symbol_at + i])
                    negative = np.int32(1 if value < 0 else 0)
                    table = np.int32(np.int32(cls[symbol_at + i]) * scales)
                    table = np.int32(table + np.int32(index[symbol_at + i]))
                    width = half_width[table]
                    excess = np.int32(max(abs(value) - width, 0))
                    e = entry[zero[table] + (width + 1 if excess > 0 else value)]
                    freq = np.uint32((e >> np.uint64(16)) & np.uint64((1 << PRECISION) - 1))
                    cumulative = np.uint32(e & np.uint64(0xFFFF))
                if ballot(excess > 0, shared) != 0:
                    # The two rounds of escapes, last one first; `excess` is 0 where there is none.
                    digits = np.int32(32 - cuda.clz(np.uint32(excess)))
                    out = excess > 0 and np.uint32(x >> np.uint32(32 - max(digits, 1))) != 0
                    x, at = _put(x, out, words, at, lane, shared)
                    if excess > 0:
                        low = np.uint32(2 * (excess - (1 << (digits - 1))) + negative)
                        x = np.uint32(np.uint32(x << np.uint32(digits)) | low)
                    out = excess > 0 and np.uint32(x >> np.uint32(32 - max(digits, 1))) != 0
                    x, at = _put(x, out, words, at, lane, shared)
                    if excess > 0:
                        low = np.uint32(np.uint32(1) << np.uint32(digits - 1))
                        x = np.uint32(np.uint32(x << np.uint32(digits)) | low)
                out = here and np.uint32(x >> np.uint32(32 - PRECISION)) >= freq
                x, at = _put(x, out, words, at, lane, shared)
                if here:
                    quotient = np.uint32(np.uint32(x) // np.uint32(freq))
                    rest = np.uint32(x - np.uint32(quotient * freq))
                    x = np.uint32(
                        np.uint32(quotient << np.uint32(PRECISION)) + np.uint32(rest + cumulative)
                    )
            if number == _first(order, row):
                closing[lane] = x
                cuda.syncthreads()
                if lane == 0:
                    at = _put_states(closing, members, words, at)
                    heads[jobs[job, STATE_AT] + mine] = closing[0]
            cuda.syncthreads()  # all lanes see the words
            count = shuffle(np.int32(end - at), np.int32(0), shared)  # lane 0 has put the states
            place = np.int32(0)
            if lane == 0:
                place = np.int32(cuda.atomic.add(total, 0, count))
                found[jobs[job, USED_AT] + group, 0] = place
                found[jobs[job, USED_AT] + group, 1] = count
            place = shuffle(place, np.int32(0), shared)
            for i in range(lane, count, cuda.blockDim.x):
                packed[place + i] = words[end - count + i]


@device
def _first(order: Any, row: Any) -> Any:
    """Return the number of a slice's first segment."""
    number = 0
    while number < order.shape[1] - 1 and order[row, number] < 0:
        number += 1
    return number
