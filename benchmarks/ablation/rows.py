"""The rows of the ablation: what each changes in the recipe or the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trellic_training.stages.end_to_end import EndToEnd

from . import variants

BASE = "the recipe"


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes
    ----------
    topic : what the row is about
    name : what it changes
    recipe : fields of the recipe that it sets
    model : fields of the recipe's model that it sets
    stage : what is trained
    larger : g_s has more weights than the recipe's; for growing from trained weights
    """

    topic: str
    name: str
    recipe: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    stage: type[EndToEnd] = EndToEnd
    larger: bool = False


def _groups(*groups: tuple[int, tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"channels": channels, "steps": steps} for channels, steps in groups]


CROPS = (  # smaller batches than the recipe's: minutes, not hours
    {"until": 0.65, "crop": 128, "batch": 16},
    {"until": 1.0, "crop": 256, "batch": 4},
)
END: dict[str, Any] = {"phases": CROPS[1:], "learning_rate": 7e-4, "decay_from": 0.0}
# in the place of the last block at 1/16; g_s has no more weights than before
ATTENTION: dict[str, Any] = {
    "encoder_blocks": (2, 1),
    "decoder_blocks": (3, 2),
    "attention": (1, 2),
}
DENOISING: dict[str, Any] = {"decoder_blocks": (3, 2), "denoising": 2}
COUPLINGS: dict[str, Any] = {  # in the place of all blocks at 1/8
    "wide": 192,
    "encoder_blocks": (0, 2),
    "decoder_blocks": (0, 3),
    "coupling": 2,
}
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
    Row("attention", "attention to neighbours", model=ATTENTION),
    Row("attention", "attention to neighbours with seed 2", {"seed": 2}, ATTENTION),
    Row("attention", "attention added", model={"attention": (1, 2)}, larger=True),
    Row(
        "attention", "attention added with seed 2", {"seed": 2}, {"attention": (1, 2)}, larger=True
    ),
    Row("guidance", "dilated h_s", model={"guidance": True}),
    Row("guidance", "dilated h_s with seed 2", {"seed": 2}, {"guidance": True}),
    Row("invertible", "couplings", model=COUPLINGS),
    Row("invertible", "couplings with seed 2", {"seed": 2}, COUPLINGS),
    Row("invertible", "couplings by channels", model=COUPLINGS | {"frequency_split": False}),
    Row(
        "invertible",
        "couplings and denoising",
        model=COUPLINGS | {"decoder_blocks": (0, 2), "denoising": 2},
    ),
    Row("invertible", "denoising", model=DENOISING),
    Row("invertible", "denoising with seed 2", {"seed": 2}, DENOISING),
    Row("invertible", "denoising added", model={"denoising": 2}, larger=True),
)
