"""The ``trellic`` command.

Every command imports what it needs when it runs, so that ``trellic --help`` answers at once.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the command line; the console script ``trellic`` and ``python -m trellic`` call this."""
    _open_standard_streams()
    gc.disable()  # until all is loaded (see `engines`): collecting during imports takes 0.1 s
    from trellic.cli.app import app

    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that are not text
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(prog_name="trellic")
    except OSError as error:  # commands tell those of their files: this one is of printing
        _flush()  # leaves, if standard output is to blame
        _leave(error)
    finally:
        gc.enable()
        _flush()


def _open_standard_streams() -> None:
    """Open the standard streams that the caller closed (``2>&-``).

    Otherwise a result file could get the number of stderr, and libraries would write messages to
    it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            while os.open(os.devnull, os.O_RDWR) < number:  # the lowest number that is free
                pass
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that half-written files are removed on the way."""
    sys.exit(128 + number)


def _flush() -> None:
    """Flush stdout; ignore that its reader may be gone (``trellic ... | head``)."""
    from trellic.cli.stdout import discard, printing

    try:
        with printing():
            sys.stdout.flush()
    except BrokenPipeError:
        discard()
    except OSError as error:
        _leave(error)


def _leave(error: OSError) -> NoReturn:
    """Leave with code 1, after the one line of an error."""
    from trellic.cli.report import fail

    sys.exit(fail(error).exit_code)
