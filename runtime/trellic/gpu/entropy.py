"""The entropy coder on a GPU: same bytes as `trellic.entropy.reference`.

`encode` and `Decoder` have the reference's signatures, for one slice at a time; `encode_batch` and
`decode_batch` launch for a whole batch of slices at once, on arrays in the device's memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trellic.entropy import lanes as layout
from trellic.entropy.lanes import GROUP, STATE_LOW, Segment
from trellic.entropy.tables import Tables
from trellic.errors import CorruptStream, TruncatedStream
from trellic.gpu import jobs as layout_jobs
from trellic.gpu.device import Device, DeviceArray, default_device
from trellic.gpu.kernels.decode import (
    LEFT_OVER,
    LONG_ESCAPE,
    LONG_FORM,
    NO_WORDS,
    OK,
    TRUNCATED,
    decode_segments,
)
from trellic.gpu.kernels.encode import encode_slices, gather_words
from trellic.gpu.kernels.kernel import SIMULATED, WARP
from trellic.limits import MAX_INDEX

__all__ = ["Decoder", "Segment", "encode"]

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]
Uint32s = npt.NDArray[np.uint32]


def warp_threads(lanes: int) -> int:
    """Return the threads of a warp's block; the simulator saves those without a lane."""
    return min(WARP, lanes) if SIMULATED else WARP


def decode_batch(
    device: Device,
    tables: Tables,
    words: DeviceArray,
    jobs: DeviceArray,
    first_job: int,
    counts: DeviceArray,
    warps: DeviceArray,
    index: DeviceArray,
    states: DeviceArray,
    k: DeviceArray,
    cls: DeviceArray,
    status: DeviceArray,
    widest: int = WARP,
) -> None:
    """Decode one segment of each of many slices; see `cuda_decode.decode_segments`.

    `widest` is the largest number of lanes among the jobs.
    """
    on = device.tables(tables)
    decode_segments(
        len(warps),
        warp_threads(widest),
        device.stream,
        words,
        jobs,
        first_job,
        counts,
        warps,
        index,
        on.scales,
        on.entry,
        on.half_width,
        on.first,
        states,
        k,
        cls,
        status,
    )


def encode_batch(
    device: Device,
    tables: Tables,
    jobs: Int64s,
    counts: Int32s,
    order: Int32s,
    k: DeviceArray,
    cls: DeviceArray,
    index: DeviceArray,
) -> list[list[bytes]]:
    """Code all segments of many slices.

    Parameters
    ----------
    jobs : int64 (jobs, COLUMNS), on the host; the columns for words are filled in here
    counts : int32 (jobs,), symbols of each
    order : int32 (slices, segments), jobs of each slice in coding order; -1 for none, only in front
    k, cls, index : what is to be coded, where the jobs say

    Returns
    -------
    for each slice its segments
    """
    on = device.tables(tables)
    room, groups = layout_jobs.reserve(jobs, counts)
    lanes = jobs[order[:, -1], layout_jobs.LANES]
    warps = layout_jobs.warps(lanes.tolist())
    words = device.empty("encoded words", room, np.uint16)
    used = device.empty("used words", groups, np.int32)
    heads = device.empty("first states", _states(jobs), np.uint32)
    encode_slices(
        len(warps),
        warp_threads(int(lanes.max(initial=1))),
        device.stream,
        device.upload("coding order", order),
        0,
        device.upload("jobs", jobs),
        device.upload("counts", counts),
        device.upload("encoding warps", warps),
        k,
        cls,
        index,
        on.scales,
        on.entry,
        on.zero,
        on.half_width,
        words,
        used,
        heads,
    )
    used_host = device.fetch(used)
    return _segments(jobs, order, _gathered(device, jobs, words, used_host), device.fetch(heads))


def _states(jobs: Int64s) -> int:
    return int((jobs[:, layout_jobs.STATE_AT] + jobs[:, layout_jobs.LANES]).max(initial=0))


