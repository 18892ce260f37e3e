"""Where the results go: one input to a file, several (or one) into a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from trellic.errors import BadParameter
from trellic.support.files import write_atomically


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
    """

    source: str
    target: str
    folder: str | None = None
    clash: str | None = None
    onto: str | None = None

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
        if self.clash is not None:
            raise BadParameter(
                f"its result {self.target} is already that of {self.clash}",
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
        write_atomically(self.target, data)


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
        if os.path.exists(output) and os.path.exists(inputs[0]) and _same(inputs[0], output):
            raise typer.BadParameter(f"{output!r} is IN itself", param_hint="OUT")
        return [Job(inputs[0], output)]
    if os.path.exists(output) and not is_folder:
        raise typer.BadParameter(
            f"{output!r} is not a folder, which several IN need", param_hint="OUT"
        )
    jobs: list[Job] = []
    taken: dict[str, str] = {}
    sources = {os.path.realpath(source): source for source in inputs}
    for source in inputs:
        target = os.path.join(output, Path(source).stem + suffix)
        onto = sources.get(os.path.realpath(target))
        jobs.append(Job(source, target, output, taken.get(target), onto))
        taken.setdefault(target, source)
    return jobs


def _same(first: str, second: str) -> bool:
    return os.path.samefile(first, second) and os.path.isfile(first)
