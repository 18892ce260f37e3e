"""The entropy coder in plain Python: it defines every bit, for reading and for tests.

One lane is a range asymmetric numeral system (rANS). A state `x` takes in a symbol of frequency `f`
and cumulative frequency `c`, out of ``2**15``, and gives it back::

    encode   x -> (x // f) << 15 | (c + x % f)
    decode   slot = x & 32767;  x -> f * (x >> 15) + slot - c

States stay in ``2**16 .. 2**32 - 1``: the encoder moves the low word out where the next state would
be too large, the decoder takes it back where its state is too small. An encoder therefore works
backwards from the last symbol, from state ``2**16``, at which the decoder must arrive.

References
----------
J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with
compression rate of arithmetic coding", arXiv 1311.2540; F. Giesen, "Interleaved entropy coders",
arXiv 1402.3392.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from trellic.entropy import lanes as layout
from trellic.entropy.divided import Divided, check_cumulative
from trellic.entropy.lanes import EXPONENT_BITS, GROUP, MAX_DIGITS, STATE_LOW, Segment
from trellic.entropy.tables import PRECISION, TOTAL, FrequencyTables
from trellic.errors import CorruptStream
from trellic.limits import MAX_INDEX

WORD = 1 << 16
Int32s = npt.NDArray[np.int32]
Uint8s = npt.NDArray[np.uint8]


def rounds(n: int, lanes: int, group: int) -> Iterator[range]:
    """Yield the symbols that a group codes in each round; their lanes are in order."""
    for row in range(0, n, lanes):
        first = row + group * GROUP
        stop = min(n, row + lanes, first + GROUP)
        if first < stop:
            yield range(first, stop)


class _Encoder:
    """One group: states of its lanes and words, last word first."""

    def __init__(self, tables: FrequencyTables, lanes: int) -> None:
        self.tables = tables
        self.lanes = lanes
        self.states = [STATE_LOW] * lanes
        self.words: list[int] = []

    def interval(self, lane: int, cumulative: int, freq: int) -> None:
        x = self.states[lane]
        if x >= freq << (32 - PRECISION):
            self.words.append(x & 0xFFFF)
            x >>= 16
        self.states[lane] = (x // freq) << PRECISION | (cumulative + x % freq)

    def bits(self, lane: int, value: int, count: int) -> None:
        """Push `count` bits, 1 to 15."""
        x = self.states[lane]
        if x >= 1 << (32 - count):
            self.words.append(x & 0xFFFF)
            x >>= 16
        self.states[lane] = x << count | value

    def round(self, segment: Segment | Divided, symbols: range) -> None:
        """Code one round in reverse: the decoder reads last what comes first here."""
        if isinstance(segment, Divided):
            for i in reversed(symbols):
                cumulative, k = segment.cumulative[i].tolist(), int(segment.k[i])
                self.interval(i % self.lanes, cumulative[k], cumulative[k + 1] - cumulative[k])
            return
        escaped = [i for i in symbols if self.excess(segment, i) >= 0]
        for i in reversed(escaped):
            digits = (self.excess(segment, i) + 1).bit_length()
            rest = self.excess(segment, i) + 1 - (1 << (digits - 1))
            negative = int(segment.k[i] < 0)
            self.bits(i % self.lanes, rest << 1 | negative, digits)
        for i in reversed(escaped):
            digits = (self.excess(segment, i) + 1).bit_length()
            self.bits(i % self.lanes, 1 << (digits - 1), digits)
        for i in reversed(symbols):
            freq, symbol = self.table(segment, i)
            self.interval(i % self.lanes, sum(freq[:symbol]), freq[symbol])

    def other_states(self, first: int, stop: int) -> None:
        """Code the states of a group's lanes through its first one, last lane first."""
        for lane in range(stop - 1, first, -1):
            high = self.states[lane] >> 16
            exponent = high.bit_length() - 1
            self.words.append(self.states[lane] & 0xFFFF)
            if exponent:
                self.bits(first, high - (1 << exponent), exponent)
            self.bits(first, exponent, EXPONENT_BITS)

    def excess(self, segment: Segment, i: int) -> int:
        """Return by how much index `i` is beyond its table; negative if it is not."""
        half_width = int(self.tables.half_width.flat[segment.table[i]])
        return abs(int(segment.k[i])) - half_width - 1

    def table(self, segment: Segment, i: int) -> tuple[list[int], int]:
        """Return the frequencies of a symbol's table and its place in it."""
        half_width = int(self.tables.half_width.flat[segment.table[i]])
        start = int(self.tables.start[segment.table[i]])
        freq = self.tables.freqs[start : start + 2 * half_width + 2].tolist()
        escape = self.excess(segment, i) >= 0
        return freq, 2 * half_width + 1 if escape else int(segment.k[i]) + half_width


