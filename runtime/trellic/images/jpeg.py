"""JPEG files: kinds that Pillow cannot read, gain maps, and files that lack only their end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

END = b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_READ_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # Huffman or arithmetic, not lossless or in layers
_SCAN = 0xDA
# Markers except those that may be among the data of a scan, which are skipped with the data.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_GAIN_MAPS = (
    b"http://ns.adobe.com/hdr-gain-map/1.0/",
    b"urn:iso:std:iso:ts:21496:-1",
    b"urn:com:apple:photo:2020:aux:hdrgainmap",
)
# Decoded in place of missing data. If any data is missing, these give different pixels.
_PATTERNS = (b"\0", b"\x5a\xc3", b"\xaa", b"\xfe", b"\x93\x1c\x6e\xd5\x38")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


class Segment(NamedTuple):
    """Marker and content; that of a scan is its heading."""

    marker: int
    content: bytes


def segments(data: bytes) -> Iterator[Segment]:
    """Go through the segments of a file up to the end of the picture, or of the data.

    Parameters
    ----------
    data : bytes
        The file.

    Yields
    ------
    Segment
        Those that are there in full; the last one is the end marker if that is there.
    """
    at = 2
    while match := _MARKER.search(data, at):
        marker, at = match[0][1], match.end()
        if marker == END[1]:
            yield Segment(marker, b"")
            return
        size = int.from_bytes(data[at : at + 2], "big")
        if size < 2 or at + size > len(data):
            return
        yield Segment(marker, data[at + 2 : at + size])
        at += size


def has_end(data: bytes) -> bool:
    """Tell whether a file has the marker that ends its picture."""
    return any(marker == END[1] for marker, _ in segments(data))


def unread_kind(data: bytes) -> str | None:
    """Name the kind of a complete file that Pillow cannot read."""
    for marker, content in segments(data):
        if marker not in _FRAMES or len(content) < 6:
            continue
        if content[0] != 8:
            return f"{content[0]}-bit JPEG"
        if content[5] not in (1, 3, 4):
            return f"JPEG with {content[5]} components"
        return None if marker in _READ_FRAMES else "lossless or hierarchical JPEG"
    return None


def has_gain_map(data: bytes) -> bool:
    """Tell whether a file carries the map that makes it HDR (Ultra HDR, ISO 21496-1, Apple)."""
    return any(name in data for name in _GAIN_MAPS)


def with_ends(data: bytes) -> tuple[bytes, ...]:
    """Return a file that has no end marker with different ends.

    Parameters
    ----------
    data : bytes
        A file that Pillow calls truncated.

    Returns
    -------
    tuple of bytes
        Variants. If all decode to the same pixels, only the marker was missing. Empty if more is
        certainly missing.
    """
    if not _all_scans_are_there(data):
        return ()
    data = data.rstrip(b"\xff")  # the first half of the marker
    past = [match[1][0] for match in _RESTART.finditer(data, data.rindex(b"\xff\xda"))]
    after = past[-1] + 1 if past else 0xD0  # the restart marker that would come next
    restarts = [bytes([0xFF, 0xD0 + (after + i) % 8]) for i in range(8)]
    tails = [64 * p + b"".join(mark + 16 * p for mark in restarts) for p in _PATTERNS]
    return tuple(data + tail + END for tail in tails)


def _all_scans_are_there(data: bytes) -> bool:
    """Return whether scans have begun for all bits of all coefficients of all components."""
    wanted: set[int] = set()
    done: dict[int, set[int]] = {}
    progressive = False
    for marker, content in segments(data):
        if marker in _FRAMES and len(content) >= 6:
            progressive = marker in _PROGRESSIVE
            wanted = set(content[6 : 6 + 3 * content[5] : 3])
        elif marker == _SCAN and content and len(content) >= 4 + 2 * content[0]:
            first, last, approximation = content[1 + 2 * content[0] :][:3]
            bands = range(first, last + 1) if progressive else range(64)
            if not progressive or approximation & 15 == 0:
                for component in content[1 : 1 + 2 * content[0] : 2]:
                    done.setdefault(component, set()).update(bands)
    return bool(wanted) and all(len(done.get(component, ())) >= 64 for component in wanted)
