"""The first bytes of a stream: everything in the header before the segment table.

Specification: ``docs/format.md``, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from trellic.bitstream.fields import Cursor, pack_varint
from trellic.bitstream.header import STREAM_ID_BYTES, Header, check_side
from trellic.bitstream.layering import Layering, pack_layering, read_layering
from trellic.constants import TRELLIS_STATES
from trellic.errors import BadParameter, CorruptStream, NotATrellicFile, TruncatedStream
from trellic.errors import UnsupportedVersion as Unsupported
from trellic.geometry import DEFAULT_SLICE_SIDE, MIN_SLICE_SIDE, SIDE_MULTIPLE
from trellic.limits import ADAPTER_ID_BYTES

SIGNATURE = b"TLC"
VERSION = 1

# Chunks in file order, which is also the order of their flag bits.
CHUNKS = ("alpha", "icc", "exif", "xmp")
_SLICE_SIDE_FLAG = 1 << 4
_DITHER_FLAG = 1 << 5
_SEED_BYTES = 4
_LAYERS_FLAG = 1 << 6
_MORE_FLAG = 1 << 7
# Of the second byte of flags
_ADAPTER_FLAG = 1 << 0
_EMBEDDED_FLAG = 1 << 1
_PATCHES_FLAG = 1 << 2
_STILL_FLAG = 1 << 3
_BARE_FLAG = 1 << 4
_KNOWN_FLAGS = _ADAPTER_FLAG | _EMBEDDED_FLAG | _PATCHES_FLAG | _STILL_FLAG | _BARE_FLAG
EMBEDDED = "adapter"  # the chunk that holds one
PATCHES = "patches"  # the chunk of blocks that are stored as they are
_CHUNK_VARINT_BYTES = 4
MAX_STORED_CHUNK = (1 << 7 * _CHUNK_VARINT_BYTES) - 1


@dataclass(frozen=True)
class Extension:
    """The content of the header's extension; the defaults are those without an extension."""

    chunks: dict[str, int] = field(default_factory=dict)
    slice_side: int = DEFAULT_SLICE_SIDE
    dither: int | None = None
    layering: Layering | None = None
    adapter: bytes | None = None
    still: bool = False
    bare: bool = False


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
    extension: Extension

    @property
    def passes(self) -> int:
        """Segments of each slice."""
        layering = self.extension.layering
        return self.steps if layering is None else layering.kept


def pack_front(header: Header, chunks: dict[str, int]) -> bytes:
    """Return the header's bytes up to the segment table.

    Parameters
    ----------
    header : Header
    chunks : dict
        Stored length of each chunk in bytes, by name.
    """
    extension = _pack_extension(
        Extension(
            chunks,
            header.slice_side,
            header.dither,
            header.layering,
            header.adapter,
            header.still,
            header.bare,
        )
    )
    fields = (
        header.quality16
        | TRELLIS_STATES.index(header.trellis) << 11
        | (header.lanes[0].bit_length() - 1) << 14
        | (header.steps - 1) << 18
        | header.grey << 21
        | bool(extension) << 22
    )
    out = SIGNATURE + bytes([VERSION]) + fields.to_bytes(3, "little") + header.stream_id
    return out + pack_varint(header.width - 1) + pack_varint(header.height - 1) + extension


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
    extension = _read_extension(cursor) if fields >> 22 & 1 else Extension()
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
        extension=extension,
    )
    try:  # sizes before the table, whose length depends on them
        check_side(width, "width")
        check_side(height, "height")
    except BadParameter as error:
        raise CorruptStream(f"the header is wrong: {error}") from None
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


