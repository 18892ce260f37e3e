"""The part of protobuf's wire format that is needed to read ONNX files."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from trellic.errors import BadBundle

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
Field = tuple[int, int | bytes]


def text(message: bytes, number: int) -> bytes:
    """Return a field of bytes; if there are several, the last one, as protobuf's parsers do."""
    found = b""
    for one, value in fields(message):
        if one == number and isinstance(value, bytes):
            found = value
    return found


def words(raw: bytes) -> list[int]:
    """Return the int64 of raw data."""
    return [one for (one,) in struct.iter_unpack("<q", raw[: len(raw) // 8 * 8])]


def integers(value: int | bytes) -> list[int]:
    """Return the int64 of a field: one, or several packed."""
    if isinstance(value, int):
        packed = [value]
    else:
        packed, at = [], 0
        while at < len(value):
            one, at = _varint(memoryview(value), at)
            packed.append(one)
    return [(one & (1 << 64) - 1) - (1 << 64) * (one >> 63 & 1) for one in packed]


def fields(message: bytes) -> Iterator[Field]:
    """Walk the fields of a protobuf message: numbers, and integers or bytes."""
    for number, value in spans(message):
        yield number, message[value] if isinstance(value, slice) else value


def spans(message: bytes) -> Iterator[tuple[int, int | slice]]:
    """Walk the fields of a protobuf message: numbers, and integers or where bytes lie."""
    view, at = memoryview(message), 0
    while at < len(view):
        key, at = _varint(view, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(view, at)
            yield key >> 3, value
            continue
        if wire == BYTES:
            length, at = _varint(view, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise BadBundle(f"a graph of the bundle is not an ONNX file (wire type {wire})")
        if length > len(view) - at:
            raise BadBundle("a graph of the bundle is cut short", remedy="install it again")
        yield key >> 3, slice(at, at + length)
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            break
        byte = view[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    raise BadBundle("a graph of the bundle is not an ONNX file (a number without end)")
