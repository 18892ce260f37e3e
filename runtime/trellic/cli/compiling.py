"""Tell the user that kernels are being compiled, while they are and only then."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trellic.support import cache

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 3.0  # seconds of compiling before a message, if there is no terminal
KERNELS = 44  # that encoding and decoding with the model `photo` need
FIRST_RUN = "compiling kernels, which only the first run on a machine does"
EVERY_RUN = "compiling kernels, which every run does: there is no folder to keep them in"
WATCHED = "trellic."  # modules whose kernels count


class Compiled:
    """Counts and shows the kernels that are being compiled.

    Attributes
    ----------
    count : how many
    """

    def __init__(self) -> None:
        self.count = 0
        self._begun = 0.0
        self._said = False
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def begin(self, module: str) -> None:
        """Note that a kernel of a module is being compiled from now on."""
        if not module.startswith(WATCHED):
            return
        self._begun = self._begun or time.monotonic()
        if sys.stderr.isatty():
            self._show()
        elif not self._said and time.monotonic() - self._begun >= PATIENCE:
            self._said = True
            print(_text(), file=sys.stderr, flush=True)
        self.count += 1

    def end(self) -> None:
        """Take the progress bar away."""
        if self._progress is not None:
            self._progress.stop()

    def _show(self) -> None:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import Progress

            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task(_text(), total=KERNELS)
            self._progress.start()
        if self._task is not None:
            total = max(KERNELS, self.count + 1)
            self._progress.update(self._task, completed=self.count, total=total)


def _text() -> str:
    return EVERY_RUN if cache.missing(cache.KERNELS) else FIRST_RUN


@contextlib.contextmanager
def announced() -> Iterator[Compiled]:
    """Watch compilations inside: a bar on a terminal, elsewhere a line if they take long."""
    from numba.core import event

    compiled = Compiled()

    class Listener(event.Listener):  # type: ignore[misc]  # numba has no types
        def on_start(self, event: Any) -> None:
            compiled.begin(event.data["dispatcher"].py_func.__module__)

        def on_end(self, event: Any) -> None:
            pass

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        yield compiled
    finally:
        event.unregister("numba:compile", listener)
        compiled.end()
