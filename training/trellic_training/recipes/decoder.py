"""Recipes of decoders: one YAML file names several, each with its network and its training."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trellic.errors import BadParameter
from trellic_training.models.decoders import ClassifierSizes, Sizes
from trellic_training.recipes.codec import Kind, QuantizedPhase, Rate, Schedule, load_as
from trellic_training.recipes.distortion import Mixture
from trellic_training.recipes.terms import Classification, CriticSettings


class Adversary(CriticSettings):
    """The critic of a perceptual decoder, and the weights of the other errors.

    Squared error (weight 1), structure and contrast are divided by the same errors of the teacher's
    pictures of the same latents.
    """

    critic: float = Field(0.05, ge=0, description="weight of the critic's verdict")
    structure: float = Field(1.0, ge=0, description="weight of `structure.structural_error`")
    contrast: float = Field(1.0, ge=0, description="weight of `structure.contrast_error`")


class DecoderRecipe(Schedule):
    """Everything that decides a decoder's run, except the bundle, the photos and the time.

    ``quantizers`` are drawn batch by batch: trellis states, or 0 for RDOQ.
    """

    purpose: str = Field(min_length=1, description="for the manifest")
    network: Sizes
    base: str | None = Field(None, description="decoder that NAME:x mixes with")
    teacher: str = Field("quality", description="decoder of the bundle that it is compared with")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of a decoder of labels")
    distill: float = Field(0.0, ge=0, description="weight of the error against the teacher")
    adversary: Adversary | None = None
    classification: Classification | None = Field(
        None,
        description="in bits per pixel, as the distortion; with an adversary, relative to the "
        "teacher's squared error",
    )
    stay: float = Field(0.0, ge=0, lt=1, description="share of the start in the final weights")
    quantizers: tuple[Kind, ...] = Field((8, 8, 32, 0), min_length=1)
    cut: float = Field(
        0.0, ge=0, le=1, description="share of crops whose latents are those of a cut layered file"
    )
    learning_rate: Rate = 5e-4
    warmup_steps: int = Field(100, ge=1)
    decay_from: float = Field(0.4, ge=0, lt=1)
    validate_every: int = Field(250, ge=1, description="steps between looks at validation crops")
    pool: int = Field(1024, ge=1, description="quantized crops that are kept")
    pool_start: int = Field(256, ge=1, description="how many of them are made before the start")
    phases: tuple[QuantizedPhase, ...] = Field(
        (QuantizedPhase(until=1.0, crop=256, batch=6, train="g_s", reuse=12),), min_length=1
    )

    @model_validator(mode="after")
    def _crops_fit_the_measures(self) -> DecoderRecipe:
        self.distortion.check_sides(phase.crop // self.network.scale for phase in self.phases)
        if self.distortion != Mixture() and (self.adversary or self.labels):
            raise ValueError("a decoder with an adversary, or of labels, has no distortion")
        if self.classification and (self.labels or self.network.scale > 1):
            raise ValueError("classification needs a decoder of pictures at their full size")
        if self.cut and (self.compares or self.labels):
            raise ValueError("cut needs a decoder of pictures without distill and adversary")
        return self

    @property
    def least_crop(self) -> int:
        """Side of the smallest crops."""
        return min(phase.crop for phase in self.phases)

    @property
    def compares(self) -> bool:
        """Whether training needs the teacher's pictures."""
        return self.distill > 0 or self.adversary is not None

    @property
    def labels(self) -> bool:
        """Whether the decoder makes labels rather than pictures."""
        return isinstance(self.network, ClassifierSizes)

    def phase_at(self, share: float) -> QuantizedPhase:
        """Return the phase at a share of the run's time."""
        return next((p for p in self.phases if share < p.until), self.phases[-1])


class Family(BaseModel):
    """The decoders of one recipe, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    decoders: dict[str, DecoderRecipe]


def load_decoder_recipe(path: Path, decoder: str) -> DecoderRecipe:
    """Read the recipe of one decoder.

    Raises
    ------
    BadParameter
        When the file is not YAML, a field is unknown, missing or out of range, or there is no such
        decoder.
    """
    family = load_as(path, Family)
    if decoder not in family.decoders:
        raise BadParameter(
            f"recipe {path} has no decoder {decoder!r}",
            remedy=f"it has: {', '.join(sorted(family.decoders))}",
        )
    return family.decoders[decoder]
