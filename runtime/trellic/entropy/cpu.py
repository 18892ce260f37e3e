"""The entropy coder compiled for CPUs: same bytes as `trellic.entropy.reference`.

How one symbol costs little: the 32 lanes of a group are independent of one another, so that a core
works on many at once. The top bits of a slot give the first symbol that can lie there, and whether
it is the next one is a selection, not a branch; only where three or more symbols share 128 slots,
in the tails of a table, does a loop run. Taking a word is a selection too: the word is read before
it is known whether it is needed, from an array long enough for that, and the words taken are
counted once a round.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic._numba import njit
from trellic.entropy import lanes as layout
from trellic.entropy.lanes import (
    EXPONENT_BITS,
    GROUP,
    MAX_DIGITS,
    STATE_LOW,
    Segment,
    Uint16s,
    Uint32s,
)
from trellic.entropy.tables import BUCKET_BITS, ESCAPE_FLAG, MAX_INDEX, PRECISION, Tables
from trellic.errors import CorruptStream

__all__ = ["Decoder", "Segment", "encode"]

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Int16s = npt.NDArray[np.int16]
Uint8s = npt.NDArray[np.uint8]

SLOT_MASK: Final = (1 << PRECISION) - 1
BUCKET_SHIFT: Final = PRECISION - BUCKET_BITS
ALWAYS_SCALAR: Final = np.zeros((1, 2), np.uint8)  # the trellis of one state, for class 0
OK, NO_WORDS, LEFT_OVER, LONG_ESCAPE = range(4)


@njit
def _put(x: int, words: Uint16s, at: int, cumulative: int, freq: int, bits: int) -> tuple[int, int]:
    """Push an interval of `bits` precision, after moving a word out if need be."""
    if x >= freq << (32 - bits):
        at -= 1
        words[np.uint64(at)] = x & 0xFFFF
        x >>= 16
    quotient = np.uint32(x) // np.uint32(freq)
    return (int(quotient) << bits) + cumulative + x - int(quotient) * freq, at


@njit
def _encode_group(
    k: Int32s,
    table: Uint16s,
    lanes: int,
    group: int,
    freq: Uint32s,
    cumulative: Uint32s,
    zero: Int32s,
    half_width: Int32s,
    states: Uint32s,
    words: Uint16s,
    at: int,
) -> int:
    """Code one group of a segment backwards; words end up in ``words[result:at]``."""
    lane = group * GROUP
    width = min(GROUP, lanes - lane)
    digits = np.empty(GROUP, np.int32)
    rows = (len(k) + lanes - 1) // lanes
    for row in range(rows - 1, -1, -1):
        base = row * lanes + lane
        count = min(width, len(k) - base)
        escaped = False
        for j in range(count):
            escaped |= abs(k[base + j]) > half_width[table[base + j]]
        if escaped:
            for j in range(count - 1, -1, -1):
                value = abs(int(k[base + j])) - half_width[table[base + j]]
                digits[j] = 0
                for bit in range(MAX_DIGITS):
                    digits[j] += value >= 1 << bit
                if digits[j] > 0:
                    rest = 2 * (value - (1 << (digits[j] - 1))) + (k[base + j] < 0)
                    x, at = _put(int(states[lane + j]), words, at, rest, 1, digits[j])
                    states[lane + j] = x
            for j in range(count - 1, -1, -1):
                if digits[j] > 0:
                    one = 1 << (digits[j] - 1)
                    x, at = _put(int(states[lane + j]), words, at, one, 1, digits[j])
                    states[lane + j] = x
        for j in range(count - 1, -1, -1):
            t = np.uint32(table[base + j])
            symbol = min(abs(int(k[base + j])), half_width[t] + 1)
            if k[base + j] < 0 and symbol <= half_width[t]:
                symbol = -symbol
            entry = np.uint32(zero[t] + symbol)
            x, at = _put(
                int(states[lane + j]),
                words,
                at,
                int(cumulative[entry]),
                int(freq[entry]),
                PRECISION,
            )
            states[lane + j] = x
    return at


@njit
def _encode_states(x: Uint32s, words: Uint16s, at: int) -> int:
    """Code the states of a group's lanes through its first one."""
    for lane in range(len(x) - 1, 0, -1):
        high = int(x[lane]) >> 16
        exponent = 0
        while high >> (exponent + 1):
            exponent += 1
        at -= 1
        words[at] = x[lane] & 0xFFFF
        if exponent > 0:
            first, at = _put(int(x[0]), words, at, high - (1 << exponent), 1, exponent)
            x[0] = first
        first, at = _put(int(x[0]), words, at, exponent, 1, EXPONENT_BITS)
        x[0] = first
    return at


