"""The folder for code that is made once on a machine and then run: kernels, engines.

Such files are code (kernels are pickles), so anyone who can write to the folder, or replace it,
could run code as this user. A folder is used only if its path is absolute, it belongs to the user,
it has mode 0700, and no other user except root can rename it or a folder above it. The first such
folder of these is used:

1. ``$TRELLIC_CACHE``, and no other if that is set
2. ``$XDG_CACHE_HOME/trellic``, or ``trellic`` in the cache folder of the home
3. ``trellic-UID`` in ``$TMPDIR``, ``/tmp`` or ``/var/tmp``

On Windows, where profiles are private, it is the folder of the profile, without checks.
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
KERNELS = "kernels"  # purpose of the folder for kernels that numba compiles
TEMPORARY = "/tmp", "/var/tmp"  # noqa: S108  # folders made in them are checked
Place = tuple[str, str]  # a folder that must exist, and the folder to make in it


def folder(purpose: str) -> Path | None:
    """Return the private folder for a purpose, made if needed; None if there is none.

    Parameters
    ----------
    purpose : such as "kernels", the name of the folder inside
    """
    return _found(purpose, _places())[0]


def missing(purpose: str) -> str:
    """Return why there is no folder, for each place; empty if there is one."""
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
    home = os.path.expanduser("~")  # without a home it stays "~", which is not absolute
    if sys.platform == "win32":
        return ((os.environ.get("LOCALAPPDATA", home), "trellic"),)
    found = [(home, ".cache/trellic")]
    if named := os.environ.get("XDG_CACHE_HOME"):
        found = [(Path(named).anchor, os.path.join(named, "trellic"))]
    temporary = filter(None, (os.environ.get("TMPDIR"), *TEMPORARY))
    return (*found, *((base, f"trellic-{os.geteuid()}") for base in temporary))


def _made(path: Path, base: Path) -> Path:
    """Make a folder inside an existing one; return its real path, or raise OSError."""
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
    """Raise OSError if other users could replace the content of a folder."""
    for one in (folder, *folder.parents) if sys.platform != "win32" else ():
        status = one.lstat()
        if status.st_uid not in (0, os.geteuid()):
            raise _refused(f"{one} belongs to user {status.st_uid}")
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise _refused(f"others can write to {one}")


def _check_ours(path: Path) -> None:
    """Raise OSError unless this is a private folder of the user, which the user can write to."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _refused("is not a folder")
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise _refused(f"belongs to user {status.st_uid}")
    if sys.platform != "win32" and status.st_mode & 0o077:
        raise _refused(f"has mode {stat.S_IMODE(status.st_mode):04o}, not 0700")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise _refused("cannot be written to")