def encode(
    segments: Sequence[Segment | Divided], tables: FrequencyTables, lanes: int
) -> list[bytes]:
    """Code all segments of a slice.

    Parameters
    ----------
    segments
        In decoding order. A slice without segments gives no bytes.
    tables
        Integer tables of the bundle.
    lanes
        A power of two from 1 to 1024; see `trellic.entropy.choose_lanes`.

    Returns
    -------
    list of bytes
        One for each segment, each of even length. The first holds the states of all lanes too.

    Raises
    ------
    BadParameter
        An index is beyond 32767, a table does not exist, or shapes or types are wrong.
    """
    layout.check_segments(segments, tables, lanes)
    words: list[list[npt.NDArray[np.uint16]]] = [[] for _ in segments]
    states = []
    for group in range(layout.group_count(lanes)):
        encoder = _Encoder(tables, lanes)
        for number, segment in reversed(list(enumerate(segments))):
            encoder.words = []
            for symbols in reversed(list(rounds(len(segment.k), lanes, group))):
                encoder.round(segment, symbols)
            if number == 0:
                encoder.other_states(group * GROUP, min(lanes, (group + 1) * GROUP))
            words[number].append(np.array(encoder.words[::-1], np.uint16))
        states.append(encoder.states[group * GROUP])
    return [layout.pack(states if i == 0 else [], parts) for i, parts in enumerate(words)]


