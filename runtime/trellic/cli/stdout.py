"""Standard output that cannot be written: its device is full, or its reader is gone."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

NAME = "standard output"


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Name standard output in an error of writing to it, and discard what it did not take.

    Raises
    ------
    BrokenPipeError
        If its reader is gone.
    OSError
        If it cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard()
        raise OSError(error.errno, error.strerror, NAME) from error


def discard() -> None:
    """Send what is still to be printed nowhere, because writing it would fail again at the end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
