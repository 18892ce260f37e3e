"""Whole streams: writing, reading with every check, and reading the rest of a broken one.

Specification: ``docs/format.md``, sections 2, 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from trellic.bitstream.chunks import (
    Chunks,
    Plane,
    pack_adapter,
    pack_chunks,
    read_adapter,
    read_alpha,
    read_metadata,
)
from trellic.bitstream.contents import (
    WORD_BYTES,
    Contents,
    Span,
    pack_header,
    read_contents,
    view_of,
)
from trellic.bitstream.fields import CRC16_BYTES, CRC32_BYTES, crc16, crc32
from trellic.bitstream.front import EMBEDDED, PATCHES
from trellic.bitstream.header import Header
from trellic.bitstream.patches import Patches, pack_patches, read_patches
from trellic.constants import MAX_PIXELS
from trellic.errors import CorruptStream, ImageTooLarge, StreamError, TruncatedStream
from trellic.geometry import Rectangle
from trellic.support import bounds

_DAMAGED = "the file is damaged; fetch it again"


@dataclass(frozen=True, eq=False)
class Stream:
    """The content of a ``.tlc`` file.

    Attributes
    ----------
    header : Header
    segments : sequence of bytes
        One of z, then one for each pass (a context step, unless there are layers) and slice, pass
        by pass. Each has an even number of bytes.
    chunks : Chunks
    adapter : bytes, optional
        The adapter that the header names, if the file holds it.
    patches : Patches, optional
        Blocks whose pixels are stored.
    """

    header: Header
    segments: Sequence[bytes]
    chunks: Chunks = field(default_factory=Chunks)
    adapter: bytes | None = None
    patches: Patches | None = None


@dataclass(frozen=True, eq=False)
class Prefix:
    """The parts of a cut or damaged stream that can be trusted.

    Attributes
    ----------
    header : Header
    segments : sequence of bytes or None
        As in `Stream`; None where a segment is missing or its check fails. The first is never None.
    chunks : Chunks
        None also where a chunk is missing or damaged.
    whole : bool
        Every part is there and the file's own check holds.
    lost_chunks : tuple of str
        Names of the chunks that the header announces but that are missing or damaged.
    patches : Patches, optional
        As in `Stream`; None also where they are missing or damaged.
    """

    header: Header
    segments: Sequence[bytes | None]
    chunks: Chunks
    whole: bool
    lost_chunks: tuple[str, ...] = ()
    patches: Patches | None = None


def write(stream: Stream) -> bytes:
    """Return the bytes of a ``.tlc`` file.

    An alpha plane that is 255 everywhere is left out.

    Raises
    ------
    BadParameter
        When segments or chunks do not fit the header or the format's limits.
    """
    header = stream.header
    chunks = pack_chunks(stream.chunks, header.height, header.width)
    if stream.adapter is not None:
        chunks[EMBEDDED] = pack_adapter(stream.adapter, header.adapter)
    if stream.patches is not None:
        chunks[PATCHES] = pack_patches(stream.patches, header)
    return assemble(header, chunks, stream.segments)


def assemble(
    header: Header, chunks: Mapping[str, bytes | memoryview], segments: Sequence[bytes]
) -> bytes:
    """Return the bytes of a file from a header, stored chunks and segments."""
    lengths = {name: len(stored) for name, stored in chunks.items()}
    head = pack_header(header, lengths, [len(segment) for segment in segments]) + segments[0]
    parts: list[bytes | memoryview] = [head, crc16(head)]
    for stored in chunks.values():
        parts += [stored, crc16(stored)]
    for segment in segments[1:]:
        parts += [segment, crc16(segment)]
    if header.slices == 1:
        parts.pop()  # the file check covers the last segment
    body = b"".join(parts)
    return body + crc32(body)


def read(data: bytes | memoryview, max_pixels: int = MAX_PIXELS) -> Stream:
    """Read a whole stream and check all of it.

    Parameters
    ----------
    data : bytes-like
        All bytes of the file.
    max_pixels : int
        Larger pictures are refused before memory is taken for them.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream, ImageTooLarge
    """
    view = view_of(data)
    contents = read_contents(view)
    _check_pixels(contents.header, max_pixels)
    _check_size(len(view), contents.size)
    segments = [read_segment(view, contents, index) for index in range(contents.header.segments)]
    if not _file_holds(view):
        raise CorruptStream(
            "the checksum of the file does not match",
            remedy="the file is cut short or damaged; fetch it again",
        )
    if len(segments[-1]) % WORD_BYTES:
        raise CorruptStream("the last segment has an odd number of bytes")
    if contents.header.bare and segments[-1]:
        raise CorruptStream("the file has patches alone, and a last segment that is not empty")
    beside = _chunks(view, contents), _adapter(view, contents), _patches(view, contents)
    return Stream(contents.header, segments, *beside)


def read_prefix(data: bytes | memoryview, max_pixels: int = MAX_PIXELS) -> Prefix:
    """Read the parts of a cut or damaged stream that can be trusted.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
        When header or hyper-latents are incomplete or damaged, because nothing decodes without
        them.
    ImageTooLarge
        When the picture has more than `max_pixels`.
    """
    view = view_of(data)
    contents = read_contents(view)
    _check_pixels(contents.header, max_pixels)
    whole = len(view) == contents.size and _file_holds(view)
    segments = [
        _or_none(read_segment, view, contents, index)
        if _vouched(contents, index) or whole
        else None
        for index in range(contents.header.segments)
    ]
    chunks = Chunks(
        alpha=_or_none(_alpha, view, contents),
        icc=_or_none(_metadata, view, contents, "icc"),
        exif=_or_none(_metadata, view, contents, "exif"),
        xmp=_or_none(_metadata, view, contents, "xmp"),
    )
    patches = _or_none(_patches, view, contents)
    there = vars(chunks) | {EMBEDDED: _or_none(_adapter, view, contents), PATCHES: patches}
    lost = tuple(name for name in contents.chunks if there[name] is None)
    return Prefix(contents.header, segments, chunks, whole, lost, patches)


def read_slices(
    data: bytes | memoryview,
    region: Rectangle,
    max_pixels: int = MAX_PIXELS,
    steps: int | None = None,
) -> Prefix:
    """Read what a region needs: the head, the chunks, and the segments of the slices it touches.

    Other bytes are not read, so only these parts of a mapped file are touched. The last segment of
    a file of one slice has no check but that of the file, so all steps of it need the whole file.

    Parameters
    ----------
    data : bytes-like
        All bytes of the file, or at least those that are needed.
    region : Rectangle
        In blocks of 16 pixels.
    max_pixels : int
        Larger pictures are refused before memory is taken for them.
    steps : int, optional
        How many of the first passes (context steps, unless there are layers) are needed; all by
        default.

    Returns
    -------
    Prefix
        With None in place of the segments of other slices and steps.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream, ImageTooLarge
        Also when a part that the region needs is damaged.
    """
    view = view_of(data)
    contents = read_contents(view)
    header = contents.header
    _check_pixels(header, max_pixels)
    steps = header.passes if steps is None else min(steps, header.passes)
    if header.slices == 1 and steps == header.passes:
        stream = read(view, max_pixels)
        return Prefix(header, stream.segments, stream.chunks, True, patches=stream.patches)
    segments: list[bytes | None] = [None] * header.segments
    segments[0] = read_segment(view, contents, 0)
    for slice_ in header.slices_touching(region):
        for step in range(steps):
            index = header.segment_index(step, slice_)
            segments[index] = read_segment(view, contents, index)
    chunks, patches = _chunks(view, contents), _patches(view, contents)
    return Prefix(header, segments, chunks, whole=False, patches=patches)


def read_header(data: bytes | memoryview) -> Header:
    """Read the header of a stream from at least its head (header and hyper-latents).

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
    """
    return read_contents(data).header


def embedded_adapter(data: bytes | memoryview) -> bytes | None:
    """Return the adapter that a stream holds, from at least its head and chunks; None if none.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
    """
    view = view_of(data)
    return _adapter(view, read_contents(view))


def patches_of(data: bytes | memoryview) -> Patches | None:
    """Return the patches of a stream, from at least its head and chunks; None if none.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
    """
    view = view_of(data)
    return _patches(view, read_contents(view))


def _check_pixels(header: Header, max_pixels: int) -> None:
    allowed = bounds.most_pixels(max_pixels, header.width * header.height)
    if allowed is not None and header.width * header.height > allowed:
        raise ImageTooLarge(
            f"the picture has {header.width} x {header.height} pixels",
            expected=f"at most {allowed} pixels",
            remedy="raise the limit with --max-pixels (max_pixels=) if you trust the file",
        )


def _check_size(seen: int, expected: int) -> None:
    if seen < expected:
        raise TruncatedStream(
            f"the stream ends after {seen} bytes",
            expected=f"{expected} bytes",
            remedy="fetch the file again",
        )
    if seen > expected:
        raise CorruptStream(
            f"{seen - expected} bytes follow the end of the stream",
            expected=f"{expected} bytes in all",
        )


def _vouched(contents: Contents, index: int) -> bool:
    """Whether a CRC-16 covers the segment; that of the head, checked before, covers segment 0."""
    return index == 0 or contents.has_check(index)


def read_segment(view: memoryview, contents: Contents, index: int) -> bytes:
    """Return a segment, after verifying its check if it has one."""
    span = contents.segment(index)
    if contents.has_check(index):
        _check(view, span, f"segment {index}")
    return bytes(view[span.offset : span.end])


def stored_of(view: memoryview, contents: Contents) -> dict[str, memoryview]:
    """Return the stored chunks, after verifying their checks."""
    return {name: _there(view, contents, name) for name in contents.chunks}


def _chunks(view: memoryview, contents: Contents) -> Chunks:
    return Chunks(
        alpha=_alpha(view, contents),
        icc=_metadata(view, contents, "icc"),
        exif=_metadata(view, contents, "exif"),
        xmp=_metadata(view, contents, "xmp"),
    )


def _alpha(view: memoryview, contents: Contents) -> Plane | None:
    stored = _stored(view, contents, "alpha")
    return (
        None
        if stored is None
        else read_alpha(stored, contents.header.height, contents.header.width)
    )


def _metadata(view: memoryview, contents: Contents, name: str) -> bytes | None:
    stored = _stored(view, contents, name)
    return None if stored is None else read_metadata(stored, name)


def _adapter(view: memoryview, contents: Contents) -> bytes | None:
    stored = _stored(view, contents, EMBEDDED)
    return None if stored is None else read_adapter(stored, contents.header.adapter)


def _patches(view: memoryview, contents: Contents) -> Patches | None:
    stored = _stored(view, contents, PATCHES)
    return None if stored is None else read_patches(stored, contents.header)


def _stored(view: memoryview, contents: Contents, name: str) -> memoryview | None:
    return _there(view, contents, name) if name in contents.chunks else None


def _there(view: memoryview, contents: Contents, name: str) -> memoryview:
    span = contents.chunks[name]
    _check(view, span, f"the {name} chunk")
    return view[span.offset : span.end]


def _check(view: memoryview, span: Span, what: str) -> None:
    """Verify the CRC-16 after a part."""
    end = span.end + CRC16_BYTES
    if end > len(view):
        raise TruncatedStream(f"the stream ends after {len(view)} bytes, inside {what}")
    if view[span.end : end] != crc16(view[span.offset : span.end]):
        raise CorruptStream(f"the checksum of {what} does not match", remedy=_DAMAGED)


def _file_holds(view: memoryview) -> bool:
    return view[-CRC32_BYTES:] == crc32(view[:-CRC32_BYTES])


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _or_none(part: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | None:
    """Read a part of a broken stream; None if it is missing or damaged."""
    try:
        return part(*args, **kwargs)
    except StreamError:
        return None
