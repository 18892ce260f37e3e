"""CUDA kernel of the decoder: a warp for each group of 32 lanes, forwards through a segment.

Lane `j` of the warp is lane ``32 g + j`` of the slice. A round takes its time mostly with waiting,
one lookup after another, so everything is fetched as early as possible. The words that the 32 lanes
may take lie next to one another, and each thread reads one of them before it is known which lanes
need one. Then a ballot finds these lanes, and a shuffle gives them the words in order.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import int32, uint32

from trellic.entropy.lanes import EXPONENT_BITS, LONG_COUNT, MAX_DIGITS, STATE_LOW
from trellic.entropy.status import LEFT_OVER, LONG_ESCAPE, LONG_FORM, NO_WORDS, OK, TRUNCATED
from trellic.entropy.tables import BUCKET_BITS, ESCAPE_FLAG, PRECISION
from trellic.gpu.jobs import (
    FIRST_CLASS,
    FRESH,
    H0,
    H1,
    LANES,
    STATE_AT,
    SYMBOL_AT,
    TARGET_AT,
    WORD_AT,
    WORDS,
)
from trellic.gpu.kernels.kernel import SCRATCH, WARP, ballot, device, kernel, shuffle
from trellic.gpu.kernels.levels import level
from trellic.gpu.toolkit import cuda
from trellic.limits import MAX_INDEX

SLOT: Final = (1 << PRECISION) - 1
BUCKET_SHIFT: Final = PRECISION - BUCKET_BITS
STAGED: Final = 3 * WARP  # words that the states of a group take, at most
OPENING: Final = WARP + 1  # states of a group, and the words they took


@device
def _bounds(words: Any, start: Any, stop: Any, groups: Any, group: Any) -> Any:
    """Return a status, and where the words of a group begin and end."""
    status, at = OK, start
    before, mine, total = np.int64(0), np.int64(0), np.int64(0)
    for other in range(groups - 1):
        if at < stop and status == OK:
            count = np.int64(words[at])
            at += 1
            if count >= LONG_COUNT:
                low = np.int64(words[at]) if at < stop else np.int64(0)
                count = (count - LONG_COUNT) << 16 | low
                at += 1
                if count < LONG_COUNT:
                    status = LONG_FORM
            if other < group:
                before += count
            elif other == group:
                mine = count
            total += count
        elif status == OK:
            status = TRUNCATED
    if status == OK and at + total > stop:
        status = TRUNCATED
    begin = at + before
    end = begin + mine if group < groups - 1 else stop
    return status, begin, end


@device
def _take_bits(x: Any, bits: Any, staged: Any, at: Any) -> Any:
    """Take raw bits from a state; return the bits, the state and the next word's place."""
    value = x & np.uint32((1 << bits) - 1)
    moved = np.uint32(x >> np.uint32(bits))
    if moved < np.uint32(STATE_LOW):
        moved = np.uint32(moved << np.uint32(16)) | np.uint32(staged[at])
        at += 1
    return value, moved, at


@device
def _other_states(staged: Any, room: Any, members: Any, x: Any) -> Any:
    """Decode the states of lanes 1 and up through ``x[0]``; return the words that took.

    One thread does it. A result of one word more than `room` means that there were too few.
    """
    at = 0
    for lane in range(1, members):
        if at >= 0:
            exponent, x[0], at = _take_bits(np.uint32(x[0]), EXPONENT_BITS, staged, at)
            high, x[0], at = _take_bits(np.uint32(x[0]), np.int32(exponent), staged, at)
            if at >= room:
                at = -1
            else:
                high |= np.uint32(1) << np.uint32(exponent)
                x[lane] = np.uint32(high << np.uint32(16)) | np.uint32(staged[at])
                at += 1
    return at if at >= 0 else room + 1


@device
def _renormalise(moved: Any, need: Any, words: Any, at: Any, lane: Any, shared: Any) -> Any:
    """Give each lane that needs one a word, in order; return its state and the next word's place.

    All lanes of the warp take part.
    """
    ahead = np.int32(words[at + lane])
    takers = ballot(need, shared)
    rank = cuda.popc(np.uint32(takers & np.uint32((np.uint32(1) << np.uint32(lane)) - 1)))
    word = shuffle(ahead, np.int32(rank), shared)
    if need:
        moved = np.uint32(moved << np.uint32(16)) | np.uint32(word)
    return np.uint32(moved), at + cuda.popc(takers)


