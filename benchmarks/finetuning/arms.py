"""What is trained from the same weights, for the same number of steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning

from benchmarks.reuse import ReusedEncoder, StepClock
from trellic_training.data.files import load, reading
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import average_of, load_weights
from trellic_training.recipes.codec import Kind, Phase, QuantizedPhase, QuantizedRecipe, Recipe
from trellic_training.stages.end_to_end import EndToEnd, train
from trellic_training.stages.quantized import finetune
from trellic_training.stages.stage import OWN_STATE, Clock

Part = Literal["all", "g_s", "g_s+entropy"]
SAVE = "last.ckpt"
POOL = (
    6  # batches of quantized crops that a batch is drawn from; each crop is seen once, on average
)


@dataclass(frozen=True)
class Arm:
    """One way to go on training.

    Attributes
    ----------
    trains : what moves
    loop : quantizer in the loop; None for the first stage's stand-in
    what : for the table
    """

    trains: Part
    loop: Kind | None
    what: str


ARMS: dict[str, Arm] = {
    "proxy": Arm("all", None, "the first stage goes on, whole network"),
    "proxy-decoder": Arm("g_s", None, "the first stage goes on, decoder alone"),
    "round": Arm("g_s", "round", "rounding in the loop"),
    "rdoq": Arm("g_s", 0, "RDOQ in the loop"),
    "trellis-8": Arm("g_s", 8, "8 states in the loop"),
    "trellis-32": Arm("g_s", 32, "32 states in the loop"),
    "trellis-8-entropy": Arm(
        "g_s+entropy", 8, "8 states in the loop, hyper-decoder and contexts too"
    ),
}


@dataclass(frozen=True)
class Setting:
    """What all arms share; ``lmbda``, ``distortion`` and ``cutouts`` are those of the start."""

    steps: int
    crop: int
    batch: int
    lmbda: tuple[float, ...]
    fit_crops: int
    distortion: dict[str, Any] = field(default_factory=dict)
    cutouts: float = 0.0

    def schedule(self, seed: int) -> dict[str, Any]:
        """Fields of either recipe: those of the shipped second stage."""
        same = {"name": "control", "optimizer": "soap", "learning_rate": 2e-4, "decay_from": 0.3}
        warm_up = min(100, max(1, self.steps // 10))
        loss = {"distortion": self.distortion, "cutouts": self.cutouts}
        return {**same, **loss, "seed": seed, "lmbda": self.lmbda, "warmup_steps": warm_up}


class Steps(StepClock):
    """A clock that counts steps, and a deadline in real time.

    Parameters
    ----------
    deadline : of `time.monotonic`, at which a run is to stop
    """

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Count a step."""
        super().on_train_batch_end(trainer)
        if time.monotonic() >= self.deadline:
            trainer.should_stop = True


def advance(
    arm: Arm, seed: int, setting: Setting, weights: Path, photos: Path, out: Path, deadline: float
) -> PhotoModel | None:
    """Train an arm until its steps are made or the time is up; it goes on where it was.

    Parameters
    ----------
    weights : that all arms start from
    photos : packed
    out : folder of this arm and seed

    Returns
    -------
    The averaged model; None if steps are missing.
    """
    checkpoint = out / SAVE
    if share_of(checkpoint) < 1:
        way = _by_proxy if arm.loop is None else _by_quantizer
        way(arm, seed, setting, weights, photos, out, deadline)
    if share_of(checkpoint) < 1:
        return None
    return average_of(checkpoint, load_weights(weights)[0].config)[0].float().eval()


def share_of(checkpoint: Path) -> float:
    """Share of its steps that an arm has made."""
    if not checkpoint.is_file():
        return 0.0
    with reading(checkpoint, "is no checkpoint of an arm"):
        share: float = load(checkpoint)[OWN_STATE]["share"]
    return share


def _by_proxy(
    arm: Arm, seed: int, setting: Setting, weights: Path, photos: Path, out: Path, deadline: float
) -> None:
    phases = (Phase(until=1.0, crop=setting.crop, batch=setting.batch),)
    model = load_weights(weights)[0].config
    recipe = Recipe(model=model, phases=phases, **setting.schedule(seed))
    stage: Callable[[Recipe, Clock], EndToEnd] = EndToEnd if arm.trains == "all" else ReusedEncoder
    begun = (out / SAVE).is_file()
    train(
        recipe,
        photos,
        out,
        setting.steps / 60,
        resume=out / SAVE if begun else weights,
        stage=stage,
        **_looking_on(deadline),
    )


def _by_quantizer(
    arm: Arm, seed: int, setting: Setting, weights: Path, photos: Path, out: Path, deadline: float
) -> None:
    if arm.loop is None or arm.trains == "all":
        raise ValueError("no quantizer in the loop, or the encoder moves")
    phase = QuantizedPhase(until=1.0, crop=setting.crop, batch=setting.batch, train=arm.trains)
    own: dict[str, Any] = {"identity": 0.0, "fit_crops": setting.fit_crops}
    own["widening"] = 0  # as `evaluate.Coder`
    own["pool"] = POOL * setting.batch
    recipe = QuantizedRecipe(
        quantizers=(arm.loop,), phases=(phase,), **own, **setting.schedule(seed)
    )
    begun = (out / SAVE).is_file()
    finetune(
        recipe,
        load_weights(weights)[0],
        photos,
        out,
        setting.steps / 60,
        resume=out / SAVE if begun else None,
        **_looking_on(deadline),
    )


def _looking_on(deadline: float) -> dict[str, Any]:
    steps = Steps(deadline)
    return {"now": steps, "watchers": [steps], "progress": False}