def encode(segments: Sequence[Segment], tables: Tables, lanes: int) -> list[bytes]:
    """Code all segments of a slice.

    Arguments, result, errors and bytes are those of `trellic.entropy.reference.encode`. Releases
    the GIL; memory beyond the result is two bytes for each symbol and four for each escape.
    """
    layout.check_segments(segments, tables, lanes)
    states = np.full(lanes, STATE_LOW, np.uint32)
    packed: list[bytes] = []
    for number in range(len(segments) - 1, -1, -1):
        k = np.ascontiguousarray(segments[number].k)
        table = np.ascontiguousarray(segments[number].table)
        escapes = int((np.abs(k) > tables.for_encoder.half_width[table]).sum())
        words = np.empty(len(k) + 2 * escapes + 3 * lanes, np.uint16)
        groups = []
        at = len(words)
        for group in range(layout.group_count(lanes)):
            end = at
            at = _encode_group(k, table, lanes, group, *tables.for_encoder, states, words, end)
            if number == 0:
                at = _encode_states(states[group * GROUP : (group + 1) * GROUP], words, at)
            groups.append(words[at:end])
        packed.append(layout.pack(states[::GROUP] if number == 0 else (), groups))
    return packed[::-1]


@njit
def _escapes(
    k: Int32s,
    cls: Uint8s,
    scale_index: Uint8s,
    scales: int,
    base: int,
    half_width: Int32s,
    x: Uint32s,
    words: Uint16s,
    at: int,
    end: int,
) -> tuple[int, int]:
    """Decode the two extra rounds of those lanes whose index is ``K + 1``."""
    digits = np.zeros(GROUP, np.int32)
    for j in range(len(x)):
        i = base + j
        if k[i] > half_width[cls[i] * scales + scale_index[i]]:
            count = 1
            while (x[j] >> (count - 1)) & 1 == 0 and count <= MAX_DIGITS:
                count += 1
            if count > MAX_DIGITS:
                return LONG_ESCAPE, at
            digits[j] = count
            moved = int(x[j]) >> count
            if moved < STATE_LOW:
                moved = moved << 16 | words[at]
                at += 1
            x[j] = moved
    if at > end:
        return NO_WORDS, at
    for j in range(len(x)):
        if digits[j] > 0:
            i = base + j
            rest = (int(x[j]) & ((1 << digits[j]) - 1)) >> 1
            width = half_width[cls[i] * scales + scale_index[i]]
            magnitude = width + (1 << (digits[j] - 1)) + rest
            if magnitude > MAX_INDEX:
                return LONG_ESCAPE, at
            k[i] = -magnitude if x[j] & 1 else magnitude
            moved = int(x[j] >> digits[j])
            if moved < STATE_LOW:
                moved = moved << 16 | words[at]
                at += 1
            x[j] = moved
    return OK if at <= end else NO_WORDS, at


@njit
def _decode_states(words: Uint16s, at: int, end: int, x: Uint32s) -> int:
    """Decode the states of a group's lanes but the first; return where its symbols' words begin.

    What is read beyond `end` is noticed after the first round at the latest.
    """
    for lane in range(1, len(x)):
        high = 1
        for part in range(2):
            bits = EXPONENT_BITS if part == 0 else high
            value = int(x[0]) & ((1 << bits) - 1)
            moved = int(x[0]) >> bits
            if moved < STATE_LOW:
                moved = moved << 16 | words[at]
                at += 1
            x[0] = moved
            high = value if part == 0 else 1 << bits | value
        if at >= end:
            return end + 1
        x[lane] = high << 16 | words[at]
        at += 1
    return at


