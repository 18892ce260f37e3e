"""The search and the reconstruction of a batch: launches of `trellic.gpu.kernels.search`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import Tables
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device, DeviceArray
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.kernels.search import (
    add_reconstruction,
    find_branches,
    search_block,
    search_scalar,
    search_warps,
)
from trellic.gpu.state import Jobs, Symbols

Int64s = npt.NDArray[np.int64]


def search_batch(device: Device, tables: Tables, jobs: Jobs, k: int, symbols: Symbols) -> None:
    """Choose the indices of one context step of all slices.

    Parameters
    ----------
    jobs : of the slices
    k : number of the step
    symbols : `t32` and `index` are read, `k` and `cls` written, where the jobs say
    """
    on, own = device.tables(tables), jobs.plan.of_step(k)
    states = jobs.plan.rows[own, columns.STATES]
    levels = (on.rate, on.rate_zero, on.half_width, on.off, on.max_off, on.step)
    given = (jobs.table, own.start, jobs.counts, symbols.t32, symbols.index)
    if (states == 0).any():
        search_scalar(*device.grid(len(states)), *given, *levels, symbols.k, symbols.cls)
    if not (states > 0).any():
        return
    rows, room = jobs.plan.rows[own], jobs.plan.rooms[k]
    base = int(rows[:, columns.SYMBOL_AT].min())
    reach = int((rows[:, columns.SYMBOL_AT] + room).max()) - base
    cost = device.empty("branch costs", 4 * reach, np.int32)
    ks = device.empty("branch indices", 4 * reach, np.int16)
    find_branches(*device.grid(len(states)), *given, base, on.scales, *levels, cost, ks)
    widest = int(rows[:, columns.LANES].max())
    for number in sorted({int(s) for s in states if s > 0}):
        paths, size = _paths(rows, room, number)
        search = search_warps if number <= WARP else search_block
        search(
            *(len(paths), _threads(number, widest), device.stream),
            *(jobs.table, own.start, jobs.counts),
            device.upload(f"paths {number}", paths),
            base,
            number,
            cost,
            ks,
            device.empty(f"survivors {number}", size, np.uint32),
            symbols.k,
            symbols.cls,
        )


def _threads(states: int, lanes: int) -> int:
    """Return the threads of a block; the simulator saves those without a lane."""
    together = min(max(WARP // states, 1), 1 << (lanes - 1).bit_length())
    return states * together if SIMULATED else max(states, WARP)


def _paths(jobs: Int64s, room: Int64s, states: int) -> tuple[Int64s, int]:
    """Return (job, first lane, place of survivors) of each block, and the survivors' words."""
    together = max(WARP // states, 1)  # lanes that a block serves
    own = np.flatnonzero(jobs[:, columns.STATES] == states)
    lanes = jobs[own, columns.LANES]
    blocks = -(-lanes // together)
    job = np.repeat(own, blocks)
    within = np.arange(len(job)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    tiles = -(-room[job] // (jobs[job, columns.LANES] * WARP))
    words = tiles * max(states, WARP)
    paths = np.stack([job, within * together, np.cumsum(words) - words], axis=1)
    return paths.astype(np.int64), max(int(words.sum()), 1)


def reconstruct_batch(
    device: Device,
    tables: Tables,
    jobs: Jobs,
    k: int,
    symbols: Symbols,
    target_at: DeviceArray,
    v32: DeviceArray,
) -> None:
    """Add the reconstructions of one context step to the means at the symbols' positions.

    Parameters
    ----------
    jobs, k, symbols : as of `search_batch`
    target_at : int64 (slices,), where the positions of each slice count from
    v32 : int32, flat; changed in place
    """
    on, own = device.tables(tables), jobs.plan.of_step(k)
    add_reconstruction(
        *device.grid(own.stop - own.start),
        *(jobs.table, own.start, jobs.counts),
        *(symbols.k, symbols.cls, symbols.index, symbols.position),
        *(target_at, on.scales, on.off, on.step, v32),
    )
