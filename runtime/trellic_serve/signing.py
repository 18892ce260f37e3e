"""Signatures of URLs: those of imgproxy, HMAC-SHA256 over a salt and the path.

A file of keys has one pair per line, ``KEY SALT``, both in hex; ``#`` begins a comment. A URL may
be signed with any pair of the file, so keys can change without an outage: add the new pair, sign
with it, and remove the old one. The file is read again when it changes.

Examples
--------
>>> pair = parse("70656e6e79 73616c74")[0]
>>> sign(pair, "/w:300/a/photo.png")
'EwkJQlceh7uN0pO79GC7j4Cf6bc_DrA57H5UT3SrmAA'
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from trellic.errors import BadParameter

UNSIGNED = ("_", "unsafe", "insecure")  # instead of a signature


class Pair(NamedTuple):
    """A key, and a salt that is put before each path."""

    key: bytes
    salt: bytes


def parse(text: str) -> list[Pair]:
    """Read a file of keys.

    Raises
    ------
    BadParameter
        When a line is not a pair, or there is no pair.
    """
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            key, salt = map(bytes.fromhex, words)
        except ValueError:
            raise BadParameter(
                f"line {number} of the signing keys", expected="KEY SALT, both in hex"
            ) from None
        pairs.append(Pair(key, salt))
    if not pairs:
        raise BadParameter("a file without signing keys", expected="one line KEY SALT at least")
    return pairs


def sign(pair: Pair, path: str) -> str:
    """Return the signature of a path.

    Parameters
    ----------
    path : as in the URL after the signature: ``/OPTIONS/PATH``
    """
    digest = hmac.new(pair.key, pair.salt + path.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def holds(pairs: Iterable[Pair], signature: str, path: str) -> bool:
    """Return whether one of the pairs has signed a path, in the same time for all signatures."""
    given = signature.encode("utf-8", "replace")
    found = [hmac.compare_digest(sign(pair, path).encode(), given) for pair in pairs]
    return any(found)
