"""What a recipe of the MNIST experiments may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from trellic_training.recipes.codec import Seed, load_as

Weight = Annotated[float, Field(ge=0, le=100)]
Latent = tuple[Annotated[int, Field(ge=1, le=256)], Annotated[int, Field(ge=2, le=256)]]


class Settings(BaseModel):
    """Base: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Target(Settings):
    """Loss of one decoder: squared error (mean over pixels) plus two weighted terms.

    ``perception`` weighs the Wasserstein distance that the critic estimates, ``classification`` the
    cross entropy (in nats) of the frozen classifier on the decoded picture.
    """

    perception: Weight = 0.0
    classification: Weight = 0.0


class Perception(Settings):
    """Distortion against perception at one rate: values of lambda_p."""

    latent: Latent = (3, 3)
    end_to_end: tuple[Weight, ...]
    encoder: Weight = Field(description="lambda_p of the end-to-end encoder that is re-used")
    universal: tuple[Weight, ...]


class Classification(Settings):
    """Distortion against classification at one rate: values of lambda_c."""

    latent: Latent = (3, 3)
    end_to_end: tuple[Weight, ...]
    encoders: tuple[Weight, ...] = Field(description="of the end-to-end encoders re-used")
    universal: tuple[Weight, ...]
    mixture: tuple[Weight, ...] = Field(
        description="targets that one encoder is trained on at once"
    )


class Rates(Settings):
    """Distortion against classification at more rates, end to end and with the mixture."""

    latents: tuple[Latent, ...]
    end_to_end: tuple[Weight, ...]
    mixture: bool = Field(False, description="whether the mixture is trained at these rates too")


class UniversalRecipe(Settings):
    """Everything that decides a run but data and time.

    ``epochs`` is what every model gets at most. A time budget lowers it for all alike, unless the
    recipe has ``shorten: false``: then a budget only decides how much of the work one run does.
    """

    kind: Literal["universal"]
    name: str
    seed: Seed = 1
    epochs: float = Field(30, gt=0)
    shorten: bool = True
    batch: int = Field(128, ge=2)
    width: float = Field(1.0, gt=0, le=4, description="of decoders and critics, relative")
    learning_rate: float = Field(1e-3, gt=0, le=1)
    classifier_epochs: float = Field(3, gt=0)
    measuring_epochs: float = Field(1, gt=0, description="of the critic that only measures")
    perception: Perception
    classification: Classification
    rates: Rates


def load_universal_recipe(path: Path) -> UniversalRecipe:
    """Read and check a recipe; errors are those of `trellic_training.recipes.codec.load_as`."""
    return load_as(path, UniversalRecipe)
