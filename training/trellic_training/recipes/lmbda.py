"""Weight of the distortion over quality: given at even steps, geometric in between."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trellic_training.losses.constants import constant
from trellic_training.models.gains import QUALITY_MAX, QUALITY_MIN

Float64 = npt.NDArray[np.float64]


def lmbda_at(values: Sequence[float], quality: Tensor) -> Tensor:
    """``lmbda`` of each quality: (N,) in [1, 100] to (N,).

    Parameters
    ----------
    values : two or more, rising; at qualities from 1 to 100, evenly spaced
    """
    last = len(values) - 1
    knots = constant(tuple(values), quality).log()
    place = (quality - QUALITY_MIN) * (last / (QUALITY_MAX - QUALITY_MIN))
    near = (1 - (place[:, None] - torch.arange(last + 1, device=quality.device)).abs()).clamp_min(0)
    return (near @ knots).exp()


def quality_of(values: Sequence[float], lmbda: Float64) -> Float64:
    """Inverse of `lmbda_at`; beyond both ends the last line continues."""
    at, knots = np.log(lmbda), np.log(values)
    qualities = np.linspace(QUALITY_MIN, QUALITY_MAX, len(knots))
    left = np.clip(np.searchsorted(knots, at) - 1, 0, len(knots) - 2)
    slope = np.diff(qualities) / np.diff(knots)
    found: Float64 = qualities[left] + slope[left] * (at - knots[left])
    return found


def same_lmbda(values: Sequence[float], others: Sequence[float], quality: Float64) -> Float64:
    """Quality at which other values give the ``lmbda`` that these give at a quality."""
    return quality_of(others, lmbda_at(values, torch.from_numpy(quality)).numpy())
