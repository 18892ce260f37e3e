"""Training recipes: YAML files checked by pydantic."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trellic.errors import BadParameter

from .models.photo import ModelConfig


class Phase(BaseModel):
    """One part of the run: crops of one size, up to a share of the time."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    until: float = Field(gt=0, le=1, description="share of the run's time at which it ends")
    crop: int = Field(multiple_of=64, ge=64)
    batch: int = Field(ge=1)


class Recipe(BaseModel):
    """Everything that decides a first-stage run but the photos and the time.

    ``lmbda`` is the weight of the mean squared error (on the 0..255 scale) against bits per pixel,
    geometric in the quality between its two ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    model: ModelConfig = ModelConfig()
    seed: int = 1
    optimizer: Literal["adamw", "soap", "muon"] = "soap"
    learning_rate: float = 2e-3
    warmup_steps: int = 300
    decay_from: float = Field(0.6, description="share of the time after which the rate falls")
    final_rate: float = Field(0.02, description="learning rate at the end, relative")
    ema: float = 0.999
    gradient_clip: float = 1.0
    autocast: bool = True
    lmbda: tuple[float, float] = (0.0006, 0.2)
    weight_exponent: float = Field(-0.5, description="weight of a sample: lmbda to this power")
    phases: tuple[Phase, ...] = (
        Phase(until=0.5, crop=128, batch=16),
        Phase(until=1.0, crop=256, batch=4),
    )

    def lmbda_at(self, quality: float) -> float:
        """Weight of the distortion at a quality in [1, 100]."""
        low, high = self.lmbda
        return float(low * (high / low) ** ((quality - 1) / 99))

    def phase_at(self, share: float) -> Phase:
        """Return the phase at a share of the run's time."""
        return next((p for p in self.phases if share < p.until), self.phases[-1])


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe.

    Raises
    ------
    BadParameter
        When the file is no YAML, or a field is unknown, missing or out of range.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise BadParameter(f"recipe {path}: {where}: {first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"recipe {path} is no YAML ({error})") from error
