"""Places of the results: one input goes to a file, several (or one) go into a folder."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from trellic.cli.stdout import printing
from trellic.cli.tree import STANDARD, Source
from trellic.errors import BadParameter
from trellic.images import suffixes
from trellic.support.files import (
    map_bytes,
    open_descriptor,
    read_bytes,
    read_descriptor,
    write_atomically,
)

TLC = ".tlc"
_SLASHES = ("/", os.sep)  # that end the name of a folder
Identity = tuple[int, int] | str  # device and inode of a file, or the path where one will be


def read(path: str) -> bytes:
    """Read a file, a pipe, or standard input.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return read_descriptor(0) if path == STANDARD else read_bytes(path)


def read_parts(path: str) -> bytes | memoryview:
    """Map a file, so that only the needed parts are read; read a pipe or device whole.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return read_descriptor(0) if path == STANDARD else map_bytes(path)


def write(path: str, data: bytes) -> None:
    """Write a whole file or nothing, or write to standard output.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if path == STANDARD:
        with printing():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    else:
        write_atomically(path, data)


def is_stdout(path: str) -> bool:
    """Whether a path is where this command prints its results."""
    if path == STANDARD or open_descriptor(path) == 1:
        return True
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout is not a file
        return not os.path.isfile(path) and os.path.samestat(os.stat(path), os.fstat(1))
    return False


def is_stream(path: str) -> bool:
    """Whether a path is a pipe, a device or an open file: a place whose name has no suffix."""
    if path == STANDARD or open_descriptor(path) is not None:
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


@dataclass
class Written:
    """Files that the jobs of one run have written, and their sources; one writes at a time."""

    sources: dict[Identity, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Job:
    """One file to work on, and where its result goes.

    Parameters
    ----------
    source, target : str
        Paths, the source as the user gave it.
    folder : str, optional
        The folder to make, if it is missing, when there is something to put into it.
    clash : str, optional
        An earlier source with the same target, so this one must not be written.
    onto : str, optional
        The input that is also the target, so it must not be overwritten.
    written : Written
        Files that the jobs of this run have written; all jobs share it.
    """

    source: str
    target: str
    folder: str | None = None
    clash: str | None = None
    onto: str | None = None
    written: Written = field(default_factory=Written)

    def check(self) -> None:
        """Refuse to overwrite an input, or the result of an earlier one.

        Raises
        ------
        BadParameter
            If the result would replace one of them.
        """
        if self.onto is not None:
            raise BadParameter(
                f"its result {self.target} would replace the input {self.onto}",
                remedy="use another folder",
            )
        clash = self.clash or self.written.sources.get(_identity(self.target))
        if clash is not None:
            remedy = "rename one of them or use another folder"
            if _suffix(self.target) == TLC and _suffix(clash) != _suffix(self.source) != TLC:
                remedy = "encode with --keep-suffix, " + remedy
            raise BadParameter(
                f"its result {self.target} is already that of {clash}", remedy=remedy
            )

    def is_done(self) -> bool:
        """Whether the result exists and is up to date.

        It is not if the source was changed, or put in its place, after the result was written: it
        may be another file then, of the same name but for the suffix. So both times of the source
        count: that of its content, as of ``make``, and that of its entry in the file system, which
        moving an old file in renews. Of a pipe nothing is known: any result will do.

        Raises
        ------
        OSError
            If the result exists, and the source does not.
        """
        if not os.path.exists(self.target):
            return False
        if is_stream(self.source):
            return True
        source, result = os.stat(self.source), os.stat(self.target)
        newer = source.st_mtime_ns > result.st_mtime_ns or source.st_ctime_ns > result.st_ctime_ns
        return not newer

    def write(self, data: bytes) -> None:
        """Write the result, making the folder first if needed.

        Raises
        ------
        BadParameter
            As of `check`: another job may have written there meanwhile.
        OSError
            If it cannot be written.
        """
        if self.folder is None:
            write(self.target, data)
            return
        with self.written.lock:
            self.check()
            os.makedirs(self.folder, exist_ok=True)
            write(self.target, data)
            # names that differ may be one file: of links, of a case
            self.written.sources[_identity(self.target)] = self.source

    def keep_times(self) -> None:
        """Give the result the times of its source, if both are files.

        Raises
        ------
        OSError
            If the system refuses.
        """
        if os.path.isfile(self.source) and os.path.isfile(self.target):
            status = os.stat(self.source)
            os.utime(self.target, ns=(status.st_atime_ns, status.st_mtime_ns))


def plan(
    sources: Sequence[Source],
    output: str,
    suffix: str,
    *,
    folder: bool = False,
    keep_suffix: bool = False,
) -> list[Job]:
    """Return where the result of each source goes.

    Parameters
    ----------
    sources : sequence of Source
        At least one.
    output : str
        A folder if there are several sources, if it exists as one, or if it ends with a slash;
        a file otherwise.
    suffix : str
        Of the files in a folder.
    folder : bool
        Whether it is a folder in any case.
    keep_suffix : bool
        Whether the names of files in a folder keep the suffix of their source before their own.

    Returns
    -------
    list of Job
        One for each source, in order.

    Raises
    ------
    typer.BadParameter
        If several sources would go into something that is not a folder, or into a new folder with
        the name of a file, or one onto itself; or if a name is empty.
    """
    if not all(source.path for source in sources):
        raise typer.BadParameter("an empty name", param_hint="IN")
    if not output:
        raise typer.BadParameter("an empty name", param_hint="OUT")
    is_folder = os.path.isdir(output)
    into_folder = folder or is_folder or output.endswith(_SLASHES)
    if len(sources) == 1 and not into_folder:
        if os.path.isfile(output) and _identity(sources[0].path) == _identity(output):
            raise typer.BadParameter(f"{output!r} is IN itself", param_hint="OUT")
        return [Job(sources[0].path, output)]
    if output == STANDARD or (os.path.exists(output) and not is_folder):
        raise typer.BadParameter(
            f"{output!r} is not a folder, which several IN need", param_hint="OUT"
        )
    if not output.endswith(_SLASHES) and not is_folder and _suffix(output) in {TLC, *suffixes()}:
        raise typer.BadParameter(
            f"{output!r} looks like a file, and several IN or -r need a folder; "
            "end it with / for a folder of that name",
            param_hint="OUT",
        )
    jobs: list[Job] = []
    taken: dict[Identity, str] = {}
    written = Written()
    inputs = {_identity(source.path): source.path for source in sources}
    for source, place in sources:
        where = os.path.join(output, place) if place else output
        target = os.path.join(where, _name(source, keep_suffix) + suffix)
        identity = _identity(target)
        onto = inputs.get(identity)
        jobs.append(Job(source, target, where, taken.get(identity), onto, written))
        taken.setdefault(identity, source)
    return jobs


def _name(source: str, keep_suffix: bool) -> str:
    """Return the name of a result in a folder, without its own suffix."""
    if source == STANDARD:
        return "stdin"
    return Path(source).name if keep_suffix else Path(source).stem


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _identity(path: str) -> Identity:
    """Return the identity of a file, the same for links to it and for other ways to its folder."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
