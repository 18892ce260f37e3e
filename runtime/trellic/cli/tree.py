"""The files that a command works on: named files, and with -r files in named folders."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import typer

STANDARD = "-"  # standard input or output; a file of that name is ./-


class Source(NamedTuple):
    """A file to read.

    Attributes
    ----------
    path : as the user gave it, or below a folder that the user gave
    place : of a file below such a folder, the folder that it is in, relative to that
    """

    path: str
    place: str = ""


def expand(inputs: Sequence[str], recursive: bool, suffixes: Collection[str]) -> list[Source]:
    """Replace each folder by the files in it and its subfolders, in order of their names.

    Hidden files and folders are left out, and pipes, sockets and devices too. Links to folders are
    not followed.

    Parameters
    ----------
    inputs : files, folders, ``-``
    recursive : whether folders may be named
    suffixes : of the files to take from folders, lower case

    Raises
    ------
    typer.BadParameter
        When a folder has no such file.
    """
    if not recursive:
        return [Source(path) for path in inputs]
    sources: list[Source] = []
    for path in inputs:
        if path == STANDARD or not os.path.isdir(path):
            sources.append(Source(path))
            continue
        below = list(_below(path, suffixes))
        if not below:
            kinds = ", ".join(sorted(suffixes))
            raise typer.BadParameter(f"{path!r} holds no file with {kinds}", param_hint="IN")
        sources += below
    return sources


def _below(top: str, suffixes: Collection[str]) -> Iterator[Source]:
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = os.path.relpath(folder, top)
        for name in sorted(names):
            path = os.path.join(folder, name)
            wanted = Path(name).suffix.lower() in suffixes and not name.startswith(".")
            if wanted and _is_file(Path(path)):
                yield Source(path, "" if place == "." else place)


def _is_file(path: Path) -> bool:
    """Whether it is a file, or a link that leads nowhere, which is to be an error by its name."""
    return path.is_file() or (path.is_symlink() and not path.exists())
