"""Writes a run's weights to disk while it trains, to export or to continue from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning

from trellic_training.models.weights import save_weights
from trellic_training.stages.stage import Stage


class WeightsFile(lightning.Callback):
    """Writes the averaged weights now and then and at the end, with the facts of the run.

    Parameters
    ----------
    path : of the file, as of `save_weights`
    facts : makes the facts from those of the run: recipe, steps, minutes, and share of the budget
    every : steps
    """

    def __init__(
        self, path: Path, facts: Callable[[dict[str, Any]], dict[str, Any]], every: int = 500
    ) -> None:
        self.path, self.facts, self.every = path, facts, every

    def on_train_batch_end(self, trainer: Any, stage: Any, *_: object) -> None:
        """Write when it is due."""
        if trainer.global_step % self.every == 0:
            self._write(trainer, stage)

    def on_train_end(self, trainer: Any, stage: Any) -> None:
        """Write the final weights."""
        self._write(trainer, stage)

    def _write(self, trainer: lightning.Trainer, stage: Stage[Any, Any]) -> None:
        recipe = stage.recipe.model_dump(mode="json")
        run = {"recipe": recipe, "steps": trainer.global_step, **stage.clock.state()}
        save_weights(stage.average, self.facts(run), self.path)
