"""The entropy coder compiled for CPUs: same bytes as `trellic.entropy.reference`."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.entropy import lanes as layout
from trellic.entropy.cpu_decode import (
    Indices,
    decode_divided,
    decode_group,
    decode_narrow,
    decode_states,
)
from trellic.entropy.cpu_encode import encode_group, encode_states, find_entries
from trellic.entropy.divided import Divided, check_cumulative, intervals
from trellic.entropy.lanes import GROUP, STATE_LOW, Segment
from trellic.entropy.status import OK, error_of
from trellic.entropy.tables import FrequencyTables

__all__ = ["Decoder", "Segment", "encode"]

Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]

NARROW: Final = 16  # lanes below which setting up a round costs more than it saves
ALWAYS_SCALAR: Final = np.zeros((1, 2), np.uint8)  # the trellis of one state, for class 0
ALWAYS_SCALAR.flags.writeable = False  # as for more states: compiled once for both


def encode(
    segments: Sequence[Segment | Divided], tables: FrequencyTables, lanes: int
) -> list[bytes]:
    """Code all segments of a slice.

    Arguments, result, errors and bytes are those of `trellic.entropy.reference.encode`. Releases
    the GIL; memory beyond the result is six bytes for each symbol and four for each escape.
    """
    layout.check_segments(segments, tables, lanes)
    entry, zero, half_width, _ = tables.coding
    states = np.full(lanes, STATE_LOW, np.uint32)
    packed: list[bytes] = []
    for number in range(len(segments) - 1, -1, -1):
        symbols = segments[number]
        k = np.ascontiguousarray(symbols.k)
        own, place, escapes = entry, np.arange(len(k), dtype=np.uint32), 0
        if isinstance(symbols, Divided):
            own, table = _entries(symbols), np.zeros(len(k), np.uint16)
        else:
            table = np.ascontiguousarray(symbols.table)
            escapes = find_entries(k, table, zero, half_width, place)
        words = np.empty(len(k) + 2 * escapes + 3 * lanes + 1, np.uint16)
        groups = []
        at = len(words)
        for group in range(layout.group_count(lanes)):
            end = at
            at = encode_group(
                k, table, place, escapes > 0, lanes, group, own, half_width, states, words, end
            )
            if number == 0:
                at = encode_states(states[group * GROUP : (group + 1) * GROUP], words, at)
            groups.append(words[at:end])
        packed.append(layout.pack(states[::GROUP] if number == 0 else (), groups))
    return packed[::-1]


def _entries(symbols: Divided) -> npt.NDArray[np.uint64]:
    before, freq = intervals(symbols)
    return before | freq << np.uint64(16)


class Decoder:
    """Decodes the segments of one slice, in order.

    Arguments, results, errors and bits are those of `trellic.entropy.reference.Decoder`. Releases
    the GIL while it works; one decoder is for one thread at a time.
    """

    def __init__(self, first_segment: bytes, tables: FrequencyTables, lanes: int) -> None:
        layout.check_lanes(lanes)
        self._tables = tables
        self._lanes = lanes
        self._states = np.full(lanes, STATE_LOW, np.uint32)
        self._states[::GROUP] = layout.unpack_states(first_segment, lanes)
        self._first = True

    def scalar(self, segment: bytes, scale_index: Uint8s) -> Int32s:
        """Decode a segment of the scalar quantizer; see the reference."""
        layout.check_scale_index(scale_index, self._tables)
        return self._segment(segment, scale_index, 0, ALWAYS_SCALAR)[0]

    def known(self, segment: bytes, scale_index: Uint8s, cls: Uint8s) -> Int32s:
        """Decode a segment whose classes are known beforehand; see the reference."""
        layout.check_scale_index(scale_index, self._tables)
        layout.check_classes(cls, scale_index, self._tables)
        # Whole table numbers, under class 0: the kernels compiled for uint16 are this path's own.
        table = cls.astype(np.uint16) * np.uint16(self._tables.scales) + scale_index
        return self._segment(segment, table, 0, ALWAYS_SCALAR)[0]

    def trellis(
        self, segment: bytes, scale_index: Uint8s, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        """Decode a segment whose quantizers follow a trellis; see the reference."""
        layout.check_next_state(next_state)
        layout.check_scale_index(scale_index, self._tables)
        return self._segment(segment, scale_index, 1, next_state)

    def divided(self, segment: bytes, cumulative: Uint16s) -> Int32s:
        """Decode a segment whose symbols have frequencies of their own; see the reference."""
        check_cumulative(cumulative)
        words, bounds = layout.unpack(segment, self._lanes, self._first)
        k = np.empty(len(cumulative), np.int32)
        rows = np.ascontiguousarray(cumulative)
        for group in range(layout.group_count(self._lanes)):
            at, end = int(bounds[group]), int(bounds[group + 1])
            mine = self._states[group * GROUP : (group + 1) * GROUP]
            if self._first:
                at = decode_states(words, at, end, mine)
            status = decode_divided(words, at, end, self._lanes, group * GROUP, rows, mine, k)
            if status != OK:
                raise error_of(status)
        self._first = False
        return k

    def finish(self) -> None:
        """Check that every lane has ended where the encoder began; see the reference."""
        layout.check_final(self._states)

    def _segment(
        self, segment: bytes, scale_index: Indices, first_class: int, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        words, bounds = layout.unpack(segment, self._lanes, self._first)
        index = np.ascontiguousarray(scale_index)
        k = np.empty(len(index), np.int32)
        cls = np.empty(len(index), np.uint8)
        moves = np.ascontiguousarray(next_state).ravel()
        entry, _, half_width, first = self._tables.coding
        scales = self._tables.scales
        for group in range(layout.group_count(self._lanes)):
            at, end = int(bounds[group]), int(bounds[group + 1])
            if self._first:
                mine = self._states[group * GROUP : (group + 1) * GROUP]
                at = decode_states(words, at, end, mine)
            shared = (moves, entry, half_width, first)
            if self._lanes < NARROW:
                status = decode_narrow(
                    words, at, end, index, scales, first_class, *shared, self._states, k, cls
                )
            else:
                status = decode_group(
                    words,
                    at,
                    end,
                    self._lanes,
                    group,
                    index,
                    scales,
                    first_class,
                    *shared,
                    self._states,
                    k,
                    cls,
                )
            if status != OK:
                raise error_of(status)
        self._first = False
        return k, cls
