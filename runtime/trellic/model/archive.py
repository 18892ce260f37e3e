"""Read zip files that strangers may have made: bundles, and the arrays inside them.

The sizes in a zip file are checked before it is unpacked, and counted while it is. Only the methods
"stored" and "deflated" are allowed, because others take memory that their bytes do not show.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trellic.errors import BadBundle

MAX_MEMBERS = 256
MAX_UNPACKED = 1 << 28  # bytes of all files of a bundle together
MAX_PACKED = MAX_UNPACKED + (1 << 20)
MAX_DIRECTORY = 1 << 17  # bytes of the list of members
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
ERRORS = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    EOFError,
    RuntimeError,
    UnicodeDecodeError,
    struct.error,
)
Arrays = Mapping[str, npt.NDArray[Any]]

# Errors that NumPy raises for damaged headers.
_NO_ARRAY = (
    ValueError,
    OverflowError,
    EOFError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
_END = struct.Struct("<4s4H2LH")  # end of the central directory, without its comment
_END_SIGNATURE, _LOCATOR_SIGNATURE, _LOCATOR_SIZE = b"PK\5\6", b"PK\6\7", 20
_MAX_COMMENT = (1 << 16) - 1
_WEIGHTS, _HEAD = b"/data.pkl", 512  # a file of torch.save begins with that member


def open_file(path: Path) -> IO[bytes]:
    """Open a bundle's file; it neither waits for a pipe nor reads from a device.

    Raises
    ------
    BadBundle
        When it cannot be opened, is not a regular file, or is too large for a bundle.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise BadBundle(f"cannot read bundle {path} ({error})") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_PACKED:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        expected = f"at most {MAX_PACKED}"
        raise BadBundle(f"bundle {path} has {status.st_size} bytes", expected=expected)
    raise BadBundle(f"cannot read bundle {path}: it is not a regular file")


def unpack(
    file: IO[bytes], name: str, *, only: str | None = None, limit: int | None = None
) -> dict[str, bytes]:
    """Return the members of a zip file.

    Parameters
    ----------
    file : seekable
    name : of the file, for messages
    only : the one member to return, if it is there
    limit : bytes of all members together, `MAX_UNPACKED` by default

    Raises
    ------
    BadBundle
        When it is damaged, or takes more than it should.
    """
    try:
        _check_directory(file, name)
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if only is None or m.filename == only]
            _check_members(members, name, MAX_UNPACKED if limit is None else limit)
            unpacked = {}
            for member in members:
                with archive.open(member) as part:
                    unpacked[member.filename] = part.read(member.file_size)
            return unpacked
    except ERRORS as error:
        raise BadBundle(f"cannot read {name} ({error})") from error


def _check_directory(file: IO[bytes], name: str) -> None:
    """Refuse a long list of members before Python reads all of it, and weights of torch."""
    file.seek(0)
    if _WEIGHTS in file.read(_HEAD):
        raise BadBundle(
            f"{name} holds weights of training",
            expected="a bundle",
            remedy="make one of them with: trellic export",
        )
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _MAX_COMMENT - _LOCATOR_SIZE))
    tail = file.read()
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0":  # has a comment
        at = tail.rfind(_END_SIGNATURE)
    if not 0 <= at <= len(tail) - _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    length = _END.unpack_from(tail, at)[5]
    large = tail[max(0, at - _LOCATOR_SIZE) : at].startswith(_LOCATOR_SIGNATURE)
    if length > MAX_DIRECTORY or large:
        raise BadBundle(
            f"{name} lists its members in {'64-bit fields' if large else f'{length} bytes'}",
            expected=f"at most {MAX_DIRECTORY} bytes",
        )


def _check_members(members: list[zipfile.ZipInfo], name: str, limit: int) -> None:
    names = {member.filename for member in members}
    if len(names) != len(members) or len(members) > MAX_MEMBERS:
        raise BadBundle(
            f"{name} has {len(members)} members of {len(names)} names",
            expected=f"one each, at most {MAX_MEMBERS}",
        )
    for member in members:
        if member.compress_type not in METHODS:
            raise BadBundle(
                f"{name} packs {member.filename!r} by method {member.compress_type}",
                expected="0 (stored) or 8 (deflated)",
                remedy="pack it again with: zip",
            )
    size = sum(member.file_size for member in members)
    if size > limit:
        raise BadBundle(f"{name} has {size} bytes once unpacked", expected=f"at most {limit}")


def load_arrays(data: bytes, name: str) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz`` file; no pickles, and no more memory than it has bytes.

    Raises
    ------
    BadBundle
        When it is damaged, or holds anything else.
    """
    members = unpack(io.BytesIO(data), name)
    try:
        return {_stem(member): _array(content) for member, content in members.items()}
    except _NO_ARRAY as error:
        raise BadBundle(f"{name} cannot be read ({error})") from error


def _stem(member: str) -> str:
    if not member.endswith(".npy"):
        raise ValueError(f"{member!r} is not an array")
    return member.removesuffix(".npy")


def _array(content: bytes) -> npt.NDArray[Any]:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of version {version}")
    read = np.lib.format.read_array_header_1_0
    if version == (2, 0):
        read = np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = read(stream)
    left = len(content) - stream.tell()
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != left or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} and shape {shape} in {left} bytes")
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if by_columns else "C").copy()
