"""Training recipes: YAML files checked by pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trellic.constants import COLOURS, MAX_SEED
from trellic.errors import BadParameter
from trellic.support.names import did_you_mean
from trellic_training.models.photo import ModelConfig
from trellic_training.models.proxies import ProxyName
from trellic_training.recipes.distortion import Mixture
from trellic_training.recipes.terms import Classification, Perception

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Rate = Annotated[float, Field(gt=0, le=1)]  # of learning


class Phase(BaseModel):
    """One part of the run: crops of one size, up to a share of the time."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    until: float = Field(gt=0, le=1, description="share of the run's time at which it ends")
    crop: int = Field(multiple_of=8, ge=8)
    batch: int = Field(ge=1)


def check_crops(phases: Sequence[Phase], multiple: int) -> None:
    """Check that crops are whole hyper-latents of a model.

    Raises
    ------
    BadParameter
        When one is not a multiple of this many pixels.
    """
    for phase in phases:
        if phase.crop % multiple:
            raise BadParameter(
                f"the recipe has crops of {phase.crop} pixels",
                expected=f"a multiple of {multiple}, the model's pixels per hyper-latent",
            )


class Schedule(BaseModel):
    """Settings of every stage: the optimizer, the distortion, and its weight.

    ``lmbda`` is the weight of the mean squared error (on the 0..255 scale) against bits per pixel,
    at evenly spaced qualities from 1 to 100 (`trellic_training.recipes.lmbda`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    seed: Seed = 1
    optimizer: Literal["adamw", "soap", "muon"] = "soap"
    learning_rate: Rate = 2e-3
    warmup_steps: int = Field(300, ge=1)
    decay_from: float = Field(
        0.6, ge=0, lt=1, description="share of the time after which the rate falls"
    )
    final_rate: float = Field(0.02, ge=0, le=1, description="learning rate at the end, relative")
    ema: float = Field(0.999, ge=0, lt=1)
    gradient_clip: float = Field(1.0, gt=0)
    autocast: bool = True
    lmbda: tuple[float, ...] = Field((0.0006, 0.2), min_length=2)
    weight_exponent: float = Field(
        -0.5, ge=-4, le=4, description="weight of a sample: lmbda to this power"
    )
    distortion: Mixture = Mixture()
    cutouts: float = Field(0.0, ge=0, le=1, description="share of crops on pure white or black")

    @field_validator("lmbda")
    @classmethod
    def _lmbda_rises(cls, lmbda: tuple[float, ...]) -> tuple[float, ...]:
        if lmbda[0] <= 0 or any(a >= b for a, b in pairwise(lmbda)):
            raise ValueError(f"{lmbda}: values above 0 that rise are expected")
        return lmbda


class Recipe(Schedule):
    """Everything that decides a first-stage run, except the photos and the time.

    Both terms count in bits per pixel, as the distortion does.
    """

    name: str
    model: ModelConfig = ModelConfig()
    proxy: ProxyName = "mixed"
    train: Literal["all", "encoder", "hyper"] = Field(
        default="all",
        description="encoder: g_a and h_a alone, for a decoder that stays; hyper: h_a alone",
    )
    decoder: Path | None = Field(
        default=None, description="file of a decoder that g_s becomes before an encoder is trained"
    )
    identity: float = Field(
        default=0.0,
        ge=0,
        description="weight of how far encoding the decoded picture again moves latents, in steps",
    )
    classification: Classification | None = None
    perception: Perception | None = None
    phases: tuple[Phase, ...] = Field(
        (Phase(until=0.5, crop=128, batch=16), Phase(until=1.0, crop=256, batch=4)), min_length=1
    )

    @model_validator(mode="after")
    def _crops_fit_the_model(self) -> Recipe:
        check_crops(self.phases, self.model.hyper_stride)
        self.distortion.check_sides(phase.crop for phase in self.phases)
        return self

    @model_validator(mode="after")
    def _measures_are_of_colours(self) -> Recipe:
        self.distortion.check_bands(self.model.bands)
        others = self.cutouts or self.classification or self.perception
        if self.model.bands != COLOURS and others:
            raise ValueError("cutouts, classification and perception are of pictures in colour")
        return self

    @model_validator(mode="after")
    def _decoders_are_for_encoders(self) -> Recipe:
        if self.train != "encoder" and (self.decoder is not None or self.identity):
            raise ValueError("decoder and identity need train: encoder")
        return self

    def phase_at(self, share: float) -> Phase:
        """Return the phase at a share of the run's time."""
        return next((p for p in self.phases if share < p.until), self.phases[-1])


Family = Literal["scalar", "trellis"]
Part = Literal["g_s", "g_s+entropy"]
Kind = Literal["round", 0, 4, 8, 16, 32, 64, 128, 256]


class QuantizedPhase(Phase):
    """One part of the quantized-latent stage.

    ``reuse`` is how many steps use a quantized crop, on average. It can be above 1 only where g_s
    alone is trained: if other networks changed, the quantized latents would change too.
    """

    train: Part = "g_s+entropy"
    reuse: int = Field(default=1, ge=1, le=64)

    @model_validator(mode="after")
    def _only_g_s_reuses(self) -> QuantizedPhase:
        if self.reuse > 1 and self.train != "g_s":
            raise ValueError(f"reuse {self.reuse} needs train: g_s, not {self.train}")
        return self


