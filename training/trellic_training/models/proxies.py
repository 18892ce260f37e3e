"""Stand-ins for rounding in the first stage, through which gradients pass.

Each maps residuals (latents less their means, in steps) to two values: one whose rate is charged,
and one that decoder and contexts see.

- noise: uniform noise for both (Ballé et al. 2017, "End-to-end optimized image compression").
- straight-through: rounding for both, its gradient that of the identity (Theis et al. 2017, "Lossy
  image compression with compressive autoencoders").
- mixed: noise for the rate, straight-through rounding for the decoder (Minnen and Singh 2020,
  "Channel-wise autoregressive entropy models for learned image compression").
- soft-rounding: a smooth staircase, noise, and the staircase's approximate inverse as the expected
  latent (Agustsson and Theis 2020, "Universally quantized neural compression").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trellic_training.models.exact import round_through

ProxyName = Literal["noise", "straight-through", "mixed", "soft-rounding"]
Proxy = Callable[[Tensor], tuple[Tensor, Tensor]]
SHARPNESS = 4.0  # of the soft staircase; 0 is the identity, infinity is rounding


def noise(residual: Tensor) -> tuple[Tensor, Tensor]:
    """Uniform noise for rate and decoder."""
    noisy = residual + torch.rand_like(residual) - 0.5
    return noisy, noisy


def straight_through(residual: Tensor) -> tuple[Tensor, Tensor]:
    """Round for rate and decoder."""
    rounded = round_through(residual)
    return rounded, rounded


def mixed(residual: Tensor) -> tuple[Tensor, Tensor]:
    """Noise for the rate, rounding for the decoder."""
    return residual + torch.rand_like(residual) - 0.5, round_through(residual)


def soft_rounding(residual: Tensor) -> tuple[Tensor, Tensor]:
    """Soft staircase plus noise for the rate, the latent expected behind it for the decoder."""
    noisy = soft_round(residual) + torch.rand_like(residual) - 0.5
    return noisy, soft_unround(noisy - 0.5) + 0.5


def soft_round(x: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Return the smooth staircase: the identity at integers and halves."""
    middle = x.detach().floor() + 0.5
    return middle + torch.tanh(sharpness * (x - middle)) / (2 * math.tanh(sharpness / 2))


def soft_unround(x: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Return the inverse of `soft_round`."""
    middle = x.detach().floor() + 0.5
    inner = (2 * math.tanh(sharpness / 2) * (x - middle)).clamp(-1 + 1e-6, 1 - 1e-6)
    return middle + torch.atanh(inner) / sharpness


PROXIES: dict[ProxyName, Proxy] = {
    "noise": noise,
    "straight-through": straight_through,
    "mixed": mixed,
    "soft-rounding": soft_rounding,
}
