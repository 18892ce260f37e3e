"""Read a file whole; write one so that it appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import stat
from pathlib import Path

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file or a pipe.

    Parameters
    ----------
    path : str or path-like
        What to read. Folders and devices are refused: ``/dev/zero`` never ends.

    Returns
    -------
    bytes
        All of it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "neither a file nor a pipe", os.fspath(path))
        return file.read()


def map_bytes(path: str | os.PathLike[str]) -> memoryview:
    """Map a file into memory, so that only what is looked at is read; read a pipe.

    Raises
    ------
    OSError
        If it cannot be read, as in `read_bytes`.
    """
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return memoryview(read_bytes(path))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file beside its place, then rename it, so that no half-written file is ever seen.

    An existing file keeps its permissions, a link its place (its target is replaced). A pipe or
    device is written to as it is.

    Parameters
    ----------
    path : str or path-like
        Where to; the folder must exist.
    data : bytes
        The whole content.

    Raises
    ------
    OSError
        If it cannot be written, such as on a full disk; nothing is left behind then and a file
        that was there before is unchanged.
    """
    try:
        _write(Path(os.path.realpath(path)), data)
    except OSError as error:  # name the place that the caller knows
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _write(target: Path, data: bytes) -> None:
    permissions = None
    with contextlib.suppress(FileNotFoundError):
        permissions = target.stat().st_mode
    if permissions is None:
        _replace(target, data, None)
    elif stat.S_ISREG(permissions) and os.access(target, os.W_OK):
        _replace(target, data, stat.S_IMODE(permissions))
    else:  # a device or a pipe; or the system says why this place cannot be written
        target.write_bytes(data)


def _replace(target: Path, data: bytes, permissions: int | None) -> None:
    """Write ``data`` to a new file in the folder of ``target`` and rename it to ``target``."""
    beside = target.with_name(f".trellic-{secrets.token_hex(6)}.part")
    try:
        with open(os.open(beside, _CREATE, 0o666), "wb") as file:
            file.write(data)
        if permissions is not None:
            beside.chmod(permissions)
        beside.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what counts
            beside.unlink(missing_ok=True)
        raise
