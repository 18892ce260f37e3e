"""Bodies of requests: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from trellic_serve.errors import BadRequest, TooLarge, TooSlow
from trellic_serve.pool import Gone

_PARTS = 8  # of a form that are read, to say what is wrong: files, and as many fields
_SHOWN = 64  # characters of a field's name


async def read(request: Request, most: int, seconds: float) -> bytes:
    """Read the file of a request: its body, or the one file of a form.

    Parameters
    ----------
    most : bytes
    seconds : in which all of it must arrive

    Raises
    ------
    TooLarge, TooSlow, BadRequest
    Gone
        When the client has closed its connection.
    """
    _check_length(request, most)
    try:
        async with asyncio.timeout(seconds):
            body = await _all(request, most)
    except TimeoutError as error:
        raise TooSlow(f"a body that had not arrived after {seconds:g} s") from error
    except ClientDisconnect as error:
        raise Gone from error
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await _file_of(request, body)
    if not body:
        raise BadRequest("an empty body", expected="a file")
    return body


def _check_length(request: Request, most: int) -> None:
    """Refuse a body whose declared length is too large, before reading any of it."""
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > most:
        raise _too_large(most)


async def _all(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


class _InMemory(MultiPartParser):
    """Keeps files in memory, because they are bounded and the disk may be read-only."""

    spool_max_size = 2**40


async def _file_of(request: Request, body: bytes) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(request.headers, once(), max_files=_PARTS, max_fields=_PARTS)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeError) as error:
        raise BadRequest(
            f"a form that cannot be read, or has over {_PARTS} parts",
            expected="one file, as multipart/form-data",
        ) from error
    try:
        return await _only_file(form).read()
    finally:
        await form.close()


def _only_file(form: FormData) -> UploadFile:
    """Return the file of a form that holds nothing else."""
    files = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            raise BadRequest(
                f"field {name[:_SHOWN]!r} of the form",
                expected="a file alone",
                remedy="options stand in the query: ?NAME=VALUE",
            )
        files.append(value)
    if len(files) != 1:
        raise BadRequest(f"{len(files)} files in the form", expected="one")
    return files[0]


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"a body of over {most} bytes", remedy="send a smaller file")