@device
def _open(x: Any, words: Any, at: Any, end: Any, members: Any, staged: Any, opening: Any) -> Any:
    """Return a lane's first state, and where the words of a fresh slice's group continue.

    All threads of the block take part. A result beyond `end` means that there were too few words.
    """
    lane = np.int32(cuda.threadIdx.x)
    for i in range(lane, STAGED, cuda.blockDim.x):
        staged[i] = words[at + i]
    if lane == 0:
        opening[0] = x
    cuda.syncthreads()
    if lane == 0:
        opening[WARP] = _other_states(staged, end - at, members, opening)
    cuda.syncthreads()
    state = np.uint32(x)
    if lane < members:
        state = np.uint32(opening[lane])
    return state, at + np.int64(opening[WARP])


@device
def _look_up(x: Any, table: Any, entry: Any, first: Any) -> Any:
    """Return the entry of the symbol in whose slot a state lies, and the state without it."""
    slot = np.uint32(x & np.uint32(SLOT))
    place = first[np.uint32(table << np.uint32(BUCKET_BITS)) | (slot >> np.uint32(BUCKET_SHIFT))]
    e = entry[place]
    following = entry[place + np.uint32(1)]
    while slot >= np.uint32(following & np.uint64(0xFFFF)):
        place = np.uint32(place + np.uint32(1))
        e = following
        following = entry[place + np.uint32(1)]
    freq = np.uint32((e >> np.uint64(16)) & np.uint64(SLOT))
    moved = np.uint32(freq * np.uint32(x >> np.uint32(PRECISION)))
    return e, np.uint32(moved + np.uint32(slot - np.uint32(e & np.uint64(0xFFFF))))


@device
def _escape(
    x: Any, escaped: Any, value: Any, width: Any, words: Any, at: Any, end: Any, shared: Any
) -> Any:
    """Decode the two extra rounds of the lanes that escaped: digit counts, then digits.

    All lanes of the warp take part. Returns a status, the value (unchanged in other lanes), the
    state, and where the words continue.
    """
    lane = np.int32(cuda.threadIdx.x)
    code = OK
    digits = np.int32(cuda.ffs(x)) if escaped else np.int32(0)
    if ballot(digits > MAX_DIGITS, shared) != 0:
        code = LONG_ESCAPE
    if code == OK:
        moved = np.uint32(x >> np.uint32(digits))
        need = escaped and moved < np.uint32(STATE_LOW)
        x, at = _renormalise(moved, need, words, at, lane, shared)
        if at > end:
            code = NO_WORDS
    if code == OK:
        if escaped:
            rest = np.int32(x & np.uint32((1 << digits) - 1))
            value = np.int32(width + (1 << (digits - 1)) + (rest >> 1))
            if rest & 1:
                value = np.int32(-value)
        if ballot(abs(value) > MAX_INDEX, shared) != 0:
            code = LONG_ESCAPE
    if code == OK:
        moved = np.uint32(x >> np.uint32(digits))
        need = escaped and moved < np.uint32(STATE_LOW)
        x, at = _renormalise(moved, need, words, at, lane, shared)
        if at > end:
            code = NO_WORDS
    return code, np.int32(value), np.uint32(x), at


@device
def _next(trellis: Any, value: Any, h0: Any, h1: Any) -> Any:
    """Return the state of the trellis after an index."""
    after = np.uint32(trellis >> np.uint32(1))
    if trellis & np.uint32(1):
        after = np.uint32(after ^ h0)
    if value & 1:
        after = np.uint32(after ^ h1)
    return after


