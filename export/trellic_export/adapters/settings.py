"""How adapters are trained, and what their training has in common with that of slim models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trellic.constants import Trellis

# Of what an adapter of a model for the eye is trained for (`trellic_training.losses.eye`)
EYE: Mapping[str, float] = {"squared_error": 0.4, "ssimulacra2": 0.3, "ms_ssim": 0.3}


@dataclass(frozen=True)
class Training:
    """How networks are trained on crops of somebody's pictures.

    Attributes
    ----------
    minutes : time for training, without the checks
    crop : side of the crops in pixels
    batch : crops of a step
    learning_rate : after a warm-up; it falls to 0 by a cosine
    weight_exponent : of ``lmbda``, for the weight of a crop; otherwise only high qualities would
        count
    qualities : lowest and highest quality of the crops
    states : of the trellis that quantizes them
    seed : of all randomness
    shares : of the measures in the distortion, of a model for the eye
    """

    minutes: float
    batch: int
    learning_rate: float
    crop: int = 192
    weight_exponent: float = -0.5
    qualities: tuple[float, float] = (15.0, 90.0)
    states: Trellis = 8
    seed: int = 1
    shares: Mapping[str, float] = field(default_factory=lambda: dict(EYE))


@dataclass(frozen=True)
class Settings(Training):
    """How an adapter is trained, by Adam.

    Attributes
    ----------
    rank : of the changes of convolutions
    share : parameters at most, as a share of the model's
    main : share of the steps that train the decoder `quality`; the other decoders share the rest
    pool : quantized crops that are kept
    first : batches of them that are made before the first step
    reuse : steps for each further batch
    """

    minutes: float = 10.0
    batch: int = 2
    learning_rate: float = 2e-3
    rank: int = 3
    share: float = 0.02
    main: float = 0.7
    pool: int = 192
    first: int = 16
    reuse: int = 2