def _pack_extension(extension: Extension) -> bytes:
    """Return the bytes of an extension, none if it says nothing."""
    chunks, side, seed = extension.chunks, extension.slice_side, extension.dither
    flags = sum(1 << bit for bit, name in enumerate(CHUNKS) if name in chunks)
    out = b"".join(pack_varint(chunks[name]) for name in CHUNKS if name in chunks)
    if side != DEFAULT_SLICE_SIDE:
        flags |= _SLICE_SIDE_FLAG
        out += bytes([side // SIDE_MULTIPLE])
    if seed is not None:
        flags |= _DITHER_FLAG
        out += seed.to_bytes(_SEED_BYTES, "little")
    if extension.layering is not None:
        flags |= _LAYERS_FLAG
        out += pack_layering(extension.layering)
    if more := _pack_more(extension):
        flags |= _MORE_FLAG
        out += more
    return bytes([flags]) + out if flags else b""


def _pack_more(extension: Extension) -> bytes:
    """Return the second byte of flags and the fields that it announces; nothing if there are none.

    Only a file that names an adapter can hold one (`bitstream.write` sees to that).
    """
    flags, out, chunks = 0, b"", extension.chunks
    if extension.adapter is not None:
        flags, out = _ADAPTER_FLAG, extension.adapter
        if EMBEDDED in chunks:
            flags |= _EMBEDDED_FLAG
            out += pack_varint(chunks[EMBEDDED])
    if PATCHES in chunks:
        flags |= _PATCHES_FLAG
        out += pack_varint(chunks[PATCHES])
    if extension.still:
        flags |= _STILL_FLAG
    if extension.bare:
        flags |= _BARE_FLAG
    return bytes([flags]) + out if flags else b""


def _read_extension(cursor: Cursor) -> Extension:
    flags = cursor.byte("header extension")
    if flags == 0:
        raise CorruptStream("the header extension is empty")
    chunks = {}
    for bit, name in enumerate(CHUNKS):
        if flags >> bit & 1:
            chunks[name] = _read_length(cursor, name)
    side, seed = DEFAULT_SLICE_SIDE, None
    if flags & _SLICE_SIDE_FLAG:
        side = cursor.byte("slice side") * SIDE_MULTIPLE
        if side < MIN_SLICE_SIDE or side == DEFAULT_SLICE_SIDE:
            raise CorruptStream(f"the header extension names a slice side of {side} latents")
    if flags & _DITHER_FLAG:
        seed = int.from_bytes(cursor.take(_SEED_BYTES, "seed of dither"), "little")
    layering = read_layering(cursor) if flags & _LAYERS_FLAG else None
    more = _read_more(cursor, chunks) if flags & _MORE_FLAG else (None, False, False)
    return Extension(chunks, side, seed, layering, *more)


def _read_length(cursor: Cursor, name: str) -> int:
    length = cursor.varint(_CHUNK_VARINT_BYTES, f"length of the {name} chunk")
    if length == 0:
        raise CorruptStream(f"the {name} chunk has no bytes")
    return length


def _read_more(cursor: Cursor, chunks: dict[str, int]) -> tuple[bytes | None, bool, bool]:
    """Read the second byte of flags and its fields; adds to the chunks.

    Returns
    -------
    the adapter's id, whether the lattice stands still, and whether there are no latents
    """
    flags = cursor.byte("header extension")
    if flags & ~_KNOWN_FLAGS:
        raise Unsupported(
            f"the header extension has the unknown further flags {flags & ~_KNOWN_FLAGS:#04x}",
            expected=f"flags within {_KNOWN_FLAGS:#04x}",
            remedy="update Trellic",
        )
    if not flags:
        raise CorruptStream("the header extension announces further flags and has none")
    if flags & _EMBEDDED_FLAG and not flags & _ADAPTER_FLAG:
        raise CorruptStream("the header extension holds an adapter but names no adapter")
    adapter = None
    if flags & _ADAPTER_FLAG:
        adapter = bytes(cursor.take(ADAPTER_ID_BYTES, "adapter id"))
    if flags & _EMBEDDED_FLAG:
        chunks[EMBEDDED] = _read_length(cursor, EMBEDDED)
    if flags & _PATCHES_FLAG:
        chunks[PATCHES] = _read_length(cursor, PATCHES)
    elif flags & _BARE_FLAG:
        raise CorruptStream("the header extension announces neither latents nor patches")
    return adapter, bool(flags & _STILL_FLAG), bool(flags & _BARE_FLAG)
