"""Output of a command: results on stdout; errors, warnings and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import typer

from trellic.cli.stdout import printing
from trellic.errors import TrellicError, TrellicWarning

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DEBUG_VARIABLE = "TRELLIC_DEBUG"  # set to anything, it shows tracebacks
_OS_MESSAGES: dict[type[OSError], str] = {
    FileNotFoundError: "no such file or folder",
    IsADirectoryError: "is a folder, expected a file",
    NotADirectoryError: "is a file where a folder is expected",
    PermissionError: "permission denied",
}


class CannotGoOn(Exception):
    """The command has to stop, because every file would fail, such as when no model loads."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass
class Spoken:
    """Messages about one file; held back while other files are worked on.

    Attributes
    ----------
    name : the file's
    held : lines for stdout (True) and stderr; None if each is printed at once
    said : the warnings so far, because a file may be read twice
    """

    name: str
    held: list[tuple[bool, str]] | None = None
    said: set[str] = field(default_factory=set)


_current: ContextVar[Spoken] = ContextVar("file")


class Report:
    """The output of one command that works through some files.

    Use it as a context manager; it leaves with exit code 1 if any file failed.

    Parameters
    ----------
    label : str
        What is being done, for the progress bar: ``"Encoding"``.
    files : sequence of str
        Their names; one alone gets a progress display only if it is large.
    as_json : bool
        Whether results are JSON objects.
    large : int
        Size in bytes from which one file takes long enough for that.
    aside : bool
        Print results on stderr, because a file's result goes to stdout.
    """

    def __init__(
        self,
        label: str,
        files: Sequence[str],
        *,
        as_json: bool,
        large: float = math.inf,
        aside: bool = False,
    ) -> None:
        self.failed = False
        self._noted = False
        self._as_json, self._aside = as_json, aside
        self._warnings = contextlib.ExitStack()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        if sys.stderr.isatty() and (len(files) > 1 or any(_size(name) > large for name in files)):
            self._progress, self._task = _bar(label, len(files))

    def __enter__(self) -> Self:
        """Show the progress bar, if there is one, and handle warnings."""
        self._warnings.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", TrellicWarning)
        warnings.showwarning = self._show_warning
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: object) -> None:
        """Remove the progress bar and, if a file failed, leave with code 1."""
        self._warnings.close()
        if self._progress is not None:
            self._progress.stop()
        if isinstance(error, CannotGoOn):
            self.error("", error.cause)
        elif kind is not None:
            return
        if self.failed:
            raise typer.Exit(1)

    @contextlib.contextmanager
    def file(self, name: str, *, hold: bool = False) -> Iterator[Spoken]:
        """Work on one file: report its warnings and errors, then continue after it.

        Parameters
        ----------
        name : str
            The file.
        hold : bool
            Keep its messages until `say`, for files that are worked on at the same time.
        """
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, file=os.path.basename(name))
        spoken = Spoken(name, [] if hold else None)
        token = _current.set(spoken)
        try:
            yield spoken
        except (CannotGoOn, BrokenPipeError):  # the reader of our output is gone
            raise
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            self.error(name, error)
        finally:
            _current.reset(token)
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def say(self, spoken: Spoken) -> None:
        """Print the messages of a file that were held back."""
        for is_result, line in spoken.held or ():
            self._print(is_result, line)

    def warning(self, name: str, message: str) -> None:
        """Print the one line of a warning."""
        self._speak(False, f"warning: {name}: {message}")

    @property
    def takes_notes(self) -> bool:
        """Whether a hint would be printed."""
        return not (self._as_json or self._noted)

    def note(self, message: str) -> None:
        """Print a hint for people; only the first one of a command, whatever file it is about."""
        if self.takes_notes:
            self._noted = True
            self._speak(False, f"note: {message}")

    def error(self, name: str, error: BaseException) -> None:
        """Print the one line of an error."""
        self.failed = True
        self._speak(False, f"error: {describe(name, error)}")

    def result(self, line: str, fields: Mapping[str, object]) -> None:
        """Print one result: the fields as JSON, or a line for people."""
        self._speak(True, json.dumps(fields) if self._as_json else line)

    def summary(self, line: str) -> None:
        """Print a last line, for people only."""
        if not self._as_json:
            self._speak(True, line)

    def _show_warning(self, message: Warning | str, *where: object, **more: object) -> None:
        spoken = _current.get(None)
        if spoken is not None and str(message) not in spoken.said:
            spoken.said.add(str(message))
            self.warning(spoken.name, str(message))

    def _speak(self, is_result: bool, line: str) -> None:
        spoken = _current.get(None)
        if spoken is None or spoken.held is None:
            self._print(is_result, line)
        else:
            spoken.held.append((is_result, line))

    def _print(self, is_result: bool, line: str) -> None:
        line = one_line(line)
        aside = self._aside or not is_result
        if self._progress is not None and (aside or sys.stdout.isatty()):
            self._above_bar(line)
        elif aside:
            print(line, file=sys.stderr, flush=True)
        else:
            with printing():
                print(line, flush=True)

    def _above_bar(self, line: str) -> None:
        if self._progress is not None:
            self._progress.console.print(line, soft_wrap=True, markup=False, highlight=False)


def _size(path: str) -> int:
    """Return the bytes of a file; 0 if it is not a file."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def describe(name: str, error: BaseException) -> str:
    """Say in one line what went wrong with a file.

    Parameters
    ----------
    name : str
        The file, or an empty string if the error is about no file.
    error : BaseException
        An error of Trellic, of the system, or an unexpected one.

    Returns
    -------
    str
        Without ``error:``.
    """
    if isinstance(error, OSError) and not isinstance(error, TrellicError):
        name = str(error.filename) if error.filename else name
        reason = _OS_MESSAGES.get(type(error)) or error.strerror or str(error)
    elif isinstance(error, MemoryError):
        reason = "not enough memory for a picture of this size"
    elif isinstance(error, TrellicError):
        reason = str(error)
    else:
        reason = (
            f"internal error, {type(error).__name__}: {error} (please report it; with "
            f"{DEBUG_VARIABLE}=1 there is more to see)"
        )
    return f"{name}: {reason}" if name else reason


def one_line(text: str) -> str:
    """Make any text one printable line: a file name may hold line breaks and control characters."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def fail(error: BaseException, name: str = "") -> typer.Exit:
    """Print the one line of an error and return the exception that leaves with code 1."""
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    print(one_line(f"error: {describe(name, error)}"), file=sys.stderr, flush=True)
    return typer.Exit(1)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print each warning of Trellic as one line, without the source; others as Python does."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, TrellicWarning):
            print(one_line(f"warning: {message}"), file=sys.stderr, flush=True)
        else:
            others(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("default", TrellicWarning)
        warnings.showwarning = show
        yield


def _bar(label: str, total: int) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    counts = (BarColumn(), MofNCompleteColumn()) if total > 1 else ()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *counts,
        TimeElapsedColumn(),
        TextColumn("{task.fields[file]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return progress, progress.add_task(label, total=total, file="")
