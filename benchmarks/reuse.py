"""Models from shipped weights for equal steps: end to end, or a decoder on a kept encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning

from trellic_training.models.weights import average_of, load_weights, save_weights
from trellic_training.recipes.codec import Recipe
from trellic_training.stages.end_to_end import EndToEnd, train

Facts = dict[str, Any]


class StepClock(lightning.Callback):
    """A clock that counts steps in place of seconds, so that schedules are equal everywhere."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> float:
        """Return the steps so far."""
        return float(self.count)

    def on_train_batch_end(self, *_: object) -> None:
        """Count one."""
        self.count += 1


class ReusedEncoder(EndToEnd):
    """Everything but g_s stays as it is: bits and latents are those of the encoder's own model."""

    def started(self) -> None:
        """Freeze it."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith("g_s."))


@dataclass(frozen=True)
class Trained:
    """The folder of finished models, and what decides them.

    Attributes
    ----------
    folder : of the files
    photos : packed training pictures
    shipped : weights that all start from
    steps : of each model
    """

    folder: Path
    photos: Path
    shipped: Path
    steps: int

    def file(self, name: str) -> Path:
        """Where a model is kept."""
        return self.folder / f"{name}.pt"

    def kept(self, name: str, recipe: Recipe, start: Path, setting: Facts, alone: bool) -> Path:
        """Return the file of a model, trained first if there is none of the same setting.

        Parameters
        ----------
        start : weights whose encoder it starts from; g_s is always the shipped one, which is where
            all decoders start
        setting : what decides the model, as JSON
        alone : train g_s alone
        """
        path = self.file(name)
        if not path.is_file() or load_weights(path)[1].get("setting") != setting:
            stage = ReusedEncoder if alone else EndToEnd
            self._keep(lambda out: self._end_to_end(recipe, start, stage, out), setting, path)
        return path

    def _end_to_end(self, recipe: Recipe, start: Path, stage: type[EndToEnd], out: Path) -> Any:
        model, facts = load_weights(start)
        model.g_s.load_state_dict(load_weights(self.shipped)[0].g_s.state_dict())
        first = out / "start.pt"
        save_weights(model, {"recipe": {"lmbda": facts["recipe"]["lmbda"]}}, first)
        clock = StepClock()
        checkpoint = train(
            recipe, self.photos, out, self.steps / 60, resume=first, steps=self.steps,
            stage=stage, now=clock, watchers=[clock],
        )  # fmt: skip
        return average_of(checkpoint, recipe.model)

    def _keep(self, make: Callable[[Path], Any], setting: Facts, path: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            model, steps = make(Path(out))
        facts = {"recipe": setting["recipe"], "setting": setting, "steps": steps}
        save_weights(model, facts, path)
