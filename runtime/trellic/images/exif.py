"""EXIF as bytes: finds and sets the orientation and the resolution, and changes nothing else.

Maker notes and thumbnails point into the data by offsets, so no byte of it may move: the
orientation is set in place, and a directory that grows is written anew behind the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

UPRIGHT = 1
PREFIX = b"Exif\0\0"  # before the TIFF header, in JPEG files and in Pillow's info
ORIENTATION = 0x0112
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x011A, 0x011B, 0x0128
_SHORT, _RATIONAL = 3, 5
_INTEGER_BYTES = {1: 1, 3: 2, 4: 4}  # TIFF type -> bytes: BYTE, SHORT, LONG
_INCH, _CENTIMETRE = 2, 3
_CM_PER_INCH = 2.54
_DEFAULT_DPI = (72.0, 72.0)  # the default of EXIF
_PARTS = 10_000  # of a dot per inch, that are kept
_PREFIXES = re.compile(rb"(?:Exif\0\0)*")

Dpi = tuple[float, float]
_ByteOrder = Literal["little", "big"]
_ORDERS: dict[bytes, _ByteOrder] = {b"II*\0": "little", b"MM\0*": "big"}


class _Entry(NamedTuple):
    at: int
    tag: int
    kind: int
    raw: bytes  # all twelve bytes


def without_prefix(exif: bytes) -> bytes:
    """Remove the prefixes that writers and readers put before the TIFF header, each once."""
    match = _PREFIXES.match(exif)
    return exif[match.end() :] if match else exif


def is_exif(exif: bytes) -> bool:
    """Tell whether bytes begin with a TIFF header."""
    return exif[:4] in _ORDERS


def orientation_of(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, or None if there is no valid one."""
    found = _orientation(exif)
    return None if found is None else int.from_bytes(exif[found[0] : found[1]], _ORDERS[exif[:4]])


def upright(exif: bytes) -> bytes:
    """Set the orientation to 1, in place, if there is one."""
    found = _orientation(exif)
    if found is None:
        return exif
    start, stop = found
    return exif[:start] + UPRIGHT.to_bytes(stop - start, _ORDERS[exif[:4]]) + exif[stop:]


def dpi_of(exif: bytes) -> Dpi | None:
    """Return the resolution in dots per inch, across and down.

    Parameters
    ----------
    exif : bytes
        From its TIFF header on.

    Returns
    -------
    tuple of two floats or None
        None if it is not there or makes no sense.
    """
    entries = {entry.tag: entry for entry in _entries(exif)}
    unit = entries.get(_UNIT)
    order = _ORDERS.get(exif[:4], "little")
    number = int.from_bytes(unit.raw[8:10], order) if unit else _INCH
    factor = {_INCH: 1.0, _CENTIMETRE: _CM_PER_INCH}.get(number)
    values = [_rational(exif, entries.get(tag), order) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    if factor is None or values[0] is None or values[1] is None:
        return None
    return sensible((values[0] * factor, values[1] * factor))


def sensible(dpi: object) -> Dpi | None:
    """Return a resolution as two positive numbers; None if it is not one."""
    try:
        across, down = map(float, dpi)  # type: ignore[call-overload]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    most = 2**32 / _PARTS - 1
    if not (math.isfinite(across) and math.isfinite(down)):
        return None
    return (across, down) if 0 < across < most and 0 < down < most else None


def with_dpi(exif: bytes | None, dpi: Dpi) -> bytes | None:
    """Store a resolution in dots per inch.

    Parameters
    ----------
    exif : bytes or None
        From its TIFF header on.
    dpi : tuple of two floats
        Across and down.

    Returns
    -------
    bytes or None
        The same if it says so already, or if its directory cannot be read.
    """
    known = (dpi_of(exif) if exif else None) or _DEFAULT_DPI
    if max(abs(a - b) for a, b in zip(known, dpi, strict=True)) < 2 / _PARTS:
        return exif
    exif = exif or b"II*\0\x08\0\0\0" + bytes(6)
    order = _ORDERS[exif[:4]]
    entries = list(_entries(exif))
    count, first = len(entries), int.from_bytes(exif[4:8], order)
    if count != int.from_bytes(exif[first : first + 2], order):
        return exif
    kept = [e for e in entries if e.tag not in (_X_RESOLUTION, _Y_RESOLUTION, _UNIT)]
    after = exif[first + 2 + 12 * count :][:4].ljust(4, b"\0")
    start = 8 if len(exif) == 14 else len(exif) + len(exif) % 2  # 14: one made above
    values = start + 2 + 12 * (len(kept) + 3) + 4
    new = [
        _entry(_X_RESOLUTION, _RATIONAL, values, order),
        _entry(_Y_RESOLUTION, _RATIONAL, values + 8, order),
        _entry(_UNIT, _SHORT, _INCH, order),
    ]
    directory = b"".join(entry.raw for entry in sorted(kept + new, key=lambda entry: entry.tag))
    numbers = b"".join(n.to_bytes(4, order) for v in dpi for n in (round(v * _PARTS), _PARTS))
    head = exif[:4] + start.to_bytes(4, order) + exif[8:start].ljust(start - 8, b"\0")
    return head + (len(kept) + 3).to_bytes(2, order) + directory + after + numbers


def _orientation(exif: bytes) -> tuple[int, int] | None:
    """Find the bytes of a valid orientation: start and stop."""
    for entry in _entries(exif):
        size = _INTEGER_BYTES.get(entry.kind)
        if entry.tag == ORIENTATION and size:
            value = int.from_bytes(entry.raw[8 : 8 + size], _ORDERS[exif[:4]])
            return (entry.at + 8, entry.at + 8 + size) if 1 <= value <= 8 else None
    return None


def _entries(exif: bytes) -> Iterator[_Entry]:
    """Go through the first directory, as far as it is there."""
    order = _ORDERS.get(exif[:4])
    if order is None:
        return
    directory = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[directory : directory + 2], order)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        raw = exif[at : at + 12]
        if len(raw) < 12:
            return
        yield _Entry(at, int.from_bytes(raw[:2], order), int.from_bytes(raw[2:4], order), raw)


def _entry(tag: int, kind: int, value: int, order: _ByteOrder) -> _Entry:
    size = 2 if kind == _SHORT else 4
    head = tag.to_bytes(2, order) + kind.to_bytes(2, order) + (1).to_bytes(4, order)
    return _Entry(0, tag, kind, head + value.to_bytes(size, order).ljust(4, b"\0"))


def _rational(exif: bytes, entry: _Entry | None, order: _ByteOrder) -> float | None:
    if entry is None or entry.kind != _RATIONAL:
        return None
    at = int.from_bytes(entry.raw[8:12], order)
    above = int.from_bytes(exif[at : at + 4], order)
    below = int.from_bytes(exif[at + 4 : at + 8], order)
    return above / below if below else None
