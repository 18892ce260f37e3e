"""Ctrl-C and SIGTERM: a run saves what it has before it ends."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

import lightning

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(lightning.Callback):
    """Ends a run after the step in which a signal comes; a second one ends it at once."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def on_train_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Handle the signals, after Lightning has begun to; it restores them at the end."""

        def stop(signum: int, frame: FrameType | None) -> None:
            self.signum = signum
            trainer.should_stop = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            print("stopping after this step; a second signal stops at once", file=sys.stderr)

        if threading.current_thread() is threading.main_thread():
            for each in SIGNALS:
                signal.signal(each, stop)