class QuantizedRecipe(Schedule):
    """Everything that decides a run of the second stage, except weights, photos and time.

    ``quantizers`` are drawn batch by batch: trellis states, 0 for RDOQ, "round" for plain rounding.
    One entry gives weights for one quantizer, several give weights that all share. ``lam``,
    ``fit_lam``, ``trellis_step`` and ``widening`` are those of the export
    (`trellic_export.bundle.Options`).
    """

    name: str
    quantizers: tuple[Kind, ...] = Field((8,), min_length=1)
    lam: dict[Family, int] = {"scalar": 20, "trellis": 24}
    fit_lam: dict[Family, int] = {"scalar": 40, "trellis": 48}
    trellis_step: int = Field(21, ge=1, le=255)
    skip_index: int = Field(4, ge=0)
    widening: int = Field(96, ge=0, le=1024)
    learning_rate: Rate = 1e-4
    warmup_steps: int = Field(100, ge=1)
    decay_from: float = Field(0.5, ge=0, lt=1)
    identity: float = Field(
        2.0,
        ge=0,
        description="weight of how far encoding the decoded picture again moves latents, in steps",
    )
    fit_crops: int = Field(96, ge=1, description="crops that tables are first fitted to")
    refit_crops: int = Field(32, ge=1, description="crops of later fits")
    refit_every: int = Field(100, ge=1, description="steps between new tables")
    validate_every: int = Field(250, ge=1, description="steps between looks at validation crops")
    pool: int = Field(512, ge=1, description="quantized crops kept where a phase reuses them")
    phases: tuple[QuantizedPhase, ...] = Field(
        (
            QuantizedPhase(until=0.6, crop=256, batch=6, train="g_s", reuse=4),
            QuantizedPhase(until=1.0, crop=256, batch=6, train="g_s+entropy"),
        ),
        min_length=1,
    )

    @model_validator(mode="after")
    def _crops_fit_the_measures(self) -> QuantizedRecipe:
        self.distortion.check_sides(phase.crop for phase in self.phases)
        return self

    @property
    def trains_entropy(self) -> bool:
        """Whether any phase trains the entropy networks."""
        return any(phase.train != "g_s" for phase in self.phases)

    def phase_at(self, share: float) -> QuantizedPhase:
        """Return the phase at a share of the run's time."""
        return next((p for p in self.phases if share < p.until), self.phases[-1])


COMMANDS = {  # by the class of a recipe
    "Recipe": "trellic train",
    "QuantizedRecipe": "trellic finetune",
    "Family": "trellic finetune --add-decoder",
    "ClassifierRecipe": "trellic train",
}
AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe of the first stage; errors are those of `load_as`."""
    return load_as(path, Recipe)


def load_quantized_recipe(path: Path) -> QuantizedRecipe:
    """Read and check a recipe of the quantized-latent stage; errors are those of `load_as`."""
    return load_as(path, QuantizedRecipe)


def load_as(path: Path, kind: type[AnyRecipe]) -> AnyRecipe:
    """Read and check a recipe of one kind.

    Raises
    ------
    BadParameter
        When the file is not YAML, or a field is unknown, missing or out of range.
    """
    fields = _read(path)
    if not isinstance(fields, dict):
        what = "is empty" if fields is None else "has no fields"
        raise BadParameter(f"recipe {path} {what}", expected="fields, such as 'name: mine'")
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        # A required field that is misspelt is missing too, which says less.
        first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        seen, expected, remedy = _fault(kind, first)
        meant = _command(fields)
        if meant is not None and COMMANDS.get(kind.__name__, meant) != meant:
            remedy = f"it looks like a recipe for {meant}"
        raise BadParameter(f"recipe {path}: {seen}", expected=expected, remedy=remedy) from error


def _fault(kind: type[BaseModel], fault: Any) -> tuple[str, str, str]:
    """Put a fault that pydantic found in our words: what was seen, what is expected, a remedy."""
    where, message = fault["loc"], fault["msg"].removeprefix("Value error, ")
    place = ".".join(map(str, where))
    if fault["type"] == "extra_forbidden":
        return f"unknown field {place!r}", "", did_you_mean(str(where[-1]), _known(kind, where))
    if fault["type"] == "missing":
        return f"the field {place!r} is missing", "", ""
    if message.startswith("Input should be "):
        return f"{place}: {fault['input']!r}", message.removeprefix("Input should be "), ""
    return f"{place}: {message}" if place else message, "", ""


def _known(kind: type[BaseModel], where: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that may be where an unknown one is."""
    kinds = [kind]
    for part in where[:-1]:
        fields = [each.model_fields[part] for each in kinds if part in each.model_fields]
        kinds = [made for field in fields for made in _models(field.annotation)] or kinds
    return [name for each in kinds for name in each.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models within an annotation, such as that of a tuple of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _command(fields: dict[Any, Any]) -> str | None:
    """Return the command that a recipe seems to be for."""
    if "decoders" in fields:
        return COMMANDS["Family"]
    if "model" in fields or "kind" in fields:
        return COMMANDS["Recipe"]
    return COMMANDS["QuantizedRecipe"] if "quantizers" in fields else None


def kind_of(path: Path) -> str | None:
    """Return the field ``kind`` of a recipe; recipes of codecs have none."""
    fields = _read(path)
    return fields.get("kind") if isinstance(fields, dict) else None


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadParameter(f"recipe {path} cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadParameter(f"recipe {path} is not YAML ({error})") from error
    except RecursionError as error:
        raise BadParameter(f"recipe {path} is nested too deeply") from error
