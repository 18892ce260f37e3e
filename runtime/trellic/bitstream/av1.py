"""AV1 data of patches: one still picture without a container, checked before it is decoded.

Specification: ``docs/format.md``, section 4.2; the syntax is that of the AV1 bitstream (AOMedia,
2019), sections 5.3 to 5.5.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trellic.bitstream.fields import Cursor
from trellic.errors import CorruptStream, TruncatedStream

SEQUENCE_HEADER, FRAME = 0x0A, 0x32  # first bytes of the two units: type, and that a size follows
COLOUR, GREY = 1, 0  # profiles: 4:4:4 (or grey), and 4:2:0 or grey
_IDENTITY: Final = 0x010D00  # primaries, transfer and matrix of RGB, which has no range
_VARINT_BYTES: Final = 4  # AV1's leb128 is our varint


class StillHeader(NamedTuple):
    """What the sequence header of a still picture says."""

    profile: int
    width: int
    height: int
    deep: bool
    grey: bool


class _Bits:
    """Reads bits of a unit, most significant first; refuses to read past its end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise CorruptStream("the sequence header of an AV1 patch ends too early")
        return self._value >> self._left & ((1 << count) - 1)

    def end(self) -> bool:
        """Whether nothing is left but a bit of 1 and zeros to the end of its byte."""
        left = self._left
        return 0 < left <= 8 and self._value & ((1 << left) - 1) == 1 << left - 1


def check_still(data: bytes, height: int, width: int, *, grey: bool) -> None:
    """Refuse data that are not one still picture of this size, in 8 bits.

    Raises
    ------
    CorruptStream
        When they are anything else. Pixels are not decoded.
    """
    cursor = Cursor(memoryview(data))
    try:
        sequence = _unit(cursor, SEQUENCE_HEADER)
        _unit(cursor, FRAME)
    except TruncatedStream:
        raise CorruptStream(f"an AV1 patch of {len(data)} bytes ends too early") from None
    if cursor.at != len(data):
        raise CorruptStream(f"{len(data) - cursor.at} bytes follow the frame of an AV1 patch")
    bits = _Bits(sequence)
    found = _still_header(bits)
    wanted = StillHeader(GREY if grey else COLOUR, width, height, deep=False, grey=grey)
    if found != wanted:
        raise CorruptStream(f"an AV1 patch of {_said(found)}", expected=_said(wanted))
    _check_end(bits, grey=grey)


def still_header(data: bytes | memoryview) -> StillHeader:
    """Read a sequence header; it must be the reduced one of a still picture.

    Raises
    ------
    CorruptStream
        When it is cut, or announces more than one picture.
    """
    return _still_header(_Bits(data))


def _still_header(bits: _Bits) -> StillHeader:
    profile, still, reduced = bits.take(3), bits.take(1), bits.take(1)
    if not (still and reduced):
        raise CorruptStream("an AV1 patch that is not a still picture")
    bits.take(5)  # level
    sizes = bits.take(4), bits.take(4)
    width, height = (1 + bits.take(1 + size) for size in sizes)
    bits.take(6)  # tools that this picture may use
    deep = bool(bits.take(1))
    grey = profile != COLOUR and bool(bits.take(1))
    return StillHeader(profile, width, height, deep, grey)


def _check_end(bits: _Bits, *, grey: bool) -> None:
    """Check what follows in the header of a patch: no film grain, and nothing behind it."""
    described = bits.take(24) if bits.take(1) else 0  # colour, which has no meaning here
    bits.take(0 if described == _IDENTITY and not grey else 1)  # range, nor has that
    bits.take(0 if grey else 1)  # whether both chroma planes have steps of their own
    if bits.take(1):
        raise CorruptStream("an AV1 patch with film grain", expected="none")
    if not bits.end():
        raise CorruptStream("the sequence header of an AV1 patch does not end where it should")


def _unit(cursor: Cursor, kind: int) -> memoryview:
    """Take a unit (OBU) of a kind, with its size."""
    first = cursor.take(1, "AV1 patch")[0]
    if first != kind:
        raise CorruptStream(f"an AV1 patch with a unit 0x{first:02x}", expected=f"0x{kind:02x}")
    return cursor.take(cursor.varint(_VARINT_BYTES, "size of an AV1 unit"), "AV1 patch")


def _said(header: StillHeader) -> str:
    depth = "more than 8" if header.deep else "8"
    colour = "grey" if header.grey else "colour"
    return (
        f"{header.width}x{header.height} pixels, profile {header.profile}, {depth} bits, {colour}"
    )
