"""How slim models are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trellic.constants import Trellis
from trellic_export.adapters.settings import EYE


@dataclass(frozen=True)
class Settings:
    """How a slim model is trained.

    Attributes
    ----------
    minutes : time for training, without the checks
    imitating : share of the time in which the encoder learns the latents of the large one
    crop : side of the crops in pixels
    batch : crops of a step
    learning_rate : of SOAP, after a warm-up; it falls to 0 by a cosine
    clip : norm of the gradients at most
    weight_exponent : of ``lmbda``, for the weight of a crop
    qualities : lowest and highest quality of the crops
    states : of the trellis that quantizes them
    seed : of all randomness
    shares : of the measures in the distortion, of a model for the eye
    """

    minutes: float = 60.0
    imitating: float = 0.4
    crop: int = 192
    batch: int = 4
    learning_rate: float = 2e-3
    clip: float = 1.0
    weight_exponent: float = -0.5
    qualities: tuple[float, float] = (15.0, 90.0)
    states: Trellis = 8
    seed: int = 1
    shares: Mapping[str, float] = field(default_factory=lambda: dict(EYE))
