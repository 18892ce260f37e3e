"""Where everything lies in a stream: the segment table and the offsets that follow from it.

Specification: ``docs/format.md``, sections 2, 3 and 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trellic.bitstream.fields import (
    CRC16_BYTES,
    CRC32_BYTES,
    Cursor,
    Int64,
    bits_to_bytes,
    crc16,
    pack_bits,
    unpack_bits,
)
from trellic.bitstream.front import Front, pack_front, read_front
from trellic.bitstream.header import Header
from trellic.constants import MAX_LANES
from trellic.errors import BadParameter, CorruptStream
from trellic.geometry import blocks, slice_counts

WORD_BYTES = 2
_LANE_BITS = 4
_WIDTH_BITS = 5
_MAX_WIDTH = (1 << _WIDTH_BITS) - 1
_MAX_LOG2_LANES = MAX_LANES.bit_length() - 1


@dataclass(frozen=True)
class Span:
    """A range of bytes of a file: offset of the first, and how many."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self.offset + self.length


@dataclass(frozen=True, eq=False)
class Contents:
    """The places of all parts of a stream, without the checks that follow them.

    Attributes
    ----------
    header : Header
    chunks : dict of str to Span
        Stored chunks by name.
    offsets, lengths : int64, shape (header.segments,)
        Bytes of each segment, in file order.
    size : int
        Bytes of the whole file. The header of a one-slice file does not say, so there it is the
        least.
    """

    header: Header
    chunks: dict[str, Span]
    offsets: Int64
    lengths: Int64
    size: int

    def segment(self, index: int) -> Span:
        """Return the bytes of a segment."""
        return Span(int(self.offsets[index]), int(self.lengths[index]))

    def has_check(self, index: int) -> bool:
        """Whether a CRC-16 of its own follows the segment; segment 0 shares the head's."""
        return 0 < index < self.header.segments - (self.header.slices == 1)

    @property
    def head(self) -> Span:
        """Header, segment 0 and their check: what every use of the file needs."""
        return Span(0, self.segment(0).end + CRC16_BYTES)

    def needed_for(self, slices: Iterable[int], steps: int | None = None) -> list[Span]:
        """Return the byte ranges that decode these slices, with checks; the head comes first.

        Parameters
        ----------
        slices : by number
        steps : number of passes (context steps, unless there are layers) to decode; None for all,
            like any number above theirs
        """
        steps = self.header.passes if steps is None else min(steps, self.header.passes)
        spans = [self.head]
        for index in sorted(
            self.header.segment_index(step, slice_)
            for slice_ in set(slices)
            for step in range(steps)
        ):
            span = self.segment(index)
            length = span.length + CRC16_BYTES * self.has_check(index)
            if spans[-1].end == span.offset:
                spans[-1] = Span(spans[-1].offset, spans[-1].length + length)
            else:
                spans.append(Span(span.offset, length))
        return spans


def pack_header(header: Header, chunks: Mapping[str, int], lengths: Sequence[int]) -> bytes:
    """Return all bytes of a header.

    Parameters
    ----------
    header : Header
    chunks : mapping of str to int
        Stored length of each chunk, in bytes.
    lengths : sequence of int, one for each segment
        Bytes, even.

    Raises
    ------
    BadParameter
        When a length is odd or too large, or there is not one for each segment.
    """
    if len(lengths) != header.segments:
        raise BadParameter(f"{len(lengths)} segments", expected=f"{header.segments}")
    if any(length % WORD_BYTES for length in lengths):
        raise BadParameter("a segment has an odd number of bytes", expected="whole 16-bit words")
    listed = np.array(lengths, np.int64)[: _listed(header.slices, header.segments)] // WORD_BYTES
    width = max(1, int(listed.max()).bit_length())
    if width > _MAX_WIDTH:
        raise BadParameter(f"a segment of {listed.max()} words", expected="fewer than 2**31")
    log2_lanes = [lanes.bit_length() - 1 for lanes in header.lanes[1:]]
    table = [
        pack_bits(log2_lanes, _LANE_BITS),
        pack_bits([width], _WIDTH_BITS),
        pack_bits(listed, width),
    ]
    return pack_front(header, dict(chunks)) + bits_to_bytes(table)


def view_of(data: bytes | memoryview) -> memoryview:
    """Return a view of bytes; of a copy, if they do not lie one after the other.

    Raises
    ------
    BadParameter
        When the object is not bytes, such as the name of a file.
    """
    try:
        view = memoryview(data)
        return view if view.c_contiguous else memoryview(view.tobytes())
    except TypeError:
        is_path = isinstance(data, str) or hasattr(data, "__fspath__")
        raise BadParameter(
            f"an object of type {type(data).__name__}",
            expected="the bytes of a .tlc file",
            remedy="read the file with pathlib.Path(path).read_bytes()" if is_path else "",
        ) from None


