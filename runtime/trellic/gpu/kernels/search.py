"""CUDA kernels of the search, which also fill in the reconstructions of the chosen indices.

The search has two parts. `find_branches` finds the four (quantizer, parity) branches of every
latent; all are independent. `search_warps` and `search_block` then walk the trellis: a thread holds
the metric of one state, and a step is two exchanges, two additions, a comparison and a selection.
The survivors are one bit for each state, so the ballot of a warp is their compact form. A warp
serves 32 / states lanes at once, so that it is as busy with 4 states as with 32.

States need no tables. With parity checks h0, h1 (less bit 0) the way into state `s` by parity `x`
is, for the even half of the states from Q0 and for the odd half from Q1 (the top bit of `s`), ::

    before = 2 * ((s ^ (h0 if top) ^ (h1 if x)) & (states / 2 - 1)) + top

Costs fit in 32 bits: a branch is below 2^25 (`trellic.quantize.search_tables`), metrics are reduced
every 32 latents, and after 8 latents every state has been reached.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import int32, uint32

from trellic.gpu.jobs import H0, H1, LAMBDA, LANES, STATES, SYMBOL_AT, TARGET_AT
from trellic.gpu.kernels.kernel import SCRATCH, ballot, device, kernel, shuffle
from trellic.gpu.kernels.levels import level
from trellic.gpu.toolkit import cuda
from trellic.limits import MAX_INDEX, STEP32

UNREACHABLE: Final = 1 << 30  # metric of a state that no path has reached
DEAREST: Final = (1 << 31) - 1
MAX_STATES: Final = 256
TWO_ROWS: Final = 2 * MAX_STATES


@device
def _rate(k: Any, table: Any, rate: Any, zero: Any, half_width: Any) -> Any:
    width = half_width[table]
    excess = np.int32(abs(k) - width)
    at = zero[table] + (width + 1 if excess > 0 else k)
    digits = np.int32(32 - cuda.clz(np.uint32(max(excess, 0))))
    return np.int32(rate[at] + 128 * digits)


@device
def _best(
    t: Any,
    cls: Any,
    parity: Any,
    table: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    lam: Any,
) -> Any:
    """Return the cheapest index and its cost; parity 2 means both. See `trellic.quantize.cpu`."""
    stride = np.int32(1 if parity == 2 else 2)
    first = np.int32(0 if parity == 2 else parity)
    spacing = np.int32(STEP32 if cls == 0 else 2 * step)
    away = np.int32(t - first * spacing)
    unit = np.int32(stride * spacing)
    start = np.int32(first + stride * np.int32(away // unit))
    best_k, best_cost = np.int32(0), np.int32(DEAREST)
    for direction in range(2):
        sign = np.int32(2 * direction - 1)
        k = np.int32(start + stride * direction)
        going = True
        while going and abs(k) <= MAX_INDEX:
            base = np.int32(STEP32 * k if cls == 0 else 2 * k * step)
            if cls == 2 and k != 0:
                base = np.int32(base - step if k > 0 else base + step)
            slack = np.int32((base - t) * sign - max_off)
            if slack > 0 and np.int32(16 * slack * slack) > best_cost:
                going = False
            else:
                error = np.int32(t - level(k, cls, table, off, step))
                cost = np.int32(16 * error * error + lam * _rate(k, table, rate, zero, half_width))
                closer = abs(k) < abs(best_k) or (abs(k) == abs(best_k) and k > best_k)
                if cost < best_cost or (cost == best_cost and closer):
                    best_k, best_cost = k, cost
                k = np.int32(k + stride * sign)
    return best_k, best_cost


@device
def _choose(
    chosen: Any,
    quantizer: Any,
    i: Any,
    target: Any,
    k: Any,
    cls: Any,
    index: Any,
    position: Any,
    scales: Any,
    off: Any,
    step: Any,
    v32: Any,
) -> None:
    """Write the index of a symbol, and add its reconstruction to the mean of its latent."""
    k[i] = chosen
    cls[i] = quantizer
    table = np.int32(quantizer * scales + np.int32(index[i]))
    # A sum that nobody waits for; no other thread has the latent.
    cuda.atomic.add(v32, target + position[i], level(chosen, quantizer, table, off, step))


@device
def find_branch(
    branch: Any,
    lam: Any,
    t32: Any,
    index: Any,
    base: Any,
    scales: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    cost: Any,
    ks: Any,
) -> None:
    """Find one branch of a symbol, of which it is ``branch // 4``; see `find_branches`."""
    limit = np.int32((MAX_INDEX - 1) * 2 * step)
    i = branch // 4
    cls = np.int32(1 + ((branch >> 1) & 1))
    table = np.int32(cls * scales + np.int32(index[i]))
    t = np.int32(min(max(t32[i], -limit), limit))
    parity = np.int32(branch & 1)
    k, best = _best(t, cls, parity, table, rate, zero, half_width, off, max_off, step, lam)
    cost[branch - 4 * base] = best
    ks[branch - 4 * base] = k


