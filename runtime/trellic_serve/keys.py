"""API keys, and files of keys that are read again when they change."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from trellic.errors import BadParameter
from trellic_serve.errors import Unauthorized

T = TypeVar("T")
_log = logging.getLogger("trellic_serve")


class Watched(Generic[T]):
    """The content of a file, which is read again when the file has changed.

    Parameters
    ----------
    path : of the file
    parse : from its text

    Raises
    ------
    OSError, BadParameter
        When it cannot be read or parsed.
    """

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self._path, self._parse = path, parse
        self._mark = self._look()
        self._value = parse(path.read_text("utf-8"))

    def __call__(self) -> T:
        """Return the present content; if a new version is wrong, that of the last good one."""
        try:
            mark = self._look()
            if mark != self._mark:
                self._mark = mark
                self._value = self._parse(self._path.read_text("utf-8"))
                _log.info("keys read again", extra={"fields": {"file": self._path.name}})
        except (OSError, UnicodeError, BadParameter) as error:
            fields = {"file": self._path.name, "seen": str(error)}
            _log.warning("keys not read, the last ones stay", extra={"fields": fields})
        return self._value

    def _look(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_mtime_ns, found.st_size, found.st_ino


def parse_api_keys(text: str) -> dict[bytes, str]:
    """Read a file of API keys: one per line, ``NAME KEY``; ``#`` begins a comment.

    Returns
    -------
    names by SHA-256 of the key

    Raises
    ------
    BadParameter
        When a line is something else, a key is shorter than 16 characters, or there is none.
    """
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) < 16:
            raise BadParameter(
                f"line {number} of the API keys",
                expected="NAME KEY, a key of 16 characters or more",
            )
        found[_digest(words[1])] = words[0]
    if not found:
        raise BadParameter("a file without API keys", expected="one line NAME KEY at least")
    return found


def name_of(keys: dict[bytes, str], authorization: str | None) -> str:
    """Return the name of a request's key.

    Parameters
    ----------
    keys : from `parse_api_keys`
    authorization : header, ``Bearer KEY``

    Raises
    ------
    Unauthorized
        When it has no key, or an unknown one.
    """
    scheme, _, key = (authorization or "").partition(" ")
    digest = _digest(key.strip())
    found = [name for known, name in keys.items() if hmac.compare_digest(known, digest)]
    if scheme.lower() != "bearer" or not found:
        raise Unauthorized(
            "no API key" if authorization is None else "an API key that is not known",
            remedy="send the header Authorization: Bearer KEY",
        )
    return found[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()
