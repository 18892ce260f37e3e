"""Commands of packages that need an extra, such as ``trellic train``."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
from collections.abc import Sequence

import typer

from trellic.cli.report import fail, plain_warnings
from trellic.errors import MissingExtra, TrellicError
from trellic.support.installed import install_command


def dispatch(command: str, module: str, extra: str, arguments: Sequence[str]) -> None:
    """Run the ``main`` of a module that may not be importable here.

    Parameters
    ----------
    command : str
        Its name, for the error message.
    module : str
        Such as ``trellic_training.cli.train``; its ``main(arguments)`` returns an exit code
        or None. It imports the extra's packages only once the arguments are right.
    extra : str
        The extra that the module needs.
    arguments : sequence of str
        Passed on as they are.

    Raises
    ------
    typer.Exit
        With the exit code; 1 if the extra is missing.
    """
    gc.enable()
    try:
        with plain_warnings():
            code = importlib.import_module(module).main(list(arguments))
    except ModuleNotFoundError as error:
        package = (error.name or module).partition(".")[0]
        raise fail(MissingExtra.of(package, extra, f"trellic {command}")) from error
    except (TrellicError, OSError, MemoryError) as error:
        raise fail(error) from error
    raise typer.Exit(code or 0)


def needs(extra: str, package: str) -> str:
    """Say how to install an extra, where its package is missing: a line for an epilog of typer."""
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(package) is not None:
            return ""
    from rich.markup import escape

    text = f"This needs the extra {extra!r}, which is not installed: {install_command(extra)}"
    return escape(text)
