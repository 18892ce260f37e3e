"""How far a run is and how far it will get: a bar by time, or a line a minute in a log."""

from __future__ import annotations

import time
from typing import Any

import lightning
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from trellic_training.stages.enough import too_few
from trellic_training.stages.stage import Stage

BETWEEN, BETWEEN_LINES = 1.0, 60.0  # seconds
TIMED_FROM, TIMED_STEPS, TIMED_SECONDS = 2, 3, 10.0  # steps that do not count; at least timed


class TimeBar(lightning.Callback):
    """Shows step, loss and the time that is left; says how far the budget will get."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, markup=False)
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}")
        self.bar = Progress(*columns, console=self.console, transient=True)
        self.shown = self.steps = 0
        self.timed: float | None = None
        self.last = time.monotonic()

    def on_fit_start(self, trainer: Any, stage: Any) -> None:
        """Say what happens before the first step."""
        self._say("measuring what training starts from; this does not count as --minutes")

    def on_train_batch_end(self, trainer: Any, stage: Any, *_: object) -> None:
        """Show what is due, and after some seconds the estimate."""
        now, self.steps = time.monotonic(), self.steps + 1
        if self.steps == TIMED_FROM:
            self.began = now
        if self.timed is None and self.steps >= TIMED_FROM + TIMED_STEPS:
            seconds = now - self.began
            if seconds >= TIMED_SECONDS or stage.clock.share() >= 0.1:
                self.timed = (self.steps - TIMED_FROM) / max(seconds, 1e-9)
                self._say(estimate(stage, self.steps, self.timed))
        terminal = self.console.is_terminal
        if now - self.last >= (BETWEEN if terminal else BETWEEN_LINES):
            self.last = now
            self._show(trainer, stage, terminal)

    def on_train_end(self, trainer: Any, stage: Any) -> None:
        """Take the bar away; warn of a run that was too short."""
        self.bar.stop()
        text = too_short(stage, self.steps, self.timed)
        if text and stage.clock.share() >= 1:
            self._say(f"warning: {text}")

    def on_exception(self, trainer: Any, stage: Any, exception: BaseException) -> None:
        """Take the bar away."""
        self.bar.stop()

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def _show(self, trainer: lightning.Trainer, stage: Stage[Any, Any], terminal: bool) -> None:
        share, total = stage.clock.share(), stage.clock.seconds / 60
        found = trainer.callback_metrics
        values = [f"{name} {float(found[name]):.4g}" for name in stage.shown if name in found]
        text = "  ".join([f"step {trainer.global_step:,}", *values])
        left = f"{spell(total * (1 - share))} left"
        if not terminal:
            self._say(f"{share:4.0%}  {text}  {left}")
            return
        if not self.bar.tasks:
            self.bar.add_task(text, total=1.0, left=left)
            self.bar.start()
        self.bar.update(self.bar.task_ids[0], completed=share, description=text, left=left)


def estimate(stage: Stage[Any, Any], steps: int, speed: float) -> str:
    """Say how many steps a run will make, and whether they are too few."""
    seconds = stage.clock.seconds * (1 - stage.clock.share())
    total = round(steps + speed * seconds)
    text = f"{speed:.2g} steps a second: about {total:,} steps in {spell(stage.clock.seconds / 60)}"
    lacking = too_short(stage, total, speed)
    return f"{text}; {lacking}" if lacking else text


def too_short(stage: Stage[Any, Any], steps: int, speed: float | None) -> str | None:
    """Say what `too_few` says of the steps of a stage."""
    return too_few(steps, stage.recipe.warmup_steps, speed)


def spell(minutes: float) -> str:
    """Write a time in words.

    Examples
    --------
    >>> spell(0.5), spell(42.2), spell(75)
    ('30 s', '42 min', '1 h 15 min')
    """
    if minutes < 2:
        return f"{minutes * 60:.0f} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
