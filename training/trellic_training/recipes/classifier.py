"""Recipes of classifiers of pictures, which codecs and decoders can be trained to please."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trellic_training.models.picture_classifier import PictureClassifierSizes
from trellic_training.recipes.codec import Seed, load_as


class ClassifierRecipe(BaseModel):
    """Everything that decides a classifier's training, except the pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["classifier"]
    name: str
    seed: Seed = 1
    network: PictureClassifierSizes = PictureClassifierSizes()
    steps: int = Field(2000, ge=1)
    batch: int = Field(64, ge=1)


def load_classifier_recipe(path: Path) -> ClassifierRecipe:
    """Read and check a recipe of a classifier; errors are those of `load_as`."""
    return load_as(path, ClassifierRecipe)
