"""The ``trellic`` command.

Every command imports what it needs when it runs, so that ``trellic --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line; the console script ``trellic`` and ``python -m trellic`` call this."""
    gc.disable()  # until all is loaded (see `engines`): imports make garbage worth 0.1 s to look at
    from trellic.cli.app import app

    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are no text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(prog_name="trellic")
    finally:
        gc.enable()
        _flush()


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that half-written files are removed on the way."""
    sys.exit(128 + number)


def _flush() -> None:
    """Flush stdout; if its reader is gone, let nobody hear of it (``trellic ... | head``)."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