@device
def decode_warp(
    words: Any,
    jobs: Any,
    job: Any,
    group: Any,
    counts: Any,
    index: Any,
    scales: Any,
    entry: Any,
    half_width: Any,
    first: Any,
    states: Any,
    k: Any,
    cls: Any,
    filling: Any,
    position: Any,
    off: Any,
    step: Any,
    v32: Any,
    shared: Any,
    staged: Any,
    opening: Any,
) -> Any:
    """Decode the lanes of one group through one segment; return a status, the same in all threads.

    Arguments are those of `decode_segments`; `shared`, `staged` and `opening` are its memory.
    """
    lane = np.int32(cuda.threadIdx.x)
    lanes = np.int32(jobs[job, LANES])
    groups = (lanes + WARP - 1) // WARP
    members = min(lanes, WARP)
    mine = np.int32(group * WARP + lane)
    fresh = jobs[job, FRESH] != 0
    start = jobs[job, WORD_AT]
    stop = start + jobs[job, WORDS]
    if fresh:
        start += 2 * groups  # the states of the groups' first lanes
    code, at, end = _bounds(words, start, stop, groups, group)
    if code != OK:
        return np.int32(code)
    state_at = jobs[job, STATE_AT]
    x = np.uint32(STATE_LOW)
    if lane < members:
        x = np.uint32(states[state_at + mine])
    if fresh:
        x, at = _open(x, words, at, end, members, staged, opening)
        if at > end:
            return np.int32(NO_WORDS)
    n = np.int32(counts[job])
    symbol_at, target = jobs[job, SYMBOL_AT], jobs[job, TARGET_AT]
    first_class = np.uint32(jobs[job, FIRST_CLASS])
    h0, h1 = np.uint32(jobs[job, H0]), np.uint32(jobs[job, H1])
    trellis = np.uint32(0)
    i = mine
    scale, place = np.uint32(0), np.int32(0)  # of the next symbol, read a round ahead
    if lane < members and i < n:
        scale, place = np.uint32(index[symbol_at + i]), np.int32(position[symbol_at + i])
    for _ in range((n - group * WARP + lanes - 1) // lanes if n > group * WARP else 0):
        here = lane < members and i < n
        following = np.int32(i + lanes)
        own_scale, own_place = scale, place
        if lane < members and following < n:
            scale = np.uint32(index[symbol_at + following])
            place = np.int32(position[symbol_at + following])
        need = False
        escaped = False
        moved = x
        value = np.int32(0)
        table = np.uint32(0)
        if here:
            table = np.uint32((first_class + (trellis & np.uint32(1))) * np.uint32(scales))
            table = np.uint32(table + own_scale)
            e, moved = _look_up(x, table, entry, first)
            need = moved < np.uint32(STATE_LOW)
            escaped = (e & np.uint64(ESCAPE_FLAG)) != 0
            value = np.int32(np.int64(e) >> 32)
        x, at = _renormalise(moved, need, words, at, lane, shared)
        code = OK if at <= end else NO_WORDS
        if code == OK and ballot(escaped, shared) != 0:
            width = half_width[table]
            code, value, x, at = _escape(x, escaped, value, width, words, at, end, shared)
        if code != OK:
            return np.int32(code)
        if here:
            quantizer = np.int32(first_class + (trellis & np.uint32(1)))
            k[symbol_at + i] = value
            cls[symbol_at + i] = quantizer
            if filling:
                recon = level(value, quantizer, np.int32(table), off, step)
                cuda.atomic.add(v32, target + own_place, recon)  # a sum that nobody waits for
            trellis = _next(trellis, value, h0, h1)
        i = following
    if lane < members:
        states[state_at + mine] = x
    return np.int32(LEFT_OVER if at != end else OK)


@kernel(
    "void(uint16[::1], int64[:, ::1], int32, int32[::1], int32[:, ::1], uint8[::1], int32,"
    " uint64[::1], int32[::1], uint32[::1], uint32[::1], int32[::1], uint8[::1], int32[::1],"
    " int32, int32[::1], int32[::1], int32, int32[::1])"
)
def decode_segments(
    words: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    warps: Any,
    index: Any,
    scales: Any,
    entry: Any,
    half_width: Any,
    first: Any,
    states: Any,
    k: Any,
    cls: Any,
    status: Any,
    filling: Any,
    position: Any,
    off: Any,
    step: Any,
    v32: Any,
) -> None:
    """Decode one segment of each of many slices.

    Parameters
    ----------
    words : all segments' words, and `WORD_PADDING` more
    jobs, first_job : table of jobs (`trellic.gpu.jobs`), and where this launch's begin
    counts : symbols of each job
    warps : (job less `first_job`, group) of each warp
    index : scale index of each symbol
    scales, entry, half_width, first : the tables (`Tables.coding`)
    states : rANS states, changed in place; of a fresh slice only those of the groups' first lanes
        count
    k, cls : what is decoded
    status : of each warp; changed only where something is wrong
    filling : whether the symbols are latents: their reconstructions are added to the means
    position, v32 : of each symbol in the latents, from the job's target on; latents in 1/32 step
    off, step : reconstruction tables
    """
    shared = cuda.shared.array(SCRATCH, int32)
    staged = cuda.shared.array(STAGED, uint32)
    opening = cuda.shared.array(OPENING, uint32)
    warp = cuda.blockIdx.x
    found = decode_warp(
        words,
        jobs,
        first_job + warps[warp, 0],
        warps[warp, 1],
        counts,
        index,
        scales,
        entry,
        half_width,
        first,
        states,
        k,
        cls,
        filling,
        position,
        off,
        step,
        v32,
        shared,
        staged,
        opening,
    )
    if found != OK and cuda.threadIdx.x == 0:
        status[warp] = found
