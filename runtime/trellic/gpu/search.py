"""The search of a batch: launches of `trellic.gpu.kernels.search`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import Tables
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.kernels.search import (
    find_branches,
    search_block,
    search_scalar,
    search_warps,
)
from trellic.gpu.state import Jobs, Symbols

Int64s = npt.NDArray[np.int64]


def search_batch(
    device: Device, tables: Tables, jobs: Jobs, k: int, symbols: Symbols, v32: DeviceArray
) -> None:
    """Choose the indices of one context step of all slices, and fill in their reconstructions.

    Parameters
    ----------
    jobs : of the slices, with `search_paths` brought along
    k : number of the step
    symbols : `t32`, `index` and `position` are read, `k` and `cls` written, where the jobs say
    v32 : int32, flat: means of the latents, to which the reconstructions are added
    """
    on, own = device.tables(tables), jobs.plan.of_step(k)
    rows, room = jobs.plan.rows[own], jobs.plan.rooms[k]
    states = rows[:, columns.STATES]
    levels = (on.rate, on.rate_zero, on.half_width, on.off, on.max_off, on.step)
    given = (jobs.table, own.start, jobs.counts, symbols.t32, symbols.index)
    chosen = (symbols.k, symbols.cls)
    if (states == 0).any():
        scalar = (*chosen, symbols.position, on.scales, v32)
        search_scalar(*device.grid(len(states)), *given, *levels, *scalar)
    if not (states > 0).any():
        return
    base, cost, ks = branches(device, jobs.plan, k)
    find_branches(*device.grid(len(states)), *given, base, on.scales, *levels, cost, ks)
    widest = int(rows[:, columns.LANES].max())
    for number in _kinds(states):
        paths = jobs.staged[f"paths {k} {number}"]
        search = search_warps if number <= WARP else search_block
        search(
            *(len(paths), _threads(number, widest), device.stream),
            *(jobs.table, own.start, jobs.counts, paths, base, number, cost, ks),
            device.empty(f"survivors {number}", _paths(rows, room, number)[1], np.uint32),
            *(*chosen, symbols.index, symbols.position),
            *(on.scales, on.off, on.step, v32),
        )


def branches(device: Device, plan: columns.JobPlan, k: int) -> tuple[int, DeviceArray, DeviceArray]:
    """Return where a step's symbols begin, and room for costs and indices of their branches."""
    rows = plan.rows[plan.of_step(k)]
    base = int(rows[:, columns.SYMBOL_AT].min())
    reach = int((rows[:, columns.SYMBOL_AT] + plan.rooms[k]).max()) - base
    cost = device.empty("branch costs", 4 * reach, np.int32)
    return base, cost, device.empty("branch indices", 4 * reach, np.int16)


def paths_of_all(jobs: Int64s, room: Int64s) -> tuple[Int64s, int, int]:
    """Return paths as `_paths` has them, of all trellises, in the order of their jobs.

    Then the survivors' words, and the threads that a block needs.
    """
    found, at, threads = [np.zeros((0, 3), np.int64)], 0, 1
    for number in _kinds(jobs[:, columns.STATES]):
        paths, words = _paths(jobs, room, number)
        paths[:, 2] += at
        found.append(paths)
        at += words
        threads = max(threads, _threads(number, int(jobs[:, columns.LANES].max())))
    joined = np.concatenate(found)
    return joined[np.argsort(joined[:, 0], kind="stable")], at, threads


def search_paths(plan: columns.JobPlan) -> dict[str, Int64s]:
    """Return the tables of each step that `search_batch` needs on the device."""
    found = {}
    for k in range(len(plan.rooms)):
        rows = plan.rows[plan.of_step(k)]
        for number in _kinds(rows[:, columns.STATES]):
            found[f"paths {k} {number}"] = _paths(rows, plan.rooms[k], number)[0]
    return found


def _kinds(states: Int64s) -> list[int]:
    """Return the numbers of states of the trellises that occur."""
    return sorted({int(s) for s in states if s > 0})


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
