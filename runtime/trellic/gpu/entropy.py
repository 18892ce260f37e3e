"""The entropy coder of a batch: launches of the rANS kernels, and the words that they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trellic.entropy import lanes as layout
from trellic.entropy.lanes import GROUP
from trellic.entropy.tables import Tables
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device, DeviceArray
from trellic.gpu.kernels.decode import decode_segments
from trellic.gpu.kernels.encode import encode_slices, gather_words
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.state import Jobs, Symbols

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]
Uint32s = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class CodedWords:
    """What a decoder reads.

    Attributes
    ----------
    words : uint16, of all segments, where the jobs say, and `WORD_PADDING` more
    states : uint32, of all lanes of all slices; changed by every launch
    widest : the largest number of lanes of a slice
    """

    words: DeviceArray
    states: DeviceArray
    widest: int


def decode_batch(
    device: Device,
    tables: Tables,
    jobs: Jobs,
    first_job: int,
    symbols: Symbols,
    coded: CodedWords,
    warps: DeviceArray,
    status: DeviceArray,
) -> None:
    """Decode one segment of each of many slices; see the kernel `decode_segments`.

    Parameters
    ----------
    jobs, first_job : of the slices, and where those of this launch begin
    symbols : `index` is read, `k` and `cls` are written
    warps : int32 (warps, 2), (job less `first_job`, group) of each
    status : int32 (warps,), see `trellic.entropy.status`; written where something is wrong
    """
    on = device.tables(tables)
    decode_segments(
        *(len(warps), _threads(coded.widest), device.stream),
        *(coded.words, jobs.table, first_job, jobs.counts, warps),
        *(symbols.index, on.scales, on.entry, on.half_width, on.first),
        *(coded.states, symbols.k, symbols.cls, status),
    )


def encode_batch(device: Device, tables: Tables, jobs: Jobs, symbols: Symbols) -> list[list[bytes]]:
    """Code all segments of all slices.

    Parameters
    ----------
    jobs : of the slices; words go to memory that is laid out here
    symbols : `k`, `cls` and `index` are what is coded

    Returns
    -------
    for each slice its segments
    """
    on, order = device.tables(tables), jobs.plan.order
    rows = jobs.plan.rows.copy()
    room, groups = columns.reserve(rows, device.fetch(jobs.counts))
    lanes = rows[order[:, -1], columns.LANES]
    warps = columns.warps(lanes.tolist())
    words = device.empty("encoded words", room, np.uint16)
    used = device.empty("used words", groups, np.int32)
    heads = device.empty("first states", _states(rows), np.uint32)
    encode_slices(
        *(len(warps), _threads(int(lanes.max(initial=1))), device.stream),
        *(device.upload("coding order", order), 0, device.upload("encoded jobs", rows)),
        *(jobs.counts, device.upload("encoding warps", warps)),
        *(symbols.k, symbols.cls, symbols.index),
        *(on.scales, on.entry, on.zero, on.half_width, words, used, heads),
    )
    used_host = device.fetch(used)
    return _segments(rows, order, _gathered(device, rows, words, used_host), device.fetch(heads))


def _threads(lanes: int) -> int:
    """Return the threads of a warp's block; the simulator saves those without a lane."""
    return min(WARP, lanes) if SIMULATED else WARP


def _states(jobs: Int64s) -> int:
    return int((jobs[:, columns.STATE_AT] + jobs[:, columns.LANES]).max(initial=0))


def _gathered(
    device: Device, jobs: Int64s, words: DeviceArray, used: Int32s
) -> list[list[Uint16s]]:
    """Bring the words of all groups to the host in one copy; split them by job and group."""
    groups = -(-jobs[:, columns.LANES] // GROUP)
    job = np.repeat(np.arange(len(jobs)), groups)
    group = np.arange(len(job)) - jobs[job, columns.USED_AT]
    ends = jobs[job, columns.REGION_AT] + (group + 1) * jobs[job, columns.REGION]
    targets = np.cumsum(used, dtype=np.int64) - used
    moves = np.stack([ends - used, targets, used], axis=1).astype(np.int64)
    total = int(used.sum(dtype=np.int64))
    packed = device.empty("packed words", max(total, 1), np.uint16)
    threads = device.spread(1)[1]
    gather_words(len(moves), threads, device.stream, words, device.upload("moves", moves), packed)
    host = device.fetch(packed)
    bounds = [*targets.tolist(), total]
    found: list[list[Uint16s]] = [[] for _ in range(len(jobs))]
    for i, owner in enumerate(job.tolist()):
        found[owner].append(host[bounds[i] : bounds[i + 1]])
    return found


def _segments(
    jobs: Int64s, order: Int32s, words: list[list[Uint16s]], heads: Uint32s
) -> list[list[bytes]]:
    slices = []
    for row in order.tolist():
        own = [job for job in row if job >= 0]
        parts = []
        for job in own:
            at, lanes = jobs[job, columns.STATE_AT], jobs[job, columns.LANES]
            states = heads[at : at + lanes : GROUP] if job == own[0] else ()
            parts.append(layout.pack(states, words[job]))
        slices.append(parts)
    return slices
