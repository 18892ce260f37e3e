"""Kernels of the decoder: one group of lanes, forwards through a segment.

What makes a symbol cheap: the 32 lanes of a group are independent of one another, so a core works
on many at once. The top bits of a slot give the first symbol that can lie there, and a comparison,
not a branch, decides whether it is the next one. A loop runs only in the tails of a table, where
three or more symbols share 128 slots. Taking a word is a selection too: the word is read before it
is known whether it is needed, from an array that is long enough for that, and the words taken are
counted once per round. Tables and next trellis states have separate loops, before and after, so
that the middle loop needs only the registers that exist.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.lanes import EXPONENT_BITS, GROUP, MAX_DIGITS, STATE_LOW, Uint16s, Uint32s
from trellic.entropy.status import LEFT_OVER, LONG_ESCAPE, NO_WORDS, OK
from trellic.entropy.tables import BUCKET_BITS, ESCAPE_FLAG, PRECISION
from trellic.limits import MAX_INDEX
from trellic.support.numba import njit

Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]
Uint64s = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.unsignedinteger[Any]]

FREQUENCY: Final = (1 << PRECISION) - 1  # as a mask; also the mask of a slot
BUCKET_SHIFT: Final = PRECISION - BUCKET_BITS


@njit
def _escapes(
    k: Int32s,
    table: Uint32s,
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
        if k[i] > half_width[table[j]]:
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
            width = half_width[table[j]]
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
def decode_states(words: Uint16s, at: int, end: int, x: Uint32s) -> int:
    """Decode the states of a group's lanes except the first; return where symbols' words begin.

    Reads beyond `end` are noticed after the first round at the latest.
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
def _entry(slot: Any, table: Any, entry: Uint64s, first: Uint32s) -> Any:
    """Find the entry whose interval holds a slot."""
    place = first[np.uint32(table) << np.uint32(BUCKET_BITS) | slot >> np.uint32(BUCKET_SHIFT)]
    following = np.uint32(entry[np.uint32(place + np.uint32(1))] & np.uint64(0xFFFF))
    place = np.uint32(place + np.uint32(slot >= following))
    e = entry[place]
    while slot - (e & np.uint64(0xFFFF)) >= (e >> np.uint64(16) & np.uint64(FREQUENCY)):
        place += np.uint32(1)
        e = entry[place]
    return e


@njit
def _step(state: Any, slot: Any, e: Any) -> Any:
    """Return a state without the symbol of entry `e`, not yet renormalised."""
    freq = np.uint32(e >> np.uint64(16) & np.uint64(FREQUENCY))
    return np.uint32(
        freq * (state >> np.uint32(PRECISION)) + slot - np.uint32(e & np.uint64(0xFFFF))
    )


def _round_kernel(full: bool) -> Any:
    """Return the kernel of one round: of a whole group, whose loop can be unrolled, or of any."""

    @njit
    def decode_round(
        table: Uint32s,
        k: Int32s,
        x: Uint32s,
        words: Uint16s,
        at: int,
        entry: Uint64s,
        first: Uint32s,
    ) -> tuple[int, bool]:
        """Decode one symbol in each lane; return where the next word lies and if any escaped."""
        flags = np.uint64(0)
        for j in range(GROUP if full else len(k)):
            slot = np.uint32(x[j] & np.uint32(FREQUENCY))
            e = _entry(slot, table[j], entry, first)
            moved = _step(x[j], slot, e)
            taken = np.uint32(moved << np.uint32(16) | words[np.uint64(at)])
            need = moved < np.uint32(STATE_LOW)
            x[j] = taken if need else moved
            at += int(need)
            flags |= e
            k[j] = np.int64(e) >> 32
        return at, flags & np.uint64(ESCAPE_FLAG) != 0

    return decode_round


_full_round = _round_kernel(full=True)  # nearly all rounds are full; a tenth faster
_short_round = _round_kernel(full=False)


