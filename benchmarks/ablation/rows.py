"""The rows of the ablation: what each changes in the recipe or the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trellic_training.stages.end_to_end import EndToEnd

from . import variants
from .report import BASE

Change = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes
    ----------
    topic : what the row is about
    name : what it changes
    recipe : fields of the recipe that it sets
    model : fields of the recipe's model that it sets, or what makes them of those of the recipe
    stage : what is trained
    larger : g_s has more weights than the recipe's; for growing from trained weights
    """

    topic: str
    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    model: Change | dict[str, Any] = field(default_factory=dict)
    stage: type[EndToEnd] = EndToEnd
    larger: bool = False

    def changed(self, model: dict[str, Any]) -> dict[str, Any]:
        """Return a model's fields with the row's changes."""
        return model | (self.model(model) if callable(self.model) else self.model)


def _twice(topic: str, name: str, model: Change, *, larger: bool = False) -> tuple[Row, Row]:
    """Return a row and the same with another seed."""
    second = f"{name} with seed 2"
    return Row(topic, name, {}, model, larger=larger), Row(
        topic, second, {"seed": 2}, model, larger=larger
    )


def _fewer(model: dict[str, Any], encoder: int) -> dict[str, Any]:
    """Take a block at the latents' resolution out of g_s, and some out of g_a."""
    (near, far), (wide, deep) = model["encoder_blocks"], model["decoder_blocks"]
    return {"encoder_blocks": (near, far - encoder), "decoder_blocks": (wide, deep - 1)}


def _couplings(model: dict[str, Any]) -> dict[str, Any]:
    """Put couplings in the place of all blocks at twice the latents' resolution."""
    return {
        "wide": 3 * (model["stride"] // 2) ** 2,
        "encoder_blocks": (0, model["encoder_blocks"][1]),
        "decoder_blocks": (0, model["decoder_blocks"][1]),
        "coupling": 2,
    }


def _by_channels(model: dict[str, Any]) -> dict[str, Any]:
    return _couplings(model) | {"frequency_split": False}


def _couplings_and_denoising(model: dict[str, Any]) -> dict[str, Any]:
    coupled = _couplings(model)
    return coupled | _fewer(model | coupled, 0) | DENOISING


def _groups(*groups: tuple[int, tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"channels": channels, "steps": steps} for channels, steps in groups]


CROPS = (  # smaller batches than the recipe's: minutes, not hours
    {"until": 0.65, "crop": 128, "batch": 16},
    {"until": 1.0, "crop": 256, "batch": 4},
)
ATTENTION: dict[str, Any] = {"attention": (1, 2)}
DENOISING: dict[str, Any] = {"denoising": 2}
SMALL: dict[str, Any] = {  # a model that makes a thousand steps in less than a minute
    "phases": ({"until": 1.0, "crop": 64, "batch": 8},),
    "warmup_steps": 50,
    "model": {
        "wide": 48,
        "deep": 64,
        "encoder_blocks": (1, 2),
        "decoder_blocks": (2, 3),
        "groups": _groups((16, (0, 1)), (32, (1, 2)), (32, (3, 3))),
        "details": 32,
        "hyper": 16,
        "hyper_hidden": 48,
        "features": 48,
        "context_hidden": 48,
        "modulated": True,
        "stride": 8,
    },
}
END: dict[str, Any] = {"phases": CROPS[1:], "learning_rate": 7e-4, "decay_from": 0.0}
ROWS = (
    Row("", BASE),
    Row("", "the same with seed 2", {"seed": 2}),
    Row("optimizer", "AdamW 1e-3", {"optimizer": "adamw", "learning_rate": 1e-3}),
    Row("optimizer", "AdamW 3e-4", {"optimizer": "adamw", "learning_rate": 3e-4}),
    Row("optimizer", "Muon 5e-3", {"optimizer": "muon", "learning_rate": 5e-3}),
    Row("optimizer", "SOAP 2e-3", {"learning_rate": 2e-3}),
    Row("optimizer", "SOAP 5e-4", {"learning_rate": 5e-4}),
    Row("batch", "crops of 128 only", {"phases": [{"until": 1.0, "crop": 128, "batch": 16}]}),
    Row("batch", "8 crops of 128 at first", {"phases": [{**CROPS[0], "batch": 8}, CROPS[1]]}),
    Row("block", "depthwise 5x5", stage=variants.Kernel5),
    Row("activation", "GELU", stage=variants.Gelu),
    Row("activation", "ReLU", stage=variants.Relu),
    Row("activation", "GDN", stage=variants.Gdn),
    Row("activation", "hard shrinkage", stage=variants.HardShrinkage),
    Row("quality", "blocks see none", model={"modulated": False}),
    Row("depth", "encoder of 4 deep blocks", model={"encoder_blocks": (2, 4)}),
    Row(
        "latents",
        "no details",
        model={"details": 0, "groups": _groups((48, (0, 1)), (144, (1, 2)))},
    ),
    Row(
        "context",
        "two steps (checkerboard)",
        model={"groups": _groups((192, (0, 1)), (128, (1, 1)))},
    ),
    Row(
        "context",
        "groups without a checkerboard",
        model={"groups": _groups((48, (0, 0)), (144, (1, 1)), (128, (2, 2)))},
    ),
    Row("proxy", "noise", {"proxy": "noise"}),
    Row("proxy", "straight-through", {"proxy": "straight-through"}),
    Row("proxy", "soft rounding", {"proxy": "soft-rounding"}),
    Row("loss", "weights lmbda^-1", {"weight_exponent": -1.0}),
    Row("loss", "weights lmbda^-0.25", {"weight_exponent": -0.25}),
    Row("loss", "all qualities alike", stage=variants.EvenQualities),
    Row("loss", "energy compaction", stage=variants.Compaction),
    Row("schedule", "no decay before 90 %", {"decay_from": 0.9}),
    Row("schedule", "decay from the start", {"decay_from": 0.0}),
    *_twice("attention", "attention to neighbours", lambda m: _fewer(m, 1) | ATTENTION),
    *_twice("guidance", "dilated h_s", lambda m: {"guidance": True}),
    *_twice("invertible", "couplings", _couplings),
    Row("invertible", "couplings by channels", model=_by_channels),
    Row("invertible", "couplings and denoising", model=_couplings_and_denoising),
    *_twice("invertible", "denoising", lambda m: _fewer(m, 0) | DENOISING),
    *_twice("attention", "attention added", lambda m: ATTENTION, larger=True),
    *_twice("invertible", "denoising added", lambda m: DENOISING, larger=True),
)