def read_contents(data: bytes | memoryview, size: int | None = None) -> Contents:
    """Read the head of a stream, check it, and return where everything lies.

    Parameters
    ----------
    data : bytes-like
        The file, or as much of its beginning as there is.
    size : int, optional
        Bytes of the whole file; the length of `data` if left out.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
        When the head is wrong or incomplete. It is not checked that the file has all bytes that the
        head announces: compare `Contents.size`.
    """
    view = view_of(data)
    cursor = Cursor(view)
    front = read_front(cursor)
    log2_lanes, words = _read_table(cursor, front)
    head = cursor.at + WORD_BYTES * int(words[0])
    cursor.take(head - cursor.at, "hyper-latents")
    if cursor.take(CRC16_BYTES, "head check") != crc16(view[:head]):
        raise CorruptStream(
            "the checksum of the header and the hyper-latents does not match",
            remedy="the file is damaged; fetch it again",
        )
    if log2_lanes.max() > _MAX_LOG2_LANES:
        raise CorruptStream(f"a slice of 2**{log2_lanes.max()} lanes", expected=f"to {MAX_LANES}")
    header = _header(front, log2_lanes)
    if header.bare and words.any():
        raise CorruptStream("the file has patches alone, and segments that are not empty")
    return _places(header, front.extension.chunks, words, head, len(view) if size is None else size)


def _listed(slices: int, segments: int) -> int:
    """Segments whose length is in the table: all except the last of a one-slice file."""
    return segments - (slices == 1)


def _read_table(cursor: Cursor, front: Front) -> tuple[Int64, Int64]:
    """Return log2 of the lanes of each slice, and the listed lengths in words."""
    side = front.extension.slice_side
    rows, columns = slice_counts(*blocks(front.width, front.height), side)
    slices = rows * columns
    listed = _listed(slices, 1 + front.passes * slices)
    before = _LANE_BITS * (slices - 1) + _WIDTH_BITS
    start = cursor.at
    bits = np.unpackbits(np.frombuffer(cursor.take(-(-before // 8), "segment table"), np.uint8))
    lanes = unpack_bits(bits[: before - _WIDTH_BITS], _LANE_BITS)
    width = int(unpack_bits(bits[before - _WIDTH_BITS : before], _WIDTH_BITS)[0])
    if width == 0:
        raise CorruptStream("the segment table has entries of 0 bits")
    cursor.at = start
    end = before + listed * width
    bits = np.unpackbits(np.frombuffer(cursor.take(-(-end // 8), "segment table"), np.uint8))
    words = unpack_bits(bits[before:end], width)
    if bits[end:].any() or width != max(1, int(words.max()).bit_length()):
        raise CorruptStream("the segment table is not in its shortest form")
    return np.concatenate([[front.first_log2_lanes], lanes]), words


def _header(front: Front, log2_lanes: Int64) -> Header:
    try:
        return Header(
            width=front.width,
            height=front.height,
            quality16=front.quality16,
            trellis=front.trellis,
            steps=front.steps,
            stream_id=front.stream_id,
            lanes=tuple((1 << log2_lanes).tolist()),
            grey=front.grey,
            slice_side=front.extension.slice_side,
            dither=front.extension.dither,
            layering=front.extension.layering,
            adapter=front.extension.adapter,
            still=front.extension.still,
            bare=front.extension.bare,
        )
    except BadParameter as error:
        raise CorruptStream(f"the header is wrong: {error}") from None


def _places(
    header: Header, stored: Mapping[str, int], words: Int64, head: int, size: int
) -> Contents:
    """Lay chunks and segments behind the head, whose check begins at offset `head`."""
    at = head + CRC16_BYTES
    chunks = {}
    for name, length in stored.items():
        chunks[name] = Span(at, length)
        at += length + CRC16_BYTES
    lengths = WORD_BYTES * words
    steps = at + np.cumsum(lengths[1:] + CRC16_BYTES)
    offsets = np.concatenate([[head - lengths[0], at], steps])[: header.segments]
    if header.slices == 1:
        rest = max(0, size - CRC32_BYTES - int(offsets[-1]))
        lengths = np.append(lengths, rest)
    total = int(offsets[-1] + lengths[-1]) + CRC16_BYTES * (header.slices > 1) + CRC32_BYTES
    return Contents(header, chunks, offsets, lengths, total)
