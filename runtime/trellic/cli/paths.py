"""Where the results go: one input to a file, several (or one) into a folder."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from trellic.errors import BadParameter
from trellic.support.files import (
    map_bytes,
    open_descriptor,
    read_bytes,
    read_descriptor,
    write_atomically,
)

STANDARD = "-"  # standard input or output; a file of that name is ./-
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
    """Map a file, to read no more of it than needed; read what is none.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    return read_descriptor(0) if path == STANDARD else map_bytes(path)


def write(path: str, data: bytes) -> None:
    """Write a file whole or not at all, or to standard output.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if path == STANDARD:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(path, data)


def is_stdout(path: str) -> bool:
    """Whether what is written there goes where this command prints its results."""
    if path == STANDARD or open_descriptor(path) == 1:
        return True
    with contextlib.suppress(OSError, ValueError):  # ValueError: stdout is no file
        return not os.path.isfile(path) and os.path.samestat(os.stat(path), os.fstat(1))
    return False


def is_stream(path: str) -> bool:
    """Whether a path is a pipe, a device or an open file: a place whose name has no suffix."""
    if path == STANDARD or open_descriptor(path) is not None:
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


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
        An earlier source with the same target: this one must not be written.
    onto : str, optional
        The input, this or another, that the target is: it must not be written over.
    written : dict
        What the jobs of this run have written, and of which source: shared by all of them.
    """

    source: str
    target: str
    folder: str | None = None
    clash: str | None = None
    onto: str | None = None
    written: dict[Identity, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse to overwrite an input, or the result of an earlier one.

        Raises
        ------
        BadParameter
            If the result has the place of one of them.
        """
        if self.onto is not None:
            raise BadParameter(
                f"its result {self.target} would replace the input {self.onto}",
                remedy="use another folder",
            )
        clash = self.clash or self.written.get(_identity(self.target))
        if clash is not None:
            raise BadParameter(
                f"its result {self.target} is already that of {clash}",
                remedy="rename one of them or use another folder",
            )

    def write(self, data: bytes) -> None:
        """Write the result, making the folder first if needed.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if self.folder is not None:
            os.makedirs(self.folder, exist_ok=True)
        write(self.target, data)
        if self.folder is not None:  # names that differ may be one file: of links, of a case
            self.written[_identity(self.target)] = self.source


def plan(inputs: Sequence[str], output: str, suffix: str) -> list[Job]:
    """Say where the result of each input goes.

    Parameters
    ----------
    inputs : sequence of str
        At least one.
    output : str
        A folder if there are several inputs, if it exists as one, or if it ends with a slash;
        a file otherwise.
    suffix : str
        Of the files in a folder.

    Returns
    -------
    list of Job
        One an input, in order.

    Raises
    ------
    typer.BadParameter
        If several inputs are to go into something that is no folder, or an input onto itself.
    """
    is_folder = os.path.isdir(output)
    if len(inputs) == 1 and not is_folder and not output.endswith(("/", os.sep)):
        if os.path.isfile(output) and _identity(inputs[0]) == _identity(output):
            raise typer.BadParameter(f"{output!r} is IN itself", param_hint="OUT")
        return [Job(inputs[0], output)]
    if output == STANDARD or (os.path.exists(output) and not is_folder):
        raise typer.BadParameter(
            f"{output!r} is not a folder, which several IN need", param_hint="OUT"
        )
    jobs: list[Job] = []
    taken: dict[Identity, str] = {}
    written: dict[Identity, str] = {}
    sources = {_identity(source): source for source in inputs}
    for source in inputs:
        stem = "stdin" if source == STANDARD else Path(source).stem
        target = os.path.join(output, stem + suffix)
        identity = _identity(target)
        onto = sources.get(identity)
        jobs.append(Job(source, target, output, taken.get(identity), onto, written))
        taken.setdefault(identity, source)
    return jobs


def _identity(path: str) -> Identity:
    """Tell files apart whatever their names: links, and folders reached in two ways, are one."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino
