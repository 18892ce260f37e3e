"""The GPU's coder and search for one slice at a time, with the reference's signatures.

Batches are what the product launches; these put one slice into a batch of its own, so that a kernel
can be compared with its reference and its compiled twin call by call.
"""

import functools

import numpy as np

from trellic.entropy import lanes as layout
from trellic.entropy.lanes import GROUP, STATE_LOW
from trellic.entropy.status import OK, error_of
from trellic.gpu import jobs as columns
from trellic.gpu.device import Device
from trellic.gpu.entropy import CodedWords, Warps, coding_tables, decode_batch, encode_batch
from trellic.gpu.search import search_batch, search_paths
from trellic.gpu.state import Jobs, Symbols
from trellic.quantize.search_tables import checked_arguments


@functools.cache
def device():
    return Device()


def plan(rows, counts):
    """All segments of one slice as steps of a batch."""
    counts = np.array(counts, np.int32)
    order = np.arange(len(rows), dtype=np.int32)[None]
    rooms = counts.astype(np.int64)[:, None]
    return columns.JobPlan(np.array(rows, np.int64), order, rooms, counts)


def symbols(n, **given):
    """Symbols on the device, those given among them."""
    made = Symbols.empty(device(), n)
    on = {name: device().upload(name, array) for name, array in given.items()}
    return made._replace(**on)


# ---- trellic.quantize.reference ----


def search(t32, scale_index, lanes, states, tables, lam):
    return search_and_reconstruct(t32, scale_index, lanes, states, tables, lam)[:2]


def search_and_reconstruct(t32, scale_index, lanes, states, tables, lam):
    """Search, and what the chosen indices stand for, added to means of 0."""
    checked_arguments(t32, scale_index, lanes, states, tables, lam)
    row = columns.describe(lanes, 0, 0, states, fresh=False)
    row[columns.LAMBDA] = lam
    one = plan([row], [len(t32)])
    jobs = Jobs.of(device(), one, search_paths(one))
    n = len(t32)
    made = symbols(n, t32=t32, index=scale_index, position=np.arange(n, dtype=np.int32))
    v32 = device().upload("v32", np.zeros(n, np.int32))
    search_batch(device(), tables, jobs, 0, made, v32)
    return tuple(device().fetch_all(made.k, made.cls, v32))


# ---- trellic.entropy.reference ----


def encode(segments, tables, lanes):
    layout.check_segments(segments, tables, lanes)
    if not segments:
        return []
    counts = np.array([len(segment.k) for segment in segments], np.int32)
    starts = (np.cumsum(counts) - counts).tolist()
    rows = [columns.describe(lanes, 0, start, 0, fresh=False) for start in starts]
    k = np.concatenate([segment.k for segment in segments])
    table = np.concatenate([segment.table for segment in segments])
    made = symbols(
        len(k),
        k=k,
        cls=(table // tables.scales).astype(np.uint8),
        index=(table % tables.scales).astype(np.uint8),
    )
    planned = plan(rows, counts)
    jobs = Jobs.of(device(), planned, coding_tables(planned))
    return encode_batch(device(), tables, jobs, made).segments()[0]


class Decoder:
    def __init__(self, first_segment, tables, lanes):
        layout.check_lanes(lanes)
        self._tables, self._lanes, self._first = tables, lanes, True
        self._states = np.full(lanes, STATE_LOW, np.uint32)
        self._states[::GROUP] = layout.unpack_states(first_segment, lanes)

    def scalar(self, segment, scale_index):
        return self._segment(segment, scale_index, 0)[0]

    def trellis(self, segment, scale_index, next_state):
        layout.check_next_state(next_state)
        return self._segment(segment, scale_index, len(next_state))

    def finish(self):
        layout.check_final(self._states)

    def _segment(self, segment, scale_index, states):
        layout.check_scale_index(scale_index, self._tables)
        layout.check_size(segment, self._lanes, self._first)
        n = len(scale_index)
        one = plan([columns.describe(self._lanes, 0, 0, states, fresh=self._first)], [n])
        words = columns.place_words(one.rows, [segment])
        warps = columns.warps([self._lanes])
        coded = CodedWords(
            device().upload("words", words), device().upload("states", self._states), self._lanes
        )
        made = symbols(n, index=scale_index)
        status, on_warps = device().zeros("status", len(warps)), device().upload("warps", warps)
        jobs = Jobs.of(device(), one)
        decode_batch(device(), self._tables, jobs, 0, made, coded, Warps(on_warps, status))
        wrong = [s for s in device().fetch(status).tolist() if s != OK]
        if wrong:
            raise error_of(wrong[0])
        self._states, self._first = device().fetch(coded.states), False
        return device().fetch(made.k), device().fetch(made.cls)