@device
def search_one(
    i: Any,
    lam: Any,
    target: Any,
    t32: Any,
    index: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    k: Any,
    cls: Any,
    position: Any,
    scales: Any,
    v32: Any,
) -> None:
    """Choose the index of one symbol without a trellis."""
    limit = np.int32(MAX_INDEX * STEP32)
    t = np.int32(min(max(t32[i], -limit), limit))
    table = np.int32(index[i])
    chosen, _ = _best(t, 0, 2, table, rate, zero, half_width, off, max_off, step, lam)
    _choose(chosen, np.int32(0), i, target, k, cls, index, position, scales, off, step, v32)


@kernel(
    "void(int64[:, ::1], int32, int32[::1], int32[::1], uint8[::1], int64, int32, int32[::1],"
    " int32[::1], int32[::1], int32[::1], int32, int32, int32[::1], int16[::1])"
)
def find_branches(
    jobs: Any,
    first_job: Any,
    counts: Any,
    t32: Any,
    index: Any,
    base: Any,
    scales: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    cost: Any,
    ks: Any,
) -> None:
    """Find the four branches of each latent, in the order 2 * quantizer + parity.

    Block (x, y) works for job ``first_job + x``; a thread finds one branch. Branches of the symbol
    at `s` go to ``4 * (s - base)``. Jobs without a trellis are left out.
    """
    job = first_job + np.int32(cuda.blockIdx.x)
    if jobs[job, STATES] == 0:
        return
    lam = np.int32(jobs[job, LAMBDA])
    at = jobs[job, SYMBOL_AT]
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for branch in range(place, 4 * counts[job], cuda.blockDim.x * cuda.gridDim.y):
        find_branch(
            4 * at + branch,
            lam,
            t32,
            index,
            base,
            scales,
            rate,
            zero,
            half_width,
            off,
            max_off,
            step,
            cost,
            ks,
        )


@kernel(
    "void(int64[:, ::1], int32, int32[::1], int32[::1], uint8[::1], int32[::1], int32[::1],"
    " int32[::1], int32[::1], int32, int32, int32[::1], uint8[::1], int32[::1], int32,"
    " int32[::1])"
)
def search_scalar(
    jobs: Any,
    first_job: Any,
    counts: Any,
    t32: Any,
    index: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    k: Any,
    cls: Any,
    position: Any,
    scales: Any,
    v32: Any,
) -> None:
    """Choose every index of the jobs without a trellis by itself; block (x, y) as above."""
    job = first_job + np.int32(cuda.blockIdx.x)
    if jobs[job, STATES] != 0:
        return
    lam = np.int32(jobs[job, LAMBDA])
    at, target = jobs[job, SYMBOL_AT], jobs[job, TARGET_AT]
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for n in range(place, counts[job], cuda.blockDim.x * cuda.gridDim.y):
        search_one(
            at + n,
            lam,
            target,
            t32,
            index,
            rate,
            zero,
            half_width,
            off,
            max_off,
            step,
            k,
            cls,
            position,
            scales,
            v32,
        )