@njit
def _decode_group(
    words: Uint16s,
    at: int,
    end: int,
    lanes: int,
    group: int,
    scale_index: Uint8s,
    scales: int,
    first_class: int,
    next_state: Uint8s,
    entry: Uint32s,
    zero: Int32s,
    half_width: Int32s,
    first: Int16s,
    states: Uint32s,
    k: Int32s,
    cls: Uint8s,
) -> int:
    """Decode one group of a segment; its words are ``words[at:end]``, 32 more can be read."""
    if at > end:
        return NO_WORDS
    width = min(GROUP, lanes - group * GROUP)
    x = states[group * GROUP : group * GROUP + width]
    trellis = np.zeros(GROUP, np.uint8)
    before = np.zeros(GROUP, np.uint8)
    for base in range(group * GROUP, len(k), lanes):
        count = min(width, len(k) - base)
        flags = np.uint32(0)
        for j in range(count):
            i = np.uint64(base + j)
            state = trellis[j]
            c = first_class + (state & 1)
            t = np.uint32(c * scales + scale_index[i])
            slot = np.uint32(x[j] & np.uint32(SLOT_MASK))
            near = int(first[(t << np.uint32(BUCKET_BITS)) | (slot >> np.uint32(BUCKET_SHIFT))])
            place = np.uint32(zero[t] + near)
            e = entry[place]
            following = entry[np.uint32(place + np.uint32(1))]
            if slot >= (following & np.uint32(0xFFFF)):
                e = following
                near += 1
                place += np.uint32(1)
            while slot - (e & np.uint32(0xFFFF)) >= ((e >> np.uint32(16)) & np.uint32(SLOT_MASK)):
                place += np.uint32(1)
                near += 1
                e = entry[place]
            freq = (e >> np.uint32(16)) & np.uint32(SLOT_MASK)
            moved = np.uint32(
                freq * (x[j] >> np.uint32(PRECISION)) + slot - (e & np.uint32(0xFFFF))
            )
            need = moved < np.uint32(STATE_LOW)
            taken = np.uint32((moved << np.uint32(16)) | words[np.uint64(at)])
            x[j] = taken if need else moved
            at += int(need)
            flags |= e
            k[i] = near
            cls[i] = c
            before[j] = state
            trellis[j] = next_state[np.uint32(state), np.uint32(near & 1)]
        if at > end:
            return NO_WORDS
        if flags & np.uint32(ESCAPE_FLAG):
            status, at = _escapes(
                k, cls, scale_index, scales, base, half_width, x[:count], words, at, end
            )
            if status != OK:
                return status
            for j in range(count):
                trellis[j] = next_state[before[j], k[base + j] & 1]
    return OK if at == end else LEFT_OVER


class Decoder:
    """Decodes the segments of one slice, in order.

    Arguments, results, errors and bits are those of `trellic.entropy.reference.Decoder`. Releases
    the GIL while it works; one decoder is for one thread at a time.
    """

    def __init__(self, first_segment: bytes, tables: Tables, lanes: int) -> None:
        layout.check_lanes(lanes)
        self._tables = tables
        self._lanes = lanes
        self._states = np.full(lanes, STATE_LOW, np.uint32)
        self._states[::GROUP] = layout.unpack_states(first_segment, lanes)
        self._first = True

    def scalar(self, segment: bytes, scale_index: Uint8s) -> Int32s:
        """Decode a segment of the scalar quantizer; see the reference."""
        return self._segment(segment, scale_index, 0, ALWAYS_SCALAR)[0]

    def trellis(
        self, segment: bytes, scale_index: Uint8s, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        """Decode a segment whose quantizers follow a trellis; see the reference."""
        layout.check_next_state(next_state)
        return self._segment(segment, scale_index, 1, np.ascontiguousarray(next_state))

    def finish(self) -> None:
        """Check that every lane is back where the encoder began; see the reference."""
        layout.check_final(self._states)

    def _segment(
        self, segment: bytes, scale_index: Uint8s, first_class: int, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        layout.check_scale_index(scale_index, self._tables)
        words, bounds = layout.unpack(segment, self._lanes, self._first)
        index = np.ascontiguousarray(scale_index)
        k = np.empty(len(index), np.int32)
        cls = np.empty(len(index), np.uint8)
        for group in range(layout.group_count(self._lanes)):
            at, end = int(bounds[group]), int(bounds[group + 1])
            if self._first:
                mine = self._states[group * GROUP : (group + 1) * GROUP]
                at = _decode_states(words, at, end, mine)
            status = _decode_group(
                words,
                at,
                end,
                self._lanes,
                group,
                index,
                self._tables.scales,
                first_class,
                next_state,
                *self._tables.for_decoder,
                self._states,
                k,
                cls,
            )
            if status != OK:
                raise _error(status)
        self._first = False
        return k, cls


def _error(status: int) -> CorruptStream:
    if status == NO_WORDS:
        return CorruptStream("a group that runs out of words", expected="more words")
    if status == LEFT_OVER:
        return CorruptStream("words left over in a group", expected="none")
    return CorruptStream("an escape of more than 15 digits", expected=f"|k| <= {MAX_INDEX}")
