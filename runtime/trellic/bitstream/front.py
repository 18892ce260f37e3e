"""The first bytes of a stream: everything in the header before the segment table.

Specification: ``docs/format.md``, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadParameter, CorruptStream, NotATrellicFile, TruncatedStream
from ..errors import UnsupportedVersion as Unsupported
from .fields import Cursor, pack_varint
from .header import (
    CELL,
    DEFAULT_SLICE_SIDE,
    MIN_SLICE_SIDE,
    STREAM_ID_BYTES,
    TRELLIS_STATES,
    Header,
    check_side,
)

SIGNATURE = b"TLC"
VERSION = 1

# Chunks in file order, which is also the order of their flag bits.
CHUNKS = ("alpha", "icc", "exif", "xmp")
_SLICE_SIDE_FLAG = 1 << 4
_KNOWN_FLAGS = 0b11111
_CHUNK_VARINT_BYTES = 4
MAX_STORED_CHUNK = (1 << 7 * _CHUNK_VARINT_BYTES) - 1


@dataclass(frozen=True)
class Front:
    """The fixed part of a header, as read: before the segment table."""

    width: int
    height: int
    quality16: int
    trellis: int
    steps: int
    stream_id: bytes
    first_log2_lanes: int
    grey: bool
    slice_side: int
    chunks: dict[str, int]


def pack_front(header: Header, chunks: dict[str, int]) -> bytes:
    """Return the header's bytes up to the segment table.

    Parameters
    ----------
    header : Header
    chunks : dict
        Stored length in bytes of each chunk there is, by name.
    """
    default_side = header.slice_side == DEFAULT_SLICE_SIDE
    extended = bool(chunks) or not default_side
    fields = (
        header.quality16
        | TRELLIS_STATES.index(header.trellis) << 11
        | (header.lanes[0].bit_length() - 1) << 14
        | (header.steps - 1) << 18
        | header.grey << 21
        | extended << 22
    )
    out = SIGNATURE + bytes([VERSION]) + fields.to_bytes(3, "little") + header.stream_id
    out += pack_varint(header.width - 1) + pack_varint(header.height - 1)
    if not extended:
        return out
    flags = sum(1 << bit for bit, name in enumerate(CHUNKS) if name in chunks)
    out += bytes([flags | (0 if default_side else _SLICE_SIDE_FLAG)])
    out += b"".join(pack_varint(chunks[name]) for name in CHUNKS if name in chunks)
    return out if default_side else out + bytes([header.slice_side // CELL])


def read_front(cursor: Cursor) -> Front:
    """Read the header's bytes up to the segment table.

    Raises
    ------
    NotATrellicFile, UnsupportedVersion, TruncatedStream, CorruptStream
    """
    _read_signature(cursor)
    fields = int.from_bytes(cursor.take(3, "header"), "little")
    if fields >> 23:
        raise Unsupported("the header's reserved bit is set", remedy="update Trellic")
    stream_id = bytes(cursor.take(STREAM_ID_BYTES, "header"))
    width, height = (1 + cursor.varint(3, f"{side} of the picture") for side in ("width", "height"))
    chunks, slice_side = _read_extension(cursor) if fields >> 22 & 1 else ({}, DEFAULT_SLICE_SIDE)
    log2_lanes = fields >> 14 & 15
    front = Front(
        width=width,
        height=height,
        quality16=fields & 0x7FF,
        trellis=TRELLIS_STATES[fields >> 11 & 7],
        steps=1 + (fields >> 18 & 7),
        stream_id=stream_id,
        first_log2_lanes=log2_lanes,
        grey=bool(fields >> 21 & 1),
        slice_side=slice_side,
        chunks=chunks,
    )
    try:  # sizes before the table, whose length hangs on them
        check_side(width, "width")
        check_side(height, "height")
    except BadParameter as error:
        raise CorruptStream(f"the header names a {error}") from None
    return front


def _read_signature(cursor: Cursor) -> None:
    seen = bytes(cursor.data[: len(SIGNATURE)])
    if seen and seen == SIGNATURE[: len(cursor.data)] and len(cursor.data) <= len(SIGNATURE):
        raise TruncatedStream(f"the stream is {len(cursor.data)} bytes long", expected="a header")
    if seen != SIGNATURE:
        raise NotATrellicFile(
            f"the data begins with {seen!r}" if seen else "the data is empty (0 bytes)",
            expected=f"{SIGNATURE!r}, the signature of a .tlc file",
        )
    cursor.take(len(SIGNATURE), "signature")
    version = cursor.byte("signature")
    if version != VERSION:
        raise Unsupported(
            f"the stream is of format version {version}",
            expected=f"version {VERSION}",
            remedy="update Trellic",
        )


def _read_extension(cursor: Cursor) -> tuple[dict[str, int], int]:
    flags = cursor.byte("header extension")
    if flags & ~_KNOWN_FLAGS:
        raise Unsupported(
            f"the header extension has the unknown flags {flags & ~_KNOWN_FLAGS:#04x}",
            expected=f"flags within {_KNOWN_FLAGS:#04x}",
            remedy="update Trellic",
        )
    if flags == 0:
        raise CorruptStream("the header extension is empty")
    chunks = {}
    for bit, name in enumerate(CHUNKS):
        if flags >> bit & 1:
            chunks[name] = cursor.varint(_CHUNK_VARINT_BYTES, f"length of the {name} chunk")
            if chunks[name] == 0:
                raise CorruptStream(f"the {name} chunk has no bytes")
    if not flags & _SLICE_SIDE_FLAG:
        return chunks, DEFAULT_SLICE_SIDE
    side = cursor.byte("slice side") * CELL
    if side < MIN_SLICE_SIDE or side == DEFAULT_SLICE_SIDE:
        raise CorruptStream(f"the header extension names a slice side of {side} latents")
    return chunks, side
