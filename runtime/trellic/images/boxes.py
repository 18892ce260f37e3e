"""The boxes of ISO media files: facts about AVIF and JPEG 2000 pictures that Pillow leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_MOST = 4096  # boxes that are read, so that a hostile file takes no time


class Box(NamedTuple):
    """Type and content of a box."""

    kind: bytes
    content: memoryview


class Still(NamedTuple):
    """Properties of the primary picture of an AVIF file."""

    properties: tuple[Box, ...] = ()
    gain_map: bool = False

    def find(self, kind: bytes) -> list[bytes]:
        """Return the contents of all properties of one kind."""
        return [bytes(box.content) for box in self.properties if box.kind == kind]


def walk(data: bytes) -> Iterator[Box]:
    """Go through boxes, up to the first one that is cut off.

    Parameters
    ----------
    data : bytes
        Boxes one after another.

    Yields
    ------
    Box
        Without its heading.
    """
    view, at = memoryview(data), 0
    for _ in range(_MOST):
        size, heading = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, heading = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < heading or at + size > len(data):
            return
        yield Box(data[at + 4 : at + 8], view[at + heading : at + size])
        at += size


def content_of(data: bytes, kind: bytes) -> bytes:
    """Return the content of the first box of a kind; empty if there is none."""
    return next((bytes(box.content) for box in walk(data) if box.kind == kind), b"")


def still(data: bytes) -> Still:
    """Look up the properties of an AVIF file's primary picture.

    Parameters
    ----------
    data : bytes
        The file, or its beginning up to the box ``meta``.

    Returns
    -------
    Still
        Empty if there is no such box or it is damaged.
    """
    meta = content_of(data, b"meta")[4:]  # after version and flags
    primary = content_of(meta, b"pitm")
    primary_id = int.from_bytes(primary[4:], "big")
    gain_map = b"tmap" in content_of(data, b"ftyp") or b"tmap" in content_of(meta, b"iinf")
    tables = content_of(meta, b"iprp")
    every = list(walk(content_of(tables, b"ipco")))
    chosen = _associated(content_of(tables, b"ipma"), primary_id)
    return Still(tuple(every[i - 1] for i in chosen if 0 < i <= len(every)), gain_map)


def _associated(ipma: bytes, item: int) -> list[int]:
    """Return the numbers, from 1, of an item's properties."""
    if len(ipma) < 8:
        return []
    id_bytes = 2 if ipma[0] < 1 else 4
    index_bytes = 2 if ipma[3] & 1 else 1
    at, mask = 8, 0x7FFF if index_bytes == 2 else 0x7F
    for _ in range(min(int.from_bytes(ipma[4:8], "big"), _MOST)):
        found = int.from_bytes(ipma[at : at + id_bytes], "big")
        count = ipma[at + id_bytes] if at + id_bytes < len(ipma) else 0
        at += id_bytes + 1
        raw = [ipma[at + i * index_bytes : at + (i + 1) * index_bytes] for i in range(count)]
        if found == item:
            return [int.from_bytes(number, "big") & mask for number in raw]
        at += count * index_bytes
        if at >= len(ipma):
            break
    return []
