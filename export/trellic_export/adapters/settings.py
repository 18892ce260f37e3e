"""How adapters are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trellic.constants import COLOURS, Trellis
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle

# Of what an adapter of a model for the eye is trained for (`trellic_training.losses.eye`)
EYE: Mapping[str, float] = {"squared_error": 0.4, "ssimulacra2": 0.3, "ms_ssim": 0.3}


@dataclass(frozen=True)
class Settings:
    """How an adapter is trained.

    Attributes
    ----------
    minutes : time for training, without the checks
    rank : of the changes of convolutions
    share : parameters at most, as a share of the model's
    crop : side of the crops in pixels
    batch : crops of a step
    learning_rate : of Adam, after a warm-up; it falls to 0 by a cosine
    weight_exponent : of ``lmbda``, for the weight of a crop; otherwise only high qualities would
        count
    qualities : lowest and highest quality of the crops
    states : of the trellis that quantizes them
    main : share of the steps that train the decoder `quality`; the other decoders share the rest
    seed : of all randomness
    shares : of the measures in the distortion, of a model for the eye
    """

    minutes: float = 10.0
    rank: int = 2
    share: float = 0.02
    crop: int = 192
    batch: int = 2
    learning_rate: float = 7e-4
    weight_exponent: float = -0.5
    qualities: tuple[float, float] = (15.0, 90.0)
    states: Trellis = 8
    main: float = 0.7
    seed: int = 1
    shares: Mapping[str, float] = field(default_factory=lambda: dict(EYE))


@dataclass(frozen=True)
class Objective:
    """The objective that the model itself was trained for.

    Attributes
    ----------
    lmbda : weight of squared error, over quality
    reference : curve that says what a point of the other measures is worth; None if they do not
        count
    """

    lmbda: list[float]
    reference: str | None

    @classmethod
    def of(cls, bundle: Bundle) -> Objective:
        """Read it from a bundle.

        Raises
        ------
        BadParameter
            When the bundle does not say how it was trained, or has other bands than red, green and
            blue.
        """
        bands = bundle.manifest.layout.bands
        if bands != COLOURS:
            raise BadParameter(
                f"model {bundle.manifest.name!r} of {bands} bands",
                expected="one of colour pictures",
            )
        recipe: dict[str, Any] = bundle.manifest.training.get("recipe", {})
        if not recipe.get("lmbda"):
            raise BadParameter(
                f"model {bundle.manifest.name!r} does not say what it was trained for",
                expected="a bundle with a recipe in its manifest, such as 'photo'",
            )
        return cls(list(recipe["lmbda"]), recipe.get("distortion", {}).get("reference"))
