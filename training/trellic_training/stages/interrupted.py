"""The exception of a run that a signal stopped; imports nothing heavy, for the command line."""

from __future__ import annotations

import signal
from pathlib import Path

LAST = "last.ckpt"  # in the folder of a run: everything that it needs to continue


class Interrupted(Exception):
    """A run was stopped by a signal, and everything is saved.

    Attributes
    ----------
    signum : the signal
    checkpoint : to continue from; without one, the same command continues
    """

    def __init__(self, signum: int, checkpoint: Path | None = None) -> None:
        name = signal.Signals(signum).name
        how = f"with --resume {checkpoint}" if checkpoint else "by the same command"
        super().__init__(f"stopped by {name}; continue {how}")
        self.signum, self.checkpoint = signum, checkpoint
