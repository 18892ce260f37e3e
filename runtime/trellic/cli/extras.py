"""``trellic train`` and ``trellic export``: handed over to packages that need an extra."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Sequence

import typer

from trellic.cli.report import fail
from trellic.errors import MissingExtra, TrellicError


def dispatch(command: str, module: str, extra: str, arguments: Sequence[str]) -> None:
    """Run the ``main`` of a module that may not be importable here.

    Parameters
    ----------
    command : str
        Its name, for the error message.
    module : str
        Such as ``trellic_training.cli.train``; its ``main(arguments)`` returns an exit code
        or None.
    extra : str
        The extra that brings what the module needs.
    arguments : sequence of str
        Passed on as they are.

    Raises
    ------
    typer.Exit
        With the exit code; 1 if the extra is missing.
    """
    gc.enable()
    try:
        main = importlib.import_module(module).main
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise fail(MissingExtra.of(package, extra, f"trellic {command}")) from error
    try:
        code = main(list(arguments))
    except (TrellicError, OSError, MemoryError) as error:
        raise fail(error) from error
    raise typer.Exit(code or 0)
