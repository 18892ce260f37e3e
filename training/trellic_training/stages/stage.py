"""What all training stages share: clock, schedule, averaged weights."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from trellic_training.losses.eye import Distortion
from trellic_training.optimizers.choice import make_optimizer
from trellic_training.recipes.codec import Schedule

HARMLESS = (  # warnings of Lightning about what is meant here
    "Checkpoint directory .* exists and is not empty",
    "The dirpath has changed from .*best_model_score",  # a resumed run may write elsewhere
    "The 'train_dataloader' does not have many workers",  # crops come from memory
    "Found .* in eval mode",  # nothing here behaves by mode
)
AnySchedule = TypeVar("AnySchedule", bound=Schedule)
AnyModel = TypeVar("AnyModel", bound=nn.Module)


class Clock:
    """Share of the time budget that is used up; the schedule hangs on it, not on step counts.

    Parameters
    ----------
    minutes : budget
    now : seconds of a clock; processor time makes runs on a busy machine comparable
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = minutes * 60
        self.now = now
        self.start = now()

    def restart(self) -> None:
        """Count from now on."""
        self.start = self.now()

    def share(self) -> float:
        """Return elapsed time over the budget, at most 1."""
        return min(1.0, (self.now() - self.start) / self.seconds)

    def minutes(self) -> float:
        """Return elapsed time."""
        return (self.now() - self.start) / 60


class Stage(lightning.LightningModule, Generic[AnySchedule, AnyModel]):
    """A model, its running average, and a learning rate that follows the clock.

    Parameters
    ----------
    recipe : with the schedule
    clock : of the run
    model : what is trained, as far as it requires gradients
    """

    def __init__(self, recipe: AnySchedule, clock: Clock, model: AnyModel) -> None:
        super().__init__()
        self.recipe, self.clock = recipe, clock
        self.model = model
        self.distortion = Distortion(recipe.distortion.shares, recipe.distortion.flat)
        self.ema = AveragedModel(model, avg_fn=partial(average, recipe.ema))
        self.ema.requires_grad_(False)
        self.warm = 0  # steps since this run began: a resumed run warms up again

    @property
    def average(self) -> AnyModel:
        """The averaged model."""
        model: AnyModel = self.ema.module  # type: ignore[assignment]
        return model

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
        """Set the learning rate from the clock; skip a step whose gradient is not finite."""
        self.warm += 1
        rate = self.recipe.learning_rate * self.rate_factor()
        for group, relative in zip(optimizer.param_groups, self.relative_rates, strict=True):
            group["lr"] = rate * relative
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        if not torch.isfinite(norm):
            optimizer.zero_grad()
        self.log("gradient_norm", norm)
        self.log("learning_rate", rate)

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average, and stop when the time is used up."""
        self.ema.update_parameters(self.model)
        if self.clock.share() >= 1:
            self.trainer.should_stop = True

    def weights_of_quality(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of the distortion, and of the sample, at each quality."""
        low, high = self.recipe.lmbda
        lmbda = low * (high / low) ** ((quality - 1) / 99)
        return lmbda, (lmbda / (low * high) ** 0.5) ** self.recipe.weight_exponent


def average(decay: float, mean: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential average whose memory grows with the run, so that it forgets its start."""
    decay = min(decay, (1 + float(count)) / (10 + float(count)))
    return mean + (current - mean) * (1 - decay)


def make_trainer(
    out: Path,
    *,
    steps: int | None,
    progress: bool,
    accelerator: str = "auto",
    save_every: int = 500,
    watchers: Sequence[lightning.Callback] = (),
) -> lightning.Trainer:
    """Trainer whose checkpoints (``last.ckpt``) and logs lie in a folder."""
    checkpoints = lightning.pytorch.callbacks.ModelCheckpoint(
        out, filename="last", every_n_train_steps=save_every, enable_version_counter=False
    )
    return lightning.Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=-1,
        max_steps=-1 if steps is None else steps,
        callbacks=[checkpoints, *watchers],
        logger=lightning.pytorch.loggers.TensorBoardLogger(str(out), name="log"),
        log_every_n_steps=25,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def run(
    trainer: lightning.Trainer,
    stage: Stage[Any, Any],
    batches: Iterable[Any],
    out: Path,
    resume: Path | str | None,
) -> Path:
    """Train until the stage stops; returns the newest checkpoint."""
    final = out / "last.ckpt"
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        trainer.fit(stage, batches, ckpt_path=resume, weights_only=False)
        trainer.save_checkpoint(final)
    return final
