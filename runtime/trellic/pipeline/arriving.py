"""Streams that arrive in pieces: finds the passes that can be decoded so far."""

from __future__ import annotations

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator

from trellic.bitstream import Contents, Header, cut, pass_ends, read_contents
from trellic.bitstream.contents import view_of
from trellic.errors import BadParameter, CorruptStream, TrellicWarning, TruncatedStream

PIXEL_BYTES = 64  # of a stream at most, with some reserve; a longer one is not a picture
LEAST_BYTES = 2**26


Piece = bytes | bytearray | memoryview


def files_of(chunks: Iterable[Piece] | Piece) -> Iterator[bytes]:
    """Yield a whole file of all passes that have arrived, each time that there are more.

    Parameters
    ----------
    chunks : the bytes of a stream, in order, in pieces of any length, or all in one

    Raises
    ------
    BadParameter
        When something else than bytes comes.
    StreamError
        When a part that arrived is damaged, or the stream ends before its first pass does.
    """
    data = bytearray()
    contents: Contents | None = None
    ends: list[int] = []
    shown = 0
    for piece in _pieces(chunks):
        data += view_of(memoryview(piece))
        contents = contents or _contents(bytes(data))
        if contents is None:
            continue
        _check_length(len(data), contents.header)
        if not ends and contents.header.cuttable:
            ends = pass_ends(contents)
        there = bisect_right(ends, len(data))
        if there > shown:
            shown = there
            yield cut(bytes(data), passes=there).data
    yield from _last(bytes(data), shown)


def _pieces(chunks: Iterable[Piece] | Piece) -> Iterator[Piece]:
    """Yield what comes, if it is bytes."""
    if isinstance(chunks, Piece):
        chunks = (chunks,)
    if not isinstance(chunks, Iterable):
        raise _not_bytes(chunks)
    for piece in chunks:
        if not isinstance(piece, Piece):
            raise _not_bytes(piece)
        yield piece


def _not_bytes(given: object) -> BadParameter:
    return BadParameter(
        f"an object of type {type(given).__name__}",
        expected="the bytes of a .tlc file, or an iterable of pieces of them",
    )


def _last(data: bytes, shown: int) -> Iterator[bytes]:
    """Yield the rest once all bytes have arrived."""
    header = read_contents(data).header
    if not header.cuttable:
        yield data
        return
    try:
        last = cut(data)
    except TruncatedStream:
        if not shown:
            raise
        return
    if last.passes < header.passes:
        warnings.warn(
            f"the stream ends, or is damaged, after {last.passes} of {header.passes} passes",
            TrellicWarning,
            stacklevel=3,
        )
    if last.passes > shown:
        yield last.data


def _contents(data: bytes) -> Contents | None:
    """Return where everything lies; None while the head is incomplete."""
    try:
        return read_contents(data) if data else None
    except TruncatedStream:
        return None


def _check_length(length: int, header: Header) -> None:
    most = LEAST_BYTES + PIXEL_BYTES * header.width * header.height
    if length > most:
        raise CorruptStream(
            f"more than {most} bytes of a picture of {header.width}x{header.height} pixels",
            expected="a stream that ends",
        )
