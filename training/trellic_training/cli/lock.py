"""One run at a time in a folder: two would write over each other's checkpoints and weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from trellic.errors import BadParameter

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def only_run(out: Path) -> Iterator[None]:
    """Make a folder and hold a lock on it, which the system releases if the process is killed.

    Folders that are made here and stay empty are removed at the end. Windows has no such lock.

    Raises
    ------
    BadParameter
        When another run holds the lock.
    OSError
        When the folder cannot be made.
    """
    made = [path for path in (out, *out.parents) if not path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    try:
        if fcntl is None:
            yield
            return
        descriptor = os.open(out, os.O_RDONLY)
        try:
            _lock(descriptor, out)
            yield
        finally:
            os.close(descriptor)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # it has files now
                path.rmdir()


def _lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadParameter(
            f"another run is writing to {str(out)!r}",
            remedy="wait for its end, or write to another place with --out",
        ) from None
    except OSError:  # a disk without locks
        return
