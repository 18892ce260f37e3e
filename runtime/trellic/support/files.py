"""Read whole files; write files so that each appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
from pathlib import Path

from trellic.support import parts

# A folder where nothing may be made, a file that is a mount, or one of another owner: such a file
# can only be written in place.
_IN_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV}
_LINKS = 40  # as many as Linux follows


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
        _check_ends(file.fileno(), os.fspath(path))
        return file.read()


def read_descriptor(descriptor: int) -> bytes:
    """Read the rest of an open file, pipe or socket, such as standard input (0).

    Raises
    ------
    OSError
        If it cannot be read, as in `read_bytes`.
    """
    with open(descriptor, "rb", closefd=False) as file:
        _check_ends(descriptor, "standard input" if descriptor == 0 else str(descriptor))
        return file.read()


def _check_ends(descriptor: int, name: str) -> None:
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        raise OSError(errno.EINVAL, "neither a file nor a pipe", name)


def map_bytes(path: str | os.PathLike[str]) -> memoryview:
    """Map a file into memory, so that only the used parts are read; read a pipe.

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
    """Write a file under another name, then rename it, so that no partial file is ever visible.

    An existing file keeps its owner, group, permissions and attributes, a link its place (its
    target is replaced); of a file of several names (hard links) only this name gets the new
    content. A new file gets the permissions that the umask leaves. At no time can anybody read the
    data who could not read the file itself. Partial files of earlier runs that were killed are
    removed.

    If a file cannot be replaced but can be written (in a folder that cannot be written to, as a
    mount, with an owner that we cannot give it), it is written in place. So are pipes, devices, and
    files that are already open (``/dev/stdout``, ``/dev/fd/N``).

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
        descriptor = open_descriptor(path)
        if descriptor is not None:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.stat(path)  # the system may refuse to follow a link that somebody else put there
            _write(Path(os.path.realpath(path)), data)
    except OSError as error:  # name the place that the caller knows
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Check before long work that its result can be written; nothing is made.

    Raises
    ------
    OSError
        If the path is a folder, or its folder is missing or cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists():
        place = target
    elif target.parent.is_dir():
        place = target.parent
    else:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def open_descriptor(path: str | os.PathLike[str]) -> int | None:
    """Return N if a path leads to ``/dev/fd/N`` or the like, which this process has open."""
    ours = {"/dev/fd", os.path.realpath("/dev/fd"), os.path.realpath("/proc/self/fd")}
    current = os.path.abspath(path)
    for _ in range(_LINKS):
        folder = os.path.realpath(os.path.dirname(current))
        name = os.path.basename(current)
        if folder in ours and name.isdecimal():
            return int(name)
        current = os.path.join(folder, name)
        if not os.path.islink(current):
            return None
        current = os.path.normpath(os.path.join(folder, os.readlink(current)))
    return None


def _write(target: Path, data: bytes) -> None:
    try:
        status = target.stat()
    except FileNotFoundError:
        _replace(target, data, None)
        return
    if not (stat.S_ISREG(status.st_mode) and os.access(target, os.W_OK)):
        target.write_bytes(data)  # a device or a pipe; or the system says what is wrong
        return
    try:
        _replace(target, data, status)
    except OSError as error:
        if error.errno not in _IN_PLACE:
            raise
        _overwrite(target, data)


def _replace(target: Path, data: bytes, like: os.stat_result | None) -> None:
    """Write ``data`` to a new file in the folder of ``target`` and rename it to ``target``."""
    parts.clear(target.parent)
    with parts.part_in(target.parent, 0o666 if like is None else like.st_mode & 0o600) as part:
        with open(os.dup(part.descriptor), "wb") as file:
            if like is not None and os.name == "posix":
                _take_after(file.fileno(), target, like)
            file.write(data)
        part.move_to(target)


def _take_after(descriptor: int, target: Path, like: os.stat_result) -> None:
    """Give an open, empty file the owner, group, attributes and permissions of another."""
    status = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    for name in os.listxattr(target) if hasattr(os, "listxattr") else []:
        with contextlib.suppress(OSError):  # some belong to the system
            os.setxattr(descriptor, name, os.getxattr(target, name))
    os.fchmod(descriptor, like.st_mode & 0o777)


def _overwrite(target: Path, data: bytes) -> None:
    """Write a file in place, after reserving room for all of it."""
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0)
    with open(os.open(target, flags), "wb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if len(data) > size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), size, len(data) - size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # this disk cannot reserve room
                file.truncate(size)
                raise
        file.write(data)
        file.truncate(len(data))