@device
def _before(state: Any, parity: Any, states: Any, h0: Any, h1: Any) -> Any:
    """Return the state from which `parity` leads to `state`."""
    top = np.int32(1 if 2 * state >= states else 0)
    mixed = np.int32(state)
    if top:
        mixed = np.int32(mixed ^ h0)
    if parity:
        mixed = np.int32(mixed ^ h1)
    return np.int32(2 * (mixed & (states // 2 - 1)) + top)


@device
def _count(n: Any, lane: Any, lanes: Any) -> Any:
    """Return how many of `n` latents belong to a lane."""
    return np.int32((n - lane + lanes - 1) // lanes if lane < n and lane < lanes else 0)


@device
def search_warp(
    block: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    paths: Any,
    base: Any,
    states: Any,
    cost: Any,
    ks: Any,
    survivors: Any,
    k: Any,
    cls: Any,
    index: Any,
    position: Any,
    scales: Any,
    off: Any,
    step_size: Any,
    v32: Any,
    shared: Any,
) -> None:
    """Search the trellises of one path of `search_warps`.

    Of the costs of the next ``states / 2`` latents each thread of a lane reads two, those of one
    latent and one quantizer, so many latents before they are asked for; shuffles hand them round.
    """
    thread, width = np.int32(cuda.threadIdx.x), np.int32(cuda.blockDim.x)
    job = first_job + np.int32(paths[block, 0])
    lane = np.int32(paths[block, 1] + thread // states)
    keep_at = paths[block, 2]
    lanes, n = np.int32(jobs[job, LANES]), np.int32(counts[job])
    h0, h1 = np.int32(jobs[job, H0]), np.int32(jobs[job, H1])
    at, target = jobs[job, SYMBOL_AT], jobs[job, TARGET_AT]
    branches = 4 * (at - base)
    own = np.int32(thread & (states - 1))
    head = np.int32(thread - own)
    even, odd = _before(own, 0, states, h0, h1), _before(own, 1, states, h0, h1)
    tie = np.int32(1 if odd < even else 0)  # the lower state wins a tie
    quantizer = np.int32(even & 1)
    metric = np.int32(0 if own == 0 else UNREACHABLE)
    mine = _count(n, lane, lanes)
    most = _count(n, np.int32(paths[block, 1]), lanes)
    kept = np.uint32(0)
    together = np.int32(states >> 1)  # latents whose costs a lane's threads hold
    held, held_odd, ahead, ahead_odd = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    coming = np.int32(own >> 1)  # latent of the costs that this thread reads next
    if coming < mine:
        i = branches + 4 * (np.int64(coming) * lanes + lane) + 2 * (own & 1)
        ahead, ahead_odd = np.int32(cost[i]), np.int32(cost[i + 1])
    for step in range(most):
        turn = np.int32(step & (together - 1))
        if turn == 0:
            held, held_odd = ahead, ahead_odd
            coming = np.int32(coming + together)
            if coming < mine:
                i = branches + 4 * (np.int64(coming) * lanes + lane) + 2 * (own & 1)
                ahead, ahead_odd = np.int32(cost[i]), np.int32(cost[i + 1])
        alive = step < mine
        holder = np.int32(head + 2 * turn + quantizer)
        a = np.int32(shuffle(metric, head + even, shared) + shuffle(held, holder, shared))
        b = np.int32(shuffle(metric, head + odd, shared) + shuffle(held_odd, holder, shared))
        take = np.int32(b - tie) < a
        votes = ballot(take, shared)
        if alive:
            metric = np.int32(b if take else a)
        within = np.int32(step & (width - 1))
        if within == thread:
            kept = votes
        if within == width - 1 or step == most - 1:
            survivors[keep_at + (step - within) + thread] = kept
            metric = np.int32(metric - shuffle(metric, head, shared))
    # The best final state, the lowest of equals, by a butterfly over the lane's threads.
    state = own
    distance = np.int32(1)
    while distance < states:
        other = shuffle(metric, thread ^ distance, shared)
        other_state = shuffle(state, thread ^ distance, shared)
        if other < metric or (other == metric and other_state < state):
            metric, state = np.int32(other), np.int32(other_state)
        distance = np.int32(2 * distance)
    chosen = np.int32(0)
    for tile in range((most + width - 1) // width - 1, -1, -1):
        kept = np.uint32(survivors[keep_at + width * tile + thread])
        for back in range(min(width, most - width * tile)):
            step = np.int32(min(width * tile + width, most) - 1 - back)
            votes = np.uint32(shuffle(np.int32(kept), step & (width - 1), shared))
            if step < mine:
                parity = np.int32((votes >> np.uint32(head + state)) & np.uint32(1))
                state = _before(state, parity, states, h0, h1)
                if own == (step & (states - 1)):
                    chosen = np.int32(2 * (state & 1) + parity)
            if (step & (states - 1)) == 0 and step + own < mine:
                i = np.int64(step + own) * lanes + lane
                _choose(
                    np.int32(ks[branches + 4 * i + chosen]),
                    np.int32(1 + (chosen >> 1)),
                    at + i,
                    target,
                    k,
                    cls,
                    index,
                    position,
                    scales,
                    off,
                    step_size,
                    v32,
                )


@kernel(
    "void(int64[:, ::1], int32, int32[::1], int64[:, ::1], int64, int32, int32[::1], int16[::1],"
    " uint32[::1], int32[::1], uint8[::1], uint8[::1], int32[::1], int32, int32[::1], int32,"
    " int32[::1])"
)
def search_warps(
    jobs: Any,
    first_job: Any,
    counts: Any,
    paths: Any,
    base: Any,
    states: Any,
    cost: Any,
    ks: Any,
    survivors: Any,
    k: Any,
    cls: Any,
    index: Any,
    position: Any,
    scales: Any,
    off: Any,
    step_size: Any,
    v32: Any,
) -> None:
    """Search trellises of 4 to 32 states: a warp for each 32 / states lanes.

    In the simulator a block may be narrower, `states` threads at least.

    Parameters
    ----------
    jobs, first_job, counts : table of jobs, where this step's begin, latents of each job
    paths : (job less `first_job`, first lane, place in `survivors`) of each block
    base, cost, ks : of `find_branches`
    states : of these jobs
    survivors : a word for each step of a block, rounded up to a multiple of 32
    k, cls : the chosen indices and their classes
    """
    shared = cuda.shared.array(SCRATCH, int32)
    search_warp(
        cuda.blockIdx.x,
        jobs,
        first_job,
        counts,
        paths,
        base,
        states,
        cost,
        ks,
        survivors,
        k,
        cls,
        index,
        position,
        scales,
        off,
        step_size,
        v32,
        shared,
    )


@kernel(
    "void(int64[:, ::1], int32, int32[::1], int64[:, ::1], int64, int32, int32[::1], int16[::1],"
    " uint32[::1], int32[::1], uint8[::1], uint8[::1], int32[::1], int32, int32[::1], int32,"
    " int32[::1])"
)
def search_block(
    jobs: Any,
    first_job: Any,
    counts: Any,
    paths: Any,
    base: Any,
    states: Any,
    cost: Any,
    ks: Any,
    survivors: Any,
    k: Any,
    cls: Any,
    index: Any,
    position: Any,
    scales: Any,
    off: Any,
    step_size: Any,
    v32: Any,
) -> None:
    """Search trellises of 32 to 256 states: a block of as many threads for each lane.

    Arguments are those of `search_warps`; the metrics lie in shared memory, twice, and survivors
    take states / 32 words a step.
    """
    shared = cuda.shared.array(SCRATCH, int32)
    metrics = cuda.shared.array(TWO_ROWS, int32)
    tile_words = cuda.shared.array(MAX_STATES, uint32)
    thread = np.int32(cuda.threadIdx.x)
    block = cuda.blockIdx.x
    job, lane = first_job + np.int32(paths[block, 0]), np.int32(paths[block, 1])
    keep_at = paths[block, 2]
    lanes, n = np.int32(jobs[job, LANES]), np.int32(counts[job])
    h0, h1 = np.int32(jobs[job, H0]), np.int32(jobs[job, H1])
    at, target = jobs[job, SYMBOL_AT], jobs[job, TARGET_AT]
    branches = 4 * (at - base)
    even, odd = _before(thread, 0, states, h0, h1), _before(thread, 1, states, h0, h1)
    tie = np.int32(1 if odd < even else 0)
    quantizer = np.int32(even & 1)
    count = _count(n, lane, lanes)
    metrics[thread] = 0 if thread == 0 else UNREACHABLE
    old = np.int32(0)
    set_back = np.int32(0)
    kept = np.uint32(0)
    ahead, ahead_odd = np.int32(0), np.int32(0)  # costs of the next latent, read a step ahead
    i = branches + 4 * np.int64(lane) + 2 * quantizer
    if count > 0:
        ahead, ahead_odd = np.int32(cost[i]), np.int32(cost[i + 1])
    for step in range(count):
        i += 4 * np.int64(lanes)
        own, own_odd = ahead, ahead_odd
        if step + 1 < count:
            ahead, ahead_odd = np.int32(cost[i]), np.int32(cost[i + 1])
        new = np.int32(MAX_STATES - old)
        cuda.syncthreads()
        if (step & 31) == 0:
            set_back = np.int32(metrics[old])
        a = np.int32(metrics[old + even] - set_back + own)
        b = np.int32(metrics[old + odd] - set_back + own_odd)
        set_back = np.int32(0)
        take = np.int32(b - tie) < a
        metrics[new + thread] = b if take else a
        votes = ballot(take, shared)
        if (step & 31) == (thread & 31):
            kept = votes
        if (step & 31) == 31 or step == count - 1:
            survivors[keep_at + (step >> 5) * states + thread] = kept
        old = new
    cuda.syncthreads()
    state, best = np.int32(0), np.int32(metrics[old])
    for other in range(1, states):
        if metrics[old + other] < best:
            state, best = np.int32(other), np.int32(metrics[old + other])
    chosen = np.int32(0)
    for tile in range((count + 31) // 32 - 1, -1, -1):
        cuda.syncthreads()
        tile_words[thread] = survivors[keep_at + tile * states + thread]
        cuda.syncthreads()
        steps = np.int32(min(32, count - 32 * tile))
        for back in range(steps):
            step = np.int32(steps - 1 - back)
            votes = tile_words[(state & ~31) + step]
            parity = np.int32((votes >> np.uint32(state & 31)) & np.uint32(1))
            state = _before(state, parity, states, h0, h1)
            if thread == step:
                chosen = np.int32(2 * (state & 1) + parity)
        if thread < steps:
            i = np.int64(32 * tile + thread) * lanes + lane
            _choose(
                np.int32(ks[branches + 4 * i + chosen]),
                np.int32(1 + (chosen >> 1)),
                at + i,
                target,
                k,
                cls,
                index,
                position,
                scales,
                off,
                step_size,
                v32,
            )
