"""Differentiable code lengths of symbols, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SIGMA_MIN = 0.11  # standard deviation of scale index 0, in scalar steps
SIGMA_MAX = 64.0
TAIL = 0.02  # share of the heavy tail in each symbol's distribution


def scale_ratio(scales: int) -> float:
    """Ratio of the standard deviations of neighbouring scale indices."""
    return float((SIGMA_MAX / SIGMA_MIN) ** (1 / (scales - 1)))


def bits(residual: Tensor, sigma: Tensor) -> Tensor:
    """Code length of integers (or of noisy values) whose density is Gaussian with a Laplace tail.

    Real latents have such a tail (2 %), and it gives outliers a gradient.

    Parameters
    ----------
    residual : values minus their predicted means, in steps
    sigma : their predicted standard deviations, in steps, same shape

    Returns
    -------
    bits of each value, same shape
    """
    x = residual.abs()
    root = 1 / (sigma * math.sqrt(2.0))
    gauss = 0.5 * (torch.erfc((x - 0.5) * root) - torch.erfc((x + 0.5) * root))
    width = 1.5 * sigma + 0.05
    laplace = torch.exp(-((x - 0.5) / width).clamp(0, 80.0)) * 0.5 * -torch.expm1(-1 / width)
    return -torch.log2((1 - TAIL) * gauss + TAIL * laplace + 1e-12)
