"""The folder for what is made once on a machine and then run: kernels, engines.

Such files are code (kernels are pickles), so a folder that somebody else can write to, or replace,
would let them run code as us. A folder is used only if it is absolute, ours and of mode 0700, and
if nobody but us and root can rename it or a folder above it. The first of these that is so:

1. what ``$TRELLIC_CACHE`` names; if it is set, this one or none
2. ``$XDG_CACHE_HOME/trellic``, or ``trellic`` in the cache folder of the home
3. ``trellic-UID`` in ``$TMPDIR``, ``/tmp`` or ``/var/tmp``

On Windows, where profiles are private, it is that of the profile, unchecked.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
from pathlib import Path

VARIABLE = "TRELLIC_CACHE"
KERNELS = "kernels"  # purpose of the folder for what numba compiles
TEMPORARY = "/tmp", "/var/tmp"  # noqa: S108  # what is made in them is checked
Place = tuple[str, str]  # a folder that has to be there, and what is made inside it


def folder(purpose: str) -> Path | None:
    """Return the private folder for a purpose, made if needed; None where there is none.

    Parameters
    ----------
    purpose : such as "kernels", the name of the folder inside
    """
    return _found(purpose, _places())[0]


def missing(purpose: str) -> str:
    """Say why there is no folder: what is wrong with each place; nothing if there is one."""
    return _found(purpose, _places())[1]


@functools.cache
def _found(purpose: str, places: tuple[Place, ...]) -> tuple[Path | None, str]:
    faults = []
    for base, inside in places:
        path = Path(base, inside, purpose)
        try:
            return _made(path, Path(base)), ""
        except OSError as error:
            faults.append(f"{path}: {error.strerror}")
    return None, "; ".join(faults)


def _places() -> tuple[Place, ...]:
    if named := os.environ.get(VARIABLE):
        return ((Path(named).anchor, named),)
    home = os.path.expanduser("~")  # of no home it stays "~", which is not absolute
    if sys.platform == "win32":
        return ((os.environ.get("LOCALAPPDATA", home), "trellic"),)
    found = [(home, ".cache/trellic")]
    if named := os.environ.get("XDG_CACHE_HOME"):
        found = [(Path(named).anchor, os.path.join(named, "trellic"))]
    temporary = filter(None, (os.environ.get("TMPDIR"), *TEMPORARY))
    return (*found, *((base, f"trellic-{os.geteuid()}") for base in temporary))


def _made(path: Path, base: Path) -> Path:
    """Make a folder below one that is there; return its true path, or raise OSError."""
    if not path.is_absolute():
        raise _refused("is not absolute")
    folder, made = base.resolve(strict=True), base
    for part in path.relative_to(base).parts:
        _check_above(folder)
        made = folder / part
        with contextlib.suppress(FileExistsError):
            made.mkdir(0o700)
        folder = made.resolve(strict=True)
    _check_ours(made)
    return made


def _refused(why: str) -> OSError:
    return OSError(errno.EPERM, why)


def _check_above(folder: Path) -> None:
    """Raise OSError if others could put something else in the place of what is in a folder."""
    for one in (folder, *folder.parents) if sys.platform != "win32" else ():
        status = one.lstat()
        if status.st_uid not in (0, os.geteuid()):
            raise _refused(f"{one} belongs to user {status.st_uid}")
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise _refused(f"others can write to {one}")


def _check_ours(path: Path) -> None:
    """Raise OSError unless this is a folder of ours, for us alone, that we can write to."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _refused("is no folder")
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise _refused(f"belongs to user {status.st_uid}")
    if sys.platform != "win32" and status.st_mode & 0o077:
        raise _refused(f"has mode {stat.S_IMODE(status.st_mode):04o}, not 0700")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _refused("cannot be written to")
