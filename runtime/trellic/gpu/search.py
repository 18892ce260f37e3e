"""The search and the reconstruction on a GPU: same bits as `trellic.quantize.reference`.

`search` and `reconstruct` have the reference's signatures; `search_batch` searches one segment of
each of many slices, on arrays in the device's memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from trellic.gpu import jobs as layout
from trellic.gpu.device import Device, DeviceArray, default_device
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.kernels.search import (
    add_reconstruction,
    find_branches,
    search_block,
    search_scalar,
    search_warps,
)
from trellic.quantize.reference import round_to_step
from trellic.quantize.search_tables import Int32s, Uint8s, checked_arguments, checked_indices

if TYPE_CHECKING:
    from trellic.entropy.tables import Tables

__all__ = ["reconstruct", "round_to_step", "search"]

Int64s = npt.NDArray[np.int64]
ROWS: Final = 1 if SIMULATED else 64  # blocks that share a job of independent symbols


def search_batch(
    device: Device,
    tables: Tables,
    jobs: Int64s,
    on_device: DeviceArray,
    first_job: int,
    room: Int64s,
    counts: DeviceArray,
    t32: DeviceArray,
    index: DeviceArray,
    k: DeviceArray,
    cls: DeviceArray,
) -> None:
    """Choose the indices of one segment of each of many slices.

    Parameters
    ----------
    jobs : int64 (jobs, COLUMNS), those of this launch, on the host
    on_device, first_job : table of all jobs in the device's memory, and where `jobs` begin there
    room : int64 (jobs,), the most symbols that each can have
    counts : symbols of each job of the whole table
    t32, index : latents less their mean, and scale index, where the jobs say
    k, cls : what is chosen
    """
    on = device.tables(tables)
    states = jobs[:, layout.STATES]
    grid = (len(jobs), ROWS)
    threads = device.spread(1)[1]
    levels = (on.rate, on.rate_zero, on.half_width, on.off, on.max_off, on.step)
    if (states == 0).any():
        search_scalar(
            grid, threads, device.stream, on_device, first_job, counts, t32, index, *levels, k, cls
        )
    if not (states > 0).any():
        return
    base = int(jobs[:, layout.SYMBOL_AT].min())
    reach = int((jobs[:, layout.SYMBOL_AT] + room).max()) - base
    cost = device.empty("branch costs", 4 * reach, np.int32)
    ks = device.empty("branch indices", 4 * reach, np.int16)
    find_branches(
        grid,
        threads,
        device.stream,
        on_device,
        first_job,
        counts,
        t32,
        index,
        base,
        on.scales,
        *levels,
        cost,
        ks,
    )
    for number in sorted({int(s) for s in states if s > 0}):
        paths, size = _paths(jobs, room, number)
        search = search_warps if number <= WARP else search_block
        search(
            len(paths),
            _threads(number, int(jobs[:, layout.LANES].max())),
            device.stream,
            on_device,
            first_job,
            counts,
            device.upload(f"paths {number}", paths),
            base,
            number,
            cost,
            ks,
            device.empty(f"survivors {number}", size, np.uint32),
            k,
            cls,
        )


def _threads(states: int, lanes: int) -> int:
    """Return the threads of a block; the simulator saves those without a lane."""
    together = min(max(WARP // states, 1), 1 << (lanes - 1).bit_length())
    return states * together if SIMULATED else max(states, WARP)


def _paths(jobs: Int64s, room: Int64s, states: int) -> tuple[Int64s, int]:
    """Return (job, first lane, place of survivors) of each block, and the survivors' words."""
    together = max(WARP // states, 1)  # lanes that a block serves
    own = np.flatnonzero(jobs[:, layout.STATES] == states)
    lanes = jobs[own, layout.LANES]
    blocks = -(-lanes // together)
    job = np.repeat(own, blocks)
    within = np.arange(len(job)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    tiles = -(-room[job] // (jobs[job, layout.LANES] * WARP))
    words = tiles * max(states, WARP)
    paths = np.stack([job, within * together, np.cumsum(words) - words], axis=1)
    return paths.astype(np.int64), max(int(words.sum()), 1)


def reconstruct_batch(
    device: Device,
    tables: Tables,
    on_device: DeviceArray,
    first_job: int,
    number: int,
    counts: DeviceArray,
    k: DeviceArray,
    cls: DeviceArray,
    index: DeviceArray,
    position: DeviceArray,
    target_at: DeviceArray,
    v32: DeviceArray,
) -> None:
    """Add reconstructions to the means at the symbols' positions; see `add_reconstruction`."""
    on = device.tables(tables)
    add_reconstruction(
        (number, ROWS),
        device.spread(1)[1],
        device.stream,
        on_device,
        first_job,
        counts,
        k,
        cls,
        index,
        position,
        target_at,
        on.scales,
        on.off,
        on.step,
        v32,
    )


# ---- one segment, with the reference's signatures ----


def search(
    t32: Int32s, scale_index: Uint8s, lanes: int, states: int, tables: Tables, lam: int
) -> tuple[Int32s, Uint8s]:
    """Choose the indices that minimise ``sum(16 * error^2 + lam * rate)``; see the reference."""
    checked_arguments(t32, scale_index, lanes, states, tables, lam)
    device, n = default_device(), len(t32)
    jobs = np.array([layout.describe(lanes, 0, 0, states, fresh=False, lam=lam)], np.int64)
    k, cls = device.empty("k", n, np.int32), device.empty("cls", n, np.uint8)
    search_batch(
        device,
        tables,
        jobs,
        device.upload("jobs", jobs),
        0,
        np.array([n], np.int64),
        device.upload("counts", np.array([n], np.int32)),
        device.upload("t32", t32),
        device.upload("index", scale_index),
        k,
        cls,
    )
    return device.fetch(k), device.fetch(cls)


def reconstruct(k: Int32s, cls: Uint8s, scale_index: Uint8s, tables: Tables) -> Int32s:
    """Return the reconstruction of every index, in 1/32 step; see the reference."""
    checked_indices(k, cls, scale_index, tables)
    device, n = default_device(), len(k)
    jobs = np.array([layout.describe(1, 0, 0, 0, fresh=False)], np.int64)
    v32 = device.zeros("v32", n)
    reconstruct_batch(
        device,
        tables,
        device.upload("jobs", jobs),
        0,
        1,
        device.upload("counts", np.array([n], np.int32)),
        device.upload("k", k.astype(np.int32)),
        device.upload("cls", cls.astype(np.uint8)),
        device.upload("index", scale_index.astype(np.uint8)),
        device.upload("position", np.arange(n, dtype=np.int32)),
        device.upload("target", np.zeros(1, np.int64)),
        v32,
    )
    return device.fetch(v32)
