"""Partial files: made under another name, renamed when whole, removed after a crash.

The writer holds a lock on the file (``flock``), which the system releases when the process ends in
any way. So a part without a lock belongs to nobody, and the next run that writes to the folder
removes it. Windows has no such lock, but open files cannot be removed there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX, SUFFIX = ".trellic-", ".part"
_BINARY = getattr(os, "O_BINARY", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY
_LOOK = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _BINARY


@dataclass
class Part:
    """A file that is being written: its path, and a descriptor that holds the lock."""

    path: Path
    descriptor: int

    def move_to(self, target: Path) -> None:
        """Rename the whole file to its place."""
        if fcntl is None:  # Windows renames no open file
            os.close(self.descriptor)
            self.descriptor = -1
        self.path.replace(target)


@contextlib.contextmanager
def part_in(folder: Path, mode: int) -> Iterator[Part]:
    """Make a part in a folder; remove it again unless it was moved.

    Parameters
    ----------
    folder : where
    mode : permissions, of which the umask takes some away
    """
    part = _locked(folder, mode)
    try:
        yield part
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            part.path.unlink(missing_ok=True)
        raise
    finally:
        if part.descriptor >= 0:
            os.close(part.descriptor)


def _locked(folder: Path, mode: int) -> Part:
    while True:
        path = folder / f"{PREFIX}{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        part = Part(path, os.open(path, _CREATE, mode))
        if fcntl is None:
            return part
        with contextlib.suppress(OSError):  # a disk without locks, where nobody removes parts
            fcntl.flock(part.descriptor, fcntl.LOCK_EX)
        if os.fstat(part.descriptor).st_nlink:
            return part
        os.close(part.descriptor)  # removed by another process before it was locked


@functools.lru_cache(maxsize=256)
def clear(folder: Path) -> None:
    """Remove the parts that processes left in a folder when they were killed; once a process."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_nobodys(entry.path)


def _remove_if_nobodys(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    descriptor = os.open(path, _LOOK)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)
