"""The source of the pictures of ``GET /i``: a folder, or a place that fsspec reads."""

from __future__ import annotations

import os
import stat
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from trellic_serve import addresses
from trellic_serve.errors import Forbidden, NotFound, ServiceError, SourceFailed, TooLarge
from trellic_serve.settings import Settings

_PLAIN: Final = "/!$&'()*+,;=:@"  # as in the path of a URL; '?', '%' and controls have a meaning


class Source(Protocol):
    """Reads the bytes of a path."""

    def __call__(self, path: str) -> bytes:
        """Read a whole file.

        Raises
        ------
        NotFound, Forbidden, TooLarge, SourceFailed
        """


def open_source(settings: Settings) -> Source | None:
    """Return the source that the settings name; None for none.

    Raises
    ------
    NotFound
        When the folder does not exist.
    """
    where = settings.source
    if where is None:
        return None
    if "://" in where:
        return Remote(where, settings)
    return Folder(Path(where), settings.max_bytes)


def clean(path: str) -> str:
    """Return a path that stays inside the folder where it begins.

    Raises
    ------
    Forbidden
        When it would not.
    """
    parts = path.split("/")
    if not path or "\0" in path or "\\" in path or {"", ".", ".."} & set(parts):
        raise Forbidden("a path with empty parts, '..', '\\' or NUL", expected="FOLDER/NAME")
    return path


class Folder:
    """Files in a folder; links that lead out of it are not followed."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        if not root.is_dir():
            raise NotFound(f"no folder {str(root)!r} to read sources from")
        self._root, self._most = root.resolve(), max_bytes

    def __call__(self, path: str) -> bytes:
        """Read a file; see `Source`."""
        try:
            place = (self._root / clean(path)).resolve(strict=True)
            if not place.is_relative_to(self._root):
                raise Forbidden("a link that leads out of the folder of sources")
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError, RuntimeError) as error:
            raise _missing() from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _missing()
        with os.fdopen(descriptor, "rb") as file:
            return _bounded(file.read(self._most + 1), self._most)


class Remote:
    """Files below a URL of fsspec."""

    def __init__(self, base: str, settings: Settings) -> None:
        import fsspec

        self._base, self._most = base, settings.max_bytes
        self._web = base.startswith(("http://", "https://"))
        options = {}
        if self._web:
            options = {
                "get_client": partial(
                    addresses.client,
                    private=settings.allow_private,
                    loopback=settings.allow_loopback,
                    seconds=settings.deadline,
                ),
                "skip_instance_cache": True,
                "use_listings_cache": False,
            }
        self._files, _ = fsspec.core.url_to_fs(base, **options)

    def __call__(self, path: str) -> bytes:
        """Read a file; see `Source`."""
        path = clean(path)
        url = self._base + (quote(path, safe=_PLAIN) if self._web else path)
        plain = url if self._web else self._files._strip_protocol(url)
        options = {"block_size": 0} if self._web else {}  # 0: as a stream, no size needed
        try:
            with self._files.open(plain, "rb", **options) as file:
                return _bounded(file.read(self._most + 1), self._most)
        except ServiceError:
            raise
        except Exception as error:  # each file system of fsspec raises its own
            raise _failed(error) from error


def _failed(error: BaseException) -> ServiceError:
    """Find why a source failed: libraries wrap what `addresses.check` and sockets raise."""
    chain, cause = [], error.__cause__ or error.__context__
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for cause in (error, *chain):
        if isinstance(cause, Forbidden):
            return cause
    missing = (FileNotFoundError, IsADirectoryError, PermissionError)
    odd = [one for one in chain if isinstance(one, OSError) and not isinstance(one, missing)]
    if isinstance(error, missing) and not odd:
        return _missing()
    return SourceFailed("the place of the sources does not answer", remedy="try again later")


def _missing() -> NotFound:
    return NotFound("no such source", remedy="check the path")


def _bounded(data: bytes, most: int) -> bytes:
    if len(data) > most:
        raise TooLarge(f"a source of over {most} bytes", remedy="use a smaller file")
    return data
