"""CUDA kernels of one whole context step, between its network and the next step's.

Warps take the tasks of a slice in order: first the tiles of its compaction, then the lanes of the
decoder or the paths of the search, then parts of what comes next, the input of the next network or
of the decoder network. A task waits only for tasks before it, which running warps have taken, so no
order of blocks can make them wait for ever. Other warps can see what a task has written before it
counts as done (`_finish`), and they read it only after that (`_wait`).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import int32, uint32

from trellic.entropy.status import OK
from trellic.gpu.jobs import LAMBDA, LANES, STATES, TARGET_AT, USED_AT
from trellic.gpu.kernels.decode import OPENING, STAGED, decode_warp
from trellic.gpu.kernels.kernel import SCRATCH, SIMULATED, WARP, device, kernel, shuffle
from trellic.gpu.kernels.predict import (
    HEIGHT,
    WIDTH,
    compact_tile,
    fill_context,
    fill_latents,
    take,
    tiles_of,
)
from trellic.gpu.kernels.search import find_branch, search_one, search_warp
from trellic.gpu.toolkit import cuda

PART: Final = 4096 if SIMULATED else 64 * WARP  # numbers of the next input that a task makes

# Columns of the counters of a slice in a step: finished tasks.
COMPACTED: Final = 0
CODED: Final = 1
COUNTERS: Final = 2

# Columns of the table of a step's paths of a slice.
PATH_AT: Final = 0
PATHS: Final = 1
RANGE_COLUMNS: Final = 2


@device
def _finish(done: Any, number: Any, row: Any, kind: Any, shared: Any) -> None:
    """Count a task as done, once others can see all that the warp has written."""
    cuda.threadfence()
    shuffle(np.int32(0), np.int32(0), shared)  # all threads have reached this point
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(done, (number, row, kind), 1)


@device
def _wait(done: Any, number: Any, row: Any, kind: Any, count: Any, shared: Any) -> None:
    """Wait until this many tasks are done, for a whole warp."""
    if cuda.threadIdx.x == 0:
        going = True
        while going:
            going = cuda.atomic.add(done, (number, row, kind), 0) < count
    shuffle(np.int32(0), np.int32(0), shared)
    cuda.threadfence()


@kernel(
    "void(int64[:, ::1], int64[:, :, ::1], int32, int32, int32, float32[::1], float32[::1], "
    "uint8[:, ::1], int64[:, ::1], int64[:, ::1], int32, int32, int32[::1], int32[:, ::1], "
    "int32[:, :, ::1], int32[::1], int64[:, ::1], int32, int32[::1], int32[::1], uint8[::1], "
    "uint16[::1], uint64[::1], int32[::1], uint32[::1], uint32[::1], int32[::1], uint8[::1], "
    "int32[::1], int32[::1], int32, float32[::1], int32, int32, int64[:, ::1], float32[::1], "
    "float32[:, ::1], float32[::1], int32)"
)
def decode_step(
    slices: Any,
    tensors: Any,
    number: Any,
    first: Any,
    channels: Any,
    mu: Any,
    log_scale: Any,
    member: Any,
    gain: Any,
    shift: Any,
    skip: Any,
    scales: Any,
    v32: Any,
    tickets: Any,
    done: Any,
    told: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    position: Any,
    index: Any,
    words: Any,
    entry: Any,
    half_width: Any,
    first_entry: Any,
    states: Any,
    k: Any,
    cls: Any,
    status: Any,
    off: Any,
    step: Any,
    features: Any,
    feature_channels: Any,
    seen: Any,
    context_scale: Any,
    x: Any,
    factor: Any,
    out: Any,
    ending: Any,
) -> None:
    """Decode one context step of all slices; block (x, y), a warp, works for slice x.

    Parameters
    ----------
    tickets, done : of (step, slice), the next task, and how many are done of each kind; 0 at first
    features, feature_channels, seen, context_scale, x : of `context_input`, for the next step
    ending : whether this is the last step
    factor, out : then: of (picture, channel), what latents are multiplied by, and where they go
    others : of `compact` and `decode_segments`; a segment's status goes where `USED_AT` says
    """
    shared = cuda.shared.array(SCRATCH, int32)
    staged = cuda.shared.array(STAGED, uint32)
    opening = cuda.shared.array(OPENING, uint32)
    row = np.int32(cuda.blockIdx.x)
    job = np.int32(first_job + row)
    tiles = tiles_of(row, slices, channels)
    groups = np.int32((jobs[job, LANES] + WARP - 1) // WARP)
    wide = np.int32(factor.shape[1] if ending else feature_channels + seen)
    total = np.int32(wide * slices[row, HEIGHT] * slices[row, WIDTH])
    tasks = np.int32(tiles + groups + (total + PART - 1) // PART)
    task = np.int32(0)
    while task < tasks:
        task = take(tickets, number, row, shared)
        if task < tiles:
            compact_tile(
                row,
                task,
                slices,
                tensors,
                number,
                first,
                channels,
                mu,
                log_scale,
                member,
                gain,
                shift,
                skip,
                scales,
                v32,
                told,
                jobs,
                first_job,
                counts,
                0,
                mu,
                factor,
                position,
                index,
                position,
                shared,
            )
            _finish(done, number, row, COMPACTED, shared)
        elif task < tiles + groups:
            _wait(done, number, row, COMPACTED, tiles, shared)
            group = np.int32(task - tiles)
            found = decode_warp(
                words,
                jobs,
                job,
                group,
                counts,
                index,
                scales,
                entry,
                half_width,
                first_entry,
                states,
                k,
                cls,
                1,
                position,
                off,
                step,
                v32,
                shared,
                staged,
                opening,
            )
            if found != OK and cuda.threadIdx.x == 0:
                status[jobs[job, USED_AT] + group] = found
            _finish(done, number, row, CODED, shared)
        elif task < tasks:
            _wait(done, number, row, CODED, np.int32(groups), shared)
            start = (task - tiles - groups) * PART + cuda.threadIdx.x
            end = (task - tiles - groups + 1) * PART
            if ending:
                fill_latents(row, start, end, cuda.blockDim.x, slices, v32, factor, out)
            else:
                fill_context(
                    row,
                    start,
                    end,
                    cuda.blockDim.x,
                    slices,
                    tensors,
                    number + 1,
                    features,
                    feature_channels,
                    v32,
                    seen,
                    context_scale,
                    x,
                )


@kernel(
    "void(int64[:, ::1], int64[:, :, ::1], int32, int32, int32, float32[::1], float32[::1], "
    "uint8[:, ::1], int64[:, ::1], int64[:, ::1], int32, int32, int32[::1], int32[:, ::1], "
    "int32[:, :, ::1], int32[::1], int64[:, ::1], int32, int32[::1], float32[::1], "
    "float32[:, ::1], int32[::1], uint8[::1], int32[::1], int64, int32[::1], int32[::1], "
    "int32[::1], int32[::1], int32, int32, int32[::1], int16[::1], int64[:, ::1], "
    "int64[:, :, ::1], uint32[::1], int32[::1], uint8[::1], float32[::1], int32, int32, "
    "int64[:, ::1], float32[::1], int32)"
)
def encode_step(
    slices: Any,
    tensors: Any,
    number: Any,
    first: Any,
    channels: Any,
    mu: Any,
    log_scale: Any,
    member: Any,
    gain: Any,
    shift: Any,
    skip: Any,
    scales: Any,
    v32: Any,
    tickets: Any,
    done: Any,
    told: Any,
    jobs: Any,
    first_job: Any,
    counts: Any,
    f: Any,
    f_gain: Any,
    position: Any,
    index: Any,
    t32: Any,
    base: Any,
    rate: Any,
    zero: Any,
    half_width: Any,
    off: Any,
    max_off: Any,
    step: Any,
    cost: Any,
    ks: Any,
    paths: Any,
    ranges: Any,
    survivors: Any,
    k: Any,
    cls: Any,
    features: Any,
    feature_channels: Any,
    seen: Any,
    context_scale: Any,
    x: Any,
    ending: Any,
) -> None:
    """Choose the indices of one step of all slices; block (x, y), a warp, works for slice x.

    For trellises of at most 32 states, and none. A warp finds the branches of the latents that it
    has brought together, or their indices where there is no trellis.

    Parameters
    ----------
    paths, ranges : of `search_warps`; of (step, slice), which are its own
    others : of `compact`, `find_branches`, `search_warps` and `decode_step`
    """
    shared = cuda.shared.array(SCRATCH, int32)
    row = np.int32(cuda.blockIdx.x)
    job = np.int32(first_job + row)
    tiles = tiles_of(row, slices, channels)
    count = np.int32(ranges[number, row, PATHS])
    wide = np.int32(0 if ending else feature_channels + seen)
    total = np.int32(wide * slices[row, HEIGHT] * slices[row, WIDTH])
    tasks = np.int32(tiles + count + (total + PART - 1) // PART)
    task = np.int32(0)
    while task < tasks:
        task = take(tickets, number, row, shared)
        if task < tiles:
            at, found = compact_tile(
                row,
                task,
                slices,
                tensors,
                number,
                first,
                channels,
                mu,
                log_scale,
                member,
                gain,
                shift,
                skip,
                scales,
                v32,
                told,
                jobs,
                first_job,
                counts,
                1,
                f,
                f_gain,
                position,
                index,
                t32,
                shared,
            )
            shuffle(np.int32(0), np.int32(0), shared)  # all lanes see the symbols
            lam = np.int32(jobs[job, LAMBDA])
            if jobs[job, STATES] == 0:
                target = jobs[job, TARGET_AT]
                for n in range(cuda.threadIdx.x, found, cuda.blockDim.x):
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
            else:
                for n in range(cuda.threadIdx.x, 4 * found, cuda.blockDim.x):
                    find_branch(
                        4 * at + n,
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
            _finish(done, number, row, COMPACTED, shared)
        elif task < tiles + count:
            _wait(done, number, row, COMPACTED, tiles, shared)
            block = ranges[number, row, PATH_AT] + task - tiles
            states = np.int32(jobs[job, STATES])
            search_warp(
                block,
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
                step,
                v32,
                shared,
            )
            _finish(done, number, row, CODED, shared)
        elif task < tasks:
            _wait(done, number, row, COMPACTED, tiles, shared)
            _wait(done, number, row, CODED, np.int32(count), shared)
            start = (task - tiles - count) * PART + cuda.threadIdx.x
            end = (task - tiles - count + 1) * PART
            fill_context(
                row,
                start,
                end,
                cuda.blockDim.x,
                slices,
                tensors,
                number + 1,
                features,
                feature_channels,
                v32,
                seen,
                context_scale,
                x,
            )