def _gathered(
    device: Device, jobs: Int64s, words: DeviceArray, used: Int32s
) -> list[list[Uint16s]]:
    """Bring the words of all groups to the host in one copy; split them by job and group."""
    groups = -(-jobs[:, layout_jobs.LANES] // GROUP)
    job = np.repeat(np.arange(len(jobs)), groups)
    group = np.arange(len(job)) - jobs[job, layout_jobs.USED_AT]
    ends = jobs[job, layout_jobs.REGION_AT] + (group + 1) * jobs[job, layout_jobs.REGION]
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
            at, lanes = jobs[job, layout_jobs.STATE_AT], jobs[job, layout_jobs.LANES]
            states = heads[at : at + lanes : GROUP] if job == own[0] else ()
            parts.append(layout.pack(states, words[job]))
        slices.append(parts)
    return slices


def error_of(status: int) -> CorruptStream | TruncatedStream:
    """Return what is wrong with a segment, from its status (which is not OK)."""
    errors: dict[int, CorruptStream | TruncatedStream] = {
        NO_WORDS: CorruptStream("a group that runs out of words", expected="more words"),
        LEFT_OVER: CorruptStream("words left over in a group", expected="none"),
        LONG_ESCAPE: CorruptStream(
            "an escape of more than 15 digits", expected=f"|k| <= {MAX_INDEX}"
        ),
        TRUNCATED: TruncatedStream("a segment of too few words", expected="more for its groups"),
        LONG_FORM: CorruptStream("a small number of words in the long form", expected="the short"),
    }
    return errors[status]


# ---- one slice, with the reference's signatures ----


def encode(segments: Sequence[Segment], tables: Tables, lanes: int) -> list[bytes]:
    """Code all segments of a slice; see the reference."""
    layout.check_segments(segments, tables, lanes)
    if not segments:
        return []
    device = default_device()
    counts = np.array([len(segment.k) for segment in segments], np.int32)
    at = (np.cumsum(counts) - counts).tolist()
    rows = [layout_jobs.describe(lanes, 0, start, 0, fresh=False) for start in at]
    k = np.concatenate([segment.k for segment in segments])
    table = np.concatenate([segment.table for segment in segments])
    cls = (table // tables.scales).astype(np.uint8)
    index = (table % tables.scales).astype(np.uint8)
    order = np.arange(len(segments), dtype=np.int32)[None]
    arrays = [device.upload(f"symbols {i}", a) for i, a in enumerate((k, cls, index))]
    return encode_batch(device, tables, np.array(rows, np.int64), counts, order, *arrays)[0]


class Decoder:
    """Decodes the segments of one slice, in order; see the reference."""

    def __init__(self, first_segment: bytes, tables: Tables, lanes: int) -> None:
        layout.check_lanes(lanes)
        self._tables, self._lanes, self._first = tables, lanes, True
        self._states = np.full(lanes, STATE_LOW, np.uint32)
        self._states[::GROUP] = layout.unpack_states(first_segment, lanes)

    def scalar(self, segment: bytes, scale_index: Uint8s) -> Int32s:
        """Decode a segment of the scalar quantizer; see the reference."""
        return self._segment(segment, scale_index, 0)[0]

    def trellis(
        self, segment: bytes, scale_index: Uint8s, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        """Decode a segment whose quantizers follow a trellis; see the reference.

        The transition table must be one of `trellic.quantize.trellis.next_state`: a GPU computes
        it.
        """
        layout.check_next_state(next_state)
        return self._segment(segment, scale_index, len(next_state))

    def finish(self) -> None:
        """Check that every lane is back where the encoder began; see the reference."""
        layout.check_final(self._states)

    def _segment(self, segment: bytes, scale_index: Uint8s, states: int) -> tuple[Int32s, Uint8s]:
        layout.check_scale_index(scale_index, self._tables)
        if len(segment) % 2 or (
            self._first and len(segment) < layout.STATE_BYTES * layout.group_count(self._lanes)
        ):
            raise CorruptStream(f"a segment of {len(segment)} bytes", expected="whole words")
        device, n = default_device(), len(scale_index)
        row = layout_jobs.describe(self._lanes, 0, 0, states, fresh=self._first)
        row[layout_jobs.WORDS] = len(segment) // 2
        words = np.zeros(len(segment) // 2 + layout_jobs.WORD_PADDING, np.uint16)
        words[: len(segment) // 2] = np.frombuffer(segment, "<u2")
        warps = layout_jobs.warps([self._lanes])
        state = device.upload("states", self._states)
        k, cls = device.empty("k", n, np.int32), device.empty("cls", n, np.uint8)
        status = device.zeros("status", len(warps))
        decode_batch(
            device,
            self._tables,
            device.upload("words", words),
            device.upload("jobs", np.array([row], np.int64)),
            0,
            device.upload("counts", np.array([n], np.int32)),
            device.upload("warps", warps),
            device.upload("index", scale_index),
            state,
            k,
            cls,
            status,
            self._lanes,
        )
        wrong = [s for s in device.fetch(status).tolist() if s != OK]
        if wrong:
            raise error_of(wrong[0])
        self._states = device.fetch(state)
        self._first = False
        return device.fetch(k), device.fetch(cls)
