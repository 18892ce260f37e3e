"""Parts of a file (``Range``, RFC 9110, section 14): the beginning of a progressive file, say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from trellic_serve.errors import BadRange

_ONE: Final = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.IGNORECASE)
ACCEPTED: Final = {"Accept-Ranges": "bytes"}


class Part(NamedTuple):
    """What to send of a file."""

    status: int
    data: bytes
    headers: dict[str, str]


def part(data: bytes, etag: str, asked: Mapping[str, str]) -> Part:
    """Return the part that a client asked for, or the whole.

    A client that asks for several parts, in another unit, or of an older file (``If-Range``) gets
    the whole.

    Parameters
    ----------
    data : the whole file
    etag : its strong one
    asked : headers of the request, by names in lower case

    Raises
    ------
    BadRange
        When the part begins after the end of the file.
    """
    found = _ONE.fullmatch(asked.get("range", "").replace(" ", ""))
    if found is None or asked.get("if-range", etag).strip() != etag:
        return Part(200, data, ACCEPTED)
    first, last, tail = found.groups()
    begin = max(0, len(data) - int(tail)) if tail else int(first)
    end = min(int(last) + 1, len(data)) if last else len(data)
    if last and int(last) < begin:  # no range at all: ignored
        return Part(200, data, ACCEPTED)
    if begin >= len(data):
        raise BadRange(f"a range that begins at byte {begin}", len(data))
    about = {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
    return Part(206, data[begin:end], ACCEPTED | about)
