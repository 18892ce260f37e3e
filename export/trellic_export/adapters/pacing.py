"""Training for a time: its steps, their learning rate, and a progress bar."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import Progress

from trellic_export.adapters.settings import Training
from trellic_training.stages.enough import too_few


def paced(
    optimizer: torch.optim.Optimizer, settings: Training, warm_up: int, doing: str
) -> Iterator[float]:
    """Yield the share of the time that has passed, once a step, with its learning rate set.

    At the end, warn on stderr of a run that was too short to be of use.

    Parameters
    ----------
    warm_up : steps until the learning rate is whole; then it falls to 0 by a cosine
    doing : what the progress bar says
    """
    seconds, steps = 60 * settings.minutes, 0
    for step, share in enumerate(elapsed(seconds, doing)):
        falling = min(1, (step + 1) / warm_up) * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * falling
        yield share
        steps = step + 1
    if lacking := too_few(steps, warm_up, steps / seconds):
        print(f"warning: {lacking}", file=sys.stderr)


def elapsed(seconds: float, doing: str) -> Iterator[float]:
    """Yield the share of a time that has passed, with a progress bar, at least once."""
    start, share = time.monotonic(), 0.0
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(doing, total=1.0)
        while share < 1:
            yield share
            share = (time.monotonic() - start) / seconds
            progress.update(task, completed=min(share, 1.0))
