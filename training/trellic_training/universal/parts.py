"""Unfinished models: what a run that stopped in the middle of one continues from.

A file has everything that the next step depends on: networks, optimizers, and the states of the
random numbers. The batches follow from the seed and the number of steps. So a model that was made
in parts equals one that was made at once.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning
import torch

from trellic_training.data.files import load, reading, save
from trellic_training.stages.stage import Clock
from trellic_training.universal.training import Compression

SAVE_EVERY = 60.0  # seconds
BROKEN = "holds no unfinished model of this recipe: delete it, and the model begins anew"


class Part(lightning.Callback):
    """Saves an unfinished model now and then, and ends its training when the time is up.

    Parameters
    ----------
    path : of the file; one that is there is continued from
    module : takes its networks from that file
    clock : of the run
    every : seconds between two writes

    Raises
    ------
    BadParameter
        When the file is damaged, or is of another model.
    """

    def __init__(
        self, path: Path, module: Compression, clock: Clock, every: float = SAVE_EVERY
    ) -> None:
        self.path, self.clock, self.every = path, clock, every
        self.kept: dict[str, Any] = {}
        self.earlier = dict.fromkeys(("seconds", "cpu_seconds"), 0.0)
        if path.is_file():
            with reading(path, BROKEN):
                self.kept = load(path)
                module.load_state_dict(self.kept["networks"])
                module.done = int(self.kept["done"])
                self.earlier = {name: float(self.kept["spent"][name]) for name in self.earlier}
        self.began, self.busy = time.monotonic(), time.process_time()
        self.saved = self.began

    def on_train_batch_start(self, trainer: Any, module: Any, batch: object, index: int) -> None:
        """Before the first step, take over what only exists by now."""
        if index == 0 and self.kept:
            with reading(self.path, BROKEN):
                pairs = zip(trainer.optimizers, self.kept["optimizers"], strict=True)
                for optimizer, state in pairs:
                    optimizer.load_state_dict(state)
                _set_random(module, self.kept["random"])
            self.kept = {}

    def on_train_batch_end(self, trainer: Any, module: Any, *_: object) -> None:
        """Save when it is due."""
        if self.clock.share() >= 1:
            trainer.should_stop = True
        elif time.monotonic() - self.saved >= self.every:
            self.save(trainer, module)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Save at the end, whether the model is finished, the time is up or a signal came."""
        self.save(trainer, module)

    def save(self, trainer: lightning.Trainer, module: Compression) -> None:
        """Write the file, whole or not at all."""
        self.saved = time.monotonic()
        content = {
            "done": module.done,
            "spent": self.spent(),
            "networks": module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "random": _random(module),
        }
        save(content, self.path)

    def spent(self) -> dict[str, float]:
        """Return "seconds" and "cpu_seconds" that this model took so far, in earlier runs too."""
        own = time.monotonic() - self.began, time.process_time() - self.busy
        return {k: self.earlier[k] + v for k, v in zip(self.earlier, own, strict=True)}


def _random(module: Compression) -> dict[str, torch.Tensor]:
    """Return the states of the random numbers: torch's own and the shared dither."""
    states = {"torch": torch.get_rng_state(), "shared": module.shared.get_state()}
    if module.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(module.device)
    return states


def _set_random(module: Compression, states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["torch"])
    module.shared.set_state(states["shared"])
    if module.device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], module.device)
