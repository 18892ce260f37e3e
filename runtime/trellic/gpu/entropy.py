"""The entropy coder of a batch: launches of the rANS kernels, and the words that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.entropy import lanes as layout
from trellic.entropy.lanes import GROUP
from trellic.entropy.tables import Tables
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device
from trellic.gpu.given import Asked, DeviceArray
from trellic.gpu.kernels.decode import decode_segments
from trellic.gpu.kernels.encode import encode_slices
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.gpu.state import Jobs, Symbols

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint16s = npt.NDArray[np.uint16]
Uint32s = npt.NDArray[np.uint32]


class Warps(NamedTuple):
    """The warps of a launch of the decoder.

    Attributes
    ----------
    of : int32 (warps, 2), (job less the launch's first, group) of each
    status : int32 (warps,), see `trellic.entropy.status`; written where something is wrong
    """

    of: DeviceArray
    status: DeviceArray


@dataclass(frozen=True)
class CodedWords:
    """The words and states that a decoder reads.

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
    warps: Warps,
    v32: DeviceArray | None = None,
) -> None:
    """Decode one segment of each of many slices; see the kernel `decode_segments`.

    Parameters
    ----------
    jobs, first_job : of the slices, and where those of this launch begin
    symbols : `index` is read, `k` and `cls` are written
    v32 : int32, flat: means of the latents, to which the reconstructions are added; None where the
        symbols are not latents
    """
    on = device.tables(tables)
    filled = device.empty("no latents to fill", 1, np.int32) if v32 is None else v32
    decode_segments(
        *(len(warps.of), _threads(coded.widest), device.stream),
        *(coded.words, jobs.table, first_job, jobs.counts, warps.of),
        *(symbols.index, on.scales, on.entry, on.half_width, on.first),
        *(coded.states, symbols.k, symbols.cls, warps.status),
        *(int(v32 is not None), symbols.position, on.off, on.step, filled),
    )


def coding_tables(plan: columns.JobPlan) -> dict[str, npt.NDArray[Any]]:
    """Arrange the words of all segments in the plan's rows; return the arrays for `encode_batch`.

    They are brought to the device with the jobs.
    """
    columns.reserve(plan.rows, plan.most)
    return {
        "coding order": plan.order,
        "encoding warps": columns.warps(plan.coded_lanes),
        "total words": np.zeros(1, np.int32),
    }


@dataclass(frozen=True)
class Coding:
    """Words that the device makes.

    Attributes
    ----------
    plan : of the jobs
    packed : all words on the device, in no order
    asked : as many of them as were guessed, on their way to the host; how many there are; where
        those of each group are; the first states
    """

    device: Device
    plan: columns.JobPlan
    packed: DeviceArray
    asked: Asked

    def segments(self) -> list[list[bytes]]:
        """Wait for the words; return the segments of each slice."""
        first, total, found, heads = self.asked.wait()
        count = int(total[0])
        if count > len(first):
            first = np.concatenate([first, self.device.fetch(self.packed[len(first) : count])])
        words = _by_job(self.plan.rows, first, found)
        return _segments(self.plan.rows, self.plan.order, words, heads)


def encode_batch(
    device: Device, tables: Tables, jobs: Jobs, symbols: Symbols, guess: int | None = None
) -> Coding:
    """Code all segments of all slices; the host does not wait.

    Parameters
    ----------
    jobs : of the slices, with `coding_tables` brought along
    symbols : `k`, `cls` and `index` are coded
    guess : expected number of words. This many are fetched at once, and the rest, if any,
        afterwards; None for as many as are possible
    """
    on, rows, staged = device.tables(tables), jobs.plan.rows, jobs.staged
    room, groups = columns.reserve(rows, jobs.plan.most)
    words = device.empty("encoded words", room, np.uint16)
    packed = device.empty("packed words", room, np.uint16)
    found = device.empty("words of groups", (groups, 2), np.int32)
    heads = device.empty("first states", jobs.plan.states, np.uint32)
    warps, total = staged["encoding warps"], staged["total words"]
    encode_slices(
        *(len(warps), _threads(max(jobs.plan.coded_lanes)), device.stream),
        *(staged["coding order"], 0, jobs.table, jobs.counts, warps),
        *(symbols.k, symbols.cls, symbols.index),
        *(on.scales, on.entry, on.zero, on.half_width, words, packed, total, found, heads),
    )
    likely = room if guess is None else min(guess, room)
    asked = device.ask("coded", packed[:likely], total, found, heads)
    return Coding(device, jobs.plan, packed, asked)


def _threads(lanes: int) -> int:
    """Return the threads of a warp's block; the simulator saves those without a lane."""
    return min(WARP, lanes) if SIMULATED else WARP


def _by_job(jobs: Int64s, words: Uint16s, found: Int32s) -> list[list[Uint16s]]:
    """Return the words of each job's groups."""
    ends = np.cumsum(-(-jobs[:, columns.LANES] // GROUP)).tolist()
    starts = [0, *ends[:-1]]
    own = found.tolist()
    return [
        [words[at : at + count] for at, count in own[start:end]]
        for start, end in zip(starts, ends, strict=True)
    ]


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
