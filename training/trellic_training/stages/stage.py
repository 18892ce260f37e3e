"""The common part of all training stages: clock, schedule, averaged weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import lightning
import torch
from torch import Tensor, nn

from trellic_training.losses.eye import Distortion
from trellic_training.optimizers.choice import make_optimizer
from trellic_training.optimizers.clipping import clip_gradients
from trellic_training.recipes.codec import Schedule
from trellic_training.recipes.lmbda import lmbda_at
from trellic_training.stages.average import RunningAverage

OWN_STATE = "trellic"  # where a checkpoint has what Lightning does not know
AnySchedule = TypeVar("AnySchedule", bound=Schedule)
AnyModel = TypeVar("AnyModel", bound=nn.Module)


class Clock:
    """Share of the time budget that is used up; the schedule follows it, not the number of steps.

    Parameters
    ----------
    minutes : budget
    now : seconds of a clock; processor time makes runs on a busy machine comparable
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = minutes * 60
        self.now = now
        self.start = now()
        self.used, self.earlier = 0.0, 0.0

    def restart(self) -> None:
        """Count from now on."""
        self.start = self.now()

    def go_on(self, share: float, minutes: float) -> None:
        """Continue an earlier run, which had used so many minutes and this share of its budget.

        A run that had used up its time begins a new budget.
        """
        self.used, self.earlier = share % 1.0, minutes

    def share(self) -> float:
        """Return the share of the budget that is used up, by earlier runs too, at most 1."""
        return min(1.0, self.used + (self.now() - self.start) / self.seconds)

    def minutes(self) -> float:
        """Return the time since the start of this run."""
        return (self.now() - self.start) / 60

    def state(self) -> dict[str, float]:
        """Return the arguments of `go_on`."""
        return {"share": self.share(), "minutes": self.earlier + self.minutes()}


class Stage(lightning.LightningModule, Generic[AnySchedule, AnyModel]):
    """A model, its running average, and a learning rate that follows the clock.

    Parameters
    ----------
    recipe : with the schedule
    clock : of the run
    model : those of its parameters that require gradients are trained
    """

    def __init__(self, recipe: AnySchedule, clock: Clock, model: AnyModel) -> None:
        super().__init__()
        self.recipe, self.clock = recipe, clock
        self.model = model
        self.distortion = Distortion(recipe.distortion.shares, recipe.distortion.flat)
        self.ema = RunningAverage(model, recipe.ema)
        self.warm = 0  # steps since this run began: a resumed run warms up again
        self.shown: dict[str, None] = {}  # names of what the bar shows, in order

    @property
    def average(self) -> AnyModel:
        """The averaged model."""
        return self.ema.module

    def show(self, name: str, value: Tensor | float) -> None:
        """Log a value that the bar shows.

        Lightning's own way (``prog_bar=True``) reads the values in each step, which waits for the
        device; the bar reads them when it shows them.
        """
        self.shown[name] = None
        self.log(name, value)

    def on_train_start(self) -> None:
        """Start the clock: set-up does not count."""
        self.clock.restart()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the recipe's optimizer over what is trained (never over the average)."""
        rate = self.recipe.learning_rate
        optimizer = make_optimizer(self.model, self.recipe.optimizer, rate)
        self.relative_rates = [group["lr"] / rate for group in optimizer.param_groups]
        return optimizer

    def rate_factor(self) -> float:
        """Learning rate, relative to the recipe's: warm-up, then a fall towards the end."""
        left = (1 - self.clock.share()) / (1 - self.recipe.decay_from)
        warm = min(1.0, self.warm / self.recipe.warmup_steps)
        return warm * max(self.recipe.final_rate, min(1.0, left))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate from the clock; a gradient that is not finite counts as 0."""
        self.warm += 1
        rate = self.recipe.learning_rate * self.rate_factor()
        for group, relative in zip(optimizer.param_groups, self.relative_rates, strict=True):
            group["lr"] = rate * relative
        norm = clip_gradients(self.model.parameters(), self.recipe.gradient_clip)
        self.log("gradient_norm", norm)
        # Made there, because to send a number waits for the device.
        self.log("learning_rate", torch.full((), rate, device=norm.device))

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average, and stop when the time is used up."""
        self.ema.update(self.model)
        if self.clock.share() >= 1:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the clock beside the weights: plain values alone."""
        checkpoint[OWN_STATE] = {"stage": type(self).__name__, **self.clock.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the schedule of the earlier run."""
        own = checkpoint.get(OWN_STATE, {})
        self.clock.go_on(own.get("share", 0.0), own.get("minutes", 0.0))

    def weights_of_quality(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of the distortion, and of the sample, at each quality."""
        values = self.recipe.lmbda
        lmbda = lmbda_at(values, quality)
        return lmbda, (lmbda / (values[0] * values[-1]) ** 0.5) ** self.recipe.weight_exponent