@njit
def decode_group(
    words: Uint16s,
    at: int,
    end: int,
    lanes: int,
    group: int,
    scale_index: Indices,
    scales: int,
    first_class: int,
    next_state: Uint8s,
    entry: Uint64s,
    half_width: Int32s,
    first: Uint32s,
    states: Uint32s,
    k: Int32s,
    cls: Uint8s,
) -> int:
    """Decode one group of a segment; its words are ``words[at:end]``, 32 more can be read.

    `scale_index` holds whole table numbers, uint16, where no trellis chooses the class.
    `next_state` is flat: the state after state `s` and parity `p` lies at ``2 s + p``. The code is
    linear, so two of its entries determine all others. Arithmetic, which runs on many lanes at
    once, replaces a table.
    """
    if at > end:
        return NO_WORDS
    lane = group * GROUP
    x = states[lane : min(lane + GROUP, lanes)]
    table = np.empty(GROUP, np.uint32)
    trellis = np.zeros(GROUP, np.uint32)
    moves = len(next_state) > 2
    after_q1 = np.uint32(next_state[2]) if moves else np.uint32(0)  # state 1, even index
    after_odd = np.uint32(next_state[1])  # state 0, odd index
    for base in range(lane, len(k), lanes):
        count = min(len(x), len(k) - base)
        for j in range(count):
            c = np.uint32(first_class) + (trellis[j] & np.uint32(1))
            table[j] = c * np.uint32(scales) + scale_index[np.uint64(base + j)]
            cls[np.uint64(base + j)] = c
        row = k[base : base + count]
        if count == GROUP:
            at, escaped = _full_round(table, row, x, words, at, entry, first)
        else:
            at, escaped = _short_round(table, row, x, words, at, entry, first)
        if at > end:
            return NO_WORDS
        if escaped:
            status, at = _escapes(k, table, base, half_width, x[:count], words, at, end)
            if status != OK:
                return status
        if moves:
            for j in range(count):
                s = trellis[j]
                q1 = np.uint32(0) - (s & np.uint32(1))  # all ones or all zeros
                odd = np.uint32(0) - (np.uint32(row[j]) & np.uint32(1))
                trellis[j] = s >> np.uint32(1) ^ after_q1 & q1 ^ after_odd & odd
    return OK if at == end else LEFT_OVER


@njit
def decode_narrow(
    words: Uint16s,
    at: int,
    end: int,
    scale_index: Indices,
    scales: int,
    first_class: int,
    next_state: Uint8s,
    entry: Uint64s,
    half_width: Int32s,
    first: Uint32s,
    x: Uint32s,
    k: Int32s,
    cls: Uint8s,
) -> int:
    """Do what `decode_group` does, for few lanes: one loop, without set-up."""
    if at > end:
        return NO_WORDS
    table = np.empty(GROUP, np.uint32)
    trellis = np.zeros(GROUP, np.uint32)
    for base in range(0, len(k), len(x)):
        count = min(len(x), len(k) - base)
        flags = np.uint64(0)
        for j in range(count):
            i = np.uint64(base + j)
            c = np.uint32(first_class + (trellis[j] & np.uint32(1)))
            t = np.uint32(c * np.uint32(scales) + scale_index[i])
            slot = np.uint32(x[j] & np.uint32(FREQUENCY))
            e = _entry(slot, t, entry, first)
            moved = _step(x[j], slot, e)
            if moved < np.uint32(STATE_LOW):
                moved = np.uint32(moved << np.uint32(16) | words[np.uint64(at)])
                at += 1
            x[j] = moved
            cls[i], table[j] = c, t
            flags |= e
            k[i] = np.int64(e) >> 32
            parity = np.uint32(e >> np.uint64(32)) & np.uint32(1)
            if e & np.uint64(ESCAPE_FLAG) == 0:
                trellis[j] = next_state[np.uint32(trellis[j] << np.uint32(1) | parity)]
        if at > end:
            return NO_WORDS
        if flags & np.uint64(ESCAPE_FLAG):
            status, at = _escapes(k, table, base, half_width, x[:count], words, at, end)
            if status != OK:
                return status
            for j in range(count):
                if abs(k[base + j]) > half_width[table[j]]:
                    trellis[j] = next_state[2 * trellis[j] + (k[base + j] & 1)]
    return OK if at == end else LEFT_OVER


@njit
def decode_divided(
    words: Uint16s,
    at: int,
    end: int,
    lanes: int,
    lane: int,
    cumulative: Uint16s,
    x: Uint32s,
    k: Int32s,
) -> int:
    """Decode one group of a segment whose symbols have frequencies of their own.

    `x` are the states of its lanes, the first of which is `lane`.
    """
    if at > end:
        return NO_WORDS
    for base in range(lane, len(k), lanes):
        for j in range(min(len(x), len(k) - base)):
            i = base + j
            slot = x[j] & np.uint32(FREQUENCY)
            part = 0
            while cumulative[i, part + 1] <= slot:
                part += 1
            before = np.uint32(cumulative[i, part])
            freq = np.uint32(cumulative[i, part + 1]) - before
            moved = np.uint32(freq * (x[j] >> np.uint32(PRECISION)) + slot - before)
            if moved < np.uint32(STATE_LOW):
                moved = np.uint32(moved << np.uint32(16) | words[at])
                at += 1
            x[j] = moved
            k[i] = part
        if at > end:
            return NO_WORDS
    return OK if at == end else LEFT_OVER