class Decoder:
    """Decodes the segments of one slice, in order.

    Parameters
    ----------
    first_segment : bytes
        First segment of the slice, which starts the lanes. Give it to the first `scalar` or
        `trellis` call again.
    tables
        Integer tables of the bundle.
    lanes
        Lanes of the slice, a power of two from 1 to 1024.

    Raises
    ------
    TruncatedStream, CorruptStream
        The segment has no room for the states, or a state is below ``2**16``.

    Notes
    -----
    After an error the states are wrong, so decode no further segment of the slice. Memory is
    proportional to the segment and to the requested number of latents, whatever the bytes are.
    """

    def __init__(self, first_segment: bytes, tables: FrequencyTables, lanes: int) -> None:
        layout.check_lanes(lanes)
        self._tables = tables
        self._lanes = lanes
        self._states = [STATE_LOW] * lanes
        self._states[::GROUP] = layout.unpack_states(first_segment, lanes).tolist()
        self._first = True

    def scalar(self, segment: bytes, scale_index: Uint8s) -> Int32s:
        """Decode a segment of the scalar quantizer.

        Parameters
        ----------
        segment : bytes
            The whole segment.
        scale_index : uint8, shape (n,)
            Table of each latent within class 0.

        Returns
        -------
        int32, shape (n,)
            Indices, at most 32767 in magnitude.

        Raises
        ------
        TruncatedStream, CorruptStream
            The words run out or are left over, or an escape is too long.
        """
        return self.known(segment, scale_index, np.zeros(len(scale_index), np.uint8))

    def known(self, segment: bytes, scale_index: Uint8s, cls: Uint8s) -> Int32s:
        """Decode a segment whose classes are known beforehand, such as a dithered one.

        Parameters
        ----------
        segment : bytes
            The whole segment.
        scale_index, cls : uint8, shape (n,)
            Table of each latent within its class, and the class.

        Returns
        -------
        int32, shape (n,)
            Indices, at most 32767 in magnitude.

        Raises
        ------
        TruncatedStream, CorruptStream
            The words run out or are left over, or an escape is too long.
        """
        layout.check_classes(cls, scale_index, self._tables)
        return self._segment(segment, scale_index, cls.copy(), None)

    def trellis(
        self, segment: bytes, scale_index: Uint8s, next_state: Uint8s
    ) -> tuple[Int32s, Uint8s]:
        """Decode a segment whose quantizers follow a trellis, from state 0 in every lane.

        Parameters
        ----------
        segment : bytes
            The whole segment.
        scale_index : uint8, shape (n,)
            Table of each latent within its class.
        next_state : uint8, shape (states, 2)
            State after an index of even and of odd parity; state `s` uses class ``1 + (s & 1)``.

        Returns
        -------
        k : int32, shape (n,)
            Indices, at most 32767 in magnitude.
        cls : uint8, shape (n,)
            Quantizer of each: 1 or 2.

        Raises
        ------
        TruncatedStream, CorruptStream
            The words run out or are left over, or an escape is too long.
        """
        layout.check_next_state(next_state)
        cls = np.zeros(len(scale_index), np.uint8)
        return self._segment(segment, scale_index, cls, next_state), cls

    def divided(self, segment: bytes, cumulative: npt.NDArray[np.uint16]) -> Int32s:
        """Decode a segment whose symbols have frequencies of their own.

        Parameters
        ----------
        segment : bytes
            The whole segment.
        cumulative : uint16, shape (n, m)
            As of `trellic.entropy.Divided`.

        Returns
        -------
        int32, shape (n,)
            Parts, from 0.

        Raises
        ------
        TruncatedStream, CorruptStream
            The words run out or are left over.
        """
        check_cumulative(cumulative)
        words, bounds = layout.unpack(segment, self._lanes, self._first)
        k = np.zeros(len(cumulative), np.int32)
        for group, stream in enumerate(layout.split(words, bounds)):
            stream.reverse()
            if self._first:
                self._other_states(group * GROUP, stream)
            for symbols in rounds(len(k), self._lanes, group):
                for i in symbols:
                    k[i] = self._part(i % self._lanes, cumulative[i].tolist(), stream)
            if stream:
                raise CorruptStream(f"{len(stream)} words left over", expected="none")
        self._first = False
        return k

    def finish(self) -> None:
        """Check, after the last segment, that every lane has ended where the encoder began.

        Raises
        ------
        CorruptStream
            A lane is not.
        """
        layout.check_final(np.array(self._states, np.uint32))

    def _segment(
        self, segment: bytes, scale_index: Uint8s, cls: Uint8s, next_state: Uint8s | None
    ) -> Int32s:
        """Decode a segment; with a trellis, fill in the classes that it gives."""
        layout.check_scale_index(scale_index, self._tables)
        words, bounds = layout.unpack(segment, self._lanes, self._first)
        k = np.zeros(len(scale_index), np.int32)
        trellis = [0] * self._lanes
        for group, stream in enumerate(layout.split(words, bounds)):
            stream.reverse()  # so that pop() takes the next word
            if self._first:
                self._other_states(group * GROUP, stream)
            for symbols in rounds(len(k), self._lanes, group):
                for i in symbols:
                    lane = i % self._lanes
                    if next_state is not None:
                        cls[i] = 1 + (trellis[lane] & 1)
                    table = int(cls[i]) * self._tables.scales + int(scale_index[i])
                    k[i] = self._symbol(lane, table, stream)
                self._escapes(symbols, cls, scale_index, k, stream)
                if next_state is not None:
                    for i in symbols:
                        lane = i % self._lanes
                        trellis[lane] = int(next_state[trellis[lane], k[i] & 1])
            if stream:
                raise CorruptStream(f"{len(stream)} words left over", expected="none")
        self._first = False
        return k

    def _other_states(self, first: int, stream: list[int]) -> None:
        """Decode the states of a group's lanes except the first."""
        for lane in range(first + 1, min(self._lanes, first + GROUP)):
            exponent = self._bits(first, EXPONENT_BITS, stream)
            high = 1 << exponent
            if exponent:
                high |= self._bits(first, exponent, stream)
            self._states[lane] = high << 16 | self._word(stream)

    def _bits(self, lane: int, count: int, stream: list[int]) -> int:
        x = self._states[lane]
        self._move(lane, x >> count, stream)
        return x & ((1 << count) - 1)

    def _word(self, stream: list[int]) -> int:
        if not stream:
            raise CorruptStream("a group that runs out of words", expected="one word more")
        return stream.pop()

    def _symbol(self, lane: int, table: int, stream: list[int]) -> int:
        """Decode an index, or ``K + 1`` for an escape."""
        half_width = int(self._tables.half_width.flat[table])
        start = int(self._tables.start[table])
        slot = self._states[lane] & (TOTAL - 1)
        cumulative = 0
        for k in range(-half_width, half_width + 2):
            freq = int(self._tables.freqs[start + half_width + k])
            if slot < cumulative + freq:
                break
            cumulative += freq
        self._move(lane, freq * (self._states[lane] >> PRECISION) + slot - cumulative, stream)
        return k

    def _part(self, lane: int, cumulative: list[int], stream: list[int]) -> int:
        """Decode a symbol with frequencies of its own."""
        x = self._states[lane]
        slot = x & (TOTAL - 1)
        k = next(k for k, after in enumerate(cumulative[1:]) if slot < after)
        freq = cumulative[k + 1] - cumulative[k]
        self._move(lane, freq * (x >> PRECISION) + slot - cumulative[k], stream)
        return k

    def _escapes(
        self, symbols: range, cls: Uint8s, scale_index: Uint8s, k: Int32s, stream: list[int]
    ) -> None:
        """Decode the two extra rounds of the lanes that escaped."""
        half_width = self._tables.half_width
        escaped = [i for i in symbols if k[i] > half_width[cls[i], scale_index[i]]]
        digits = []
        for i in escaped:
            x = self._states[i % self._lanes]
            count = (x & -x).bit_length()  # zeros and the one after them
            if count > MAX_DIGITS:
                raise CorruptStream("an escape of more than 15 digits", expected="at most 15")
            self._move(i % self._lanes, x >> count, stream)
            digits.append(count)
        for i, count in zip(escaped, digits, strict=True):
            value = self._bits(i % self._lanes, count, stream)
            magnitude = int(half_width[cls[i], scale_index[i]]) + (1 << (count - 1)) + (value >> 1)
            if magnitude > MAX_INDEX:
                raise CorruptStream(f"an index of {magnitude}", expected=f"at most {MAX_INDEX}")
            k[i] = -magnitude if value & 1 else magnitude

    def _move(self, lane: int, x: int, stream: list[int]) -> None:
        """Set a state, taking a word if it is too small."""
        if x < STATE_LOW:
            x = x << 16 | self._word(stream)
        self._states[lane] = x
