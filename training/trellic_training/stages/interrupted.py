"""The exception of a run that a signal stopped; imports nothing heavy, for the command line."""

from __future__ import annotations

import signal
from pathlib import Path


class Interrupted(Exception):
    """A run was stopped by a signal, and everything is saved.

    Attributes
    ----------
    signum : the signal
    checkpoint : to continue from
    """

    def __init__(self, signum: int, checkpoint: Path) -> None:
        name = signal.Signals(signum).name
        super().__init__(f"stopped by {name}; continue with --resume {checkpoint}")
        self.signum, self.checkpoint = signum, checkpoint
