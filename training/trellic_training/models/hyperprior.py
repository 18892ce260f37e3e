"""Hyper-prior models without context: "bmshj2018_hyperprior" and "mbt2018_mean".

::

    x --g_a--> f --* gain--> y --- mean --> round --> + mean = y_hat --/ gain--> g_s --> x_hat
               |                    ^
               h_a                mean, scale index
               v                    ^
               round = z ---> h_s --'   integers all the way

The networks are those of Ballé et al. 2018, "Variational image compression with a scale
hyperprior", and of Minnen et al. 2018, "Joint autoregressive and hierarchical priors" (its variant
without context), as CompressAI has them. Two things differ. h_s is an integer network, because it
must be exact; it gives the scale index itself, through a table of the logarithm, instead of a
standard deviation. And the gain turns the one rate into a range of rates around it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from trellic.limits import ACTIVATION_LIMIT
from trellic.model.channels import Group
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models.exact import ACTIVATION_UNIT, BOTH_WAYS, ExactConv
from trellic_training.models.gains import Gains
from trellic_training.models.photo import (
    MEAN_LIMIT,
    MEAN_UNIT,
    SCALE_PARTS,
    ModelConfig,
    PhotoModel,
)
from trellic_training.models.transforms import Chain

Architecture = Literal["bmshj2018_hyperprior", "mbt2018_mean"]
LATENT_UNIT = 8.0  # y at the trained rate to one of f: lets means be large in units of 2**-9 of f
SIGMA_UNIT = 2.0**-10  # of f; the integer standard deviation that the table of indices is read at
SIGMA_LIMIT = 2**14
TRAINED_QUALITY = 60.0  # where the gain is that of training; each 40 more double it
OCTAVE = 40.0
SLOPE = 0.01  # of LeakyReLU
REACH = 30, 7, 2  # four 5x5 layers of stride 2; a 3x3 and two of them; the four transposed


class HyperpriorConfig(ModelConfig):
    """Sizes of a hyper-prior model; the papers call ``hyper`` N and ``latents`` M.

    The sizes of `PhotoModel`'s own networks play no part here.
    """

    architecture: Architecture
    hyper: int = Field(ge=1)
    groups: tuple[Group, ...] = Field(min_length=1, max_length=1)

    @model_validator(mode="after")
    def _one_step(self) -> HyperpriorConfig:
        if self.groups[0].steps != (0, 0) or self.hyper_buckets != 16:
            raise ValueError("a hyper-prior model has one step and 16 buckets")
        return self

    @property
    def has_mean(self) -> bool:
        """Whether h_s predicts means; if not, they are 0 and h_a sees magnitudes."""
        return self.architecture == "mbt2018_mean"

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of the two hidden layers of h_s."""
        latents = self.latents
        return (latents, latents * 3 // 2) if self.has_mean else (self.hyper, self.hyper)


class HyperpriorModel(PhotoModel):
    """Hyper-prior codec whose h_s is an integer network; used as `PhotoModel` is."""

    config: HyperpriorConfig

    def __init__(self, config: HyperpriorConfig) -> None:
        nn.Module.__init__(self)  # none of the photo model's networks
        self.config = c = config
        n, m = c.hyper, c.latents
        self.g_a = Chain(Shift(0.5), *_down(3, n, m))
        self.g_s = Chain(*_up(m, n, 3), Shift(-0.5))
        self.h_a = _hyper_analysis(c)
        span = (100.0 - TRAINED_QUALITY) / OCTAVE, (1.0 - TRAINED_QUALITY) / OCTAVE
        self.gains = Gains(m, 2, LATENT_UNIT * 2 ** span[1], LATENT_UNIT * 2 ** span[0])
        self.hyper_gains = Gains(n, 2, 1 / ACTIVATION_UNIT, 1 / ACTIVATION_UNIT)
        self.hyper_mean = nn.Parameter(torch.zeros(n))
        self.hyper_log_sigma = nn.Parameter(torch.zeros(n))
        self.context_log_gain = nn.Parameter(torch.zeros(m), requires_grad=False)
        first, second = c.widths
        self.h_s = nn.Sequential(
            ExactConv(n + 1, n + 1, clip=BOTH_WAYS),  # hyper-latents with their medians
            _hidden(n + 1, 4 * first, leaky_relu=c.has_mean),
            nn.PixelShuffle(2),
            _hidden(first, 4 * second, leaky_relu=c.has_mean),
            nn.PixelShuffle(2),
            HyperHeads(second, m, c.scales, has_mean=c.has_mean),
        )
        self.steps = c.layout().steps
        self.contexts = nn.ModuleList([Split(has_mean=c.has_mean)])
        self.register_buffer("step_of", torch.from_numpy(c.layout().step_of), persistent=False)

    @property
    def halos(self) -> tuple[int, int, int]:
        """How far g_a reaches, in pixels, and h_a and g_s, in latents, beyond their strides."""
        return REACH


class HyperHeads(nn.Module):
    """The last layers of h_s: the mean, if there is one, and the scale index in eighths."""

    def __init__(self, channels: int, latents: int, scales: int, *, has_mean: bool) -> None:
        super().__init__()
        if has_mean:
            self.mean = ExactConv(
                channels,
                latents,
                kernel=3,
                unit=MEAN_UNIT,
                clip=(-MEAN_LIMIT, MEAN_LIMIT),
                dense=True,
            )
        self.scale = ExactConv(
            channels,
            latents,
            kernel=3,
            unit=SIGMA_UNIT,
            clip=(0, SIGMA_LIMIT),
            dense=True,
            curve=partial(scale_index, scales),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the means, if there are any, and then the scales: integers."""
        return torch.cat([head(x) for head in self.children()], 1)


class Split(nn.Module):
    """In the place of a context network: the features are the mean and the scale already."""

    def __init__(self, *, has_mean: bool) -> None:
        super().__init__()
        self.has_mean = has_mean

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the integer mean (0 where h_s predicts none) and scale."""
        if not self.has_mean:
            return torch.zeros_like(features), features
        mean, scale = features.chunk(2, 1)
        return mean, scale


def scale_index(scales: int, sigma: Tensor) -> Tensor:
    """Scale index, in eighths, of an integer standard deviation in `SIGMA_UNIT`."""
    step = math.log(scale_ratio(scales)) / SCALE_PARTS
    return (torch.log(sigma.clamp_min(0.5)) + math.log(SIGMA_UNIT / SIGMA_MIN)) / step


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU of integers, before rounding."""
    return torch.where(x < 0, SLOPE * x, x)


class Shift(nn.Module):
    """Adds a constant: CompressAI's pixels lie in [0, 1], ours around 0."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return x + self.amount


class Magnitude(nn.Module):
    """Absolute values: what the h_a of a scale hyper-prior sees."""

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to itself."""
        return x.abs()


class GDN(nn.Module):
    """Generalized divisive normalization (Ballé et al. 2016), or its inverse.

    ``y[i] = x[i] / sqrt(beta[i] + sum_j gamma[i, j] x[j]**2)``; the inverse multiplies. Parameters
    are square roots, bounded below, as in CompressAI, so that they stay positive in training.
    """

    PEDESTAL = 2.0**-36
    BETA_MIN = 1e-6

    def __init__(self, channels: int, *, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta = nn.Parameter(torch.ones(channels).add(self.PEDESTAL).sqrt())
        self.gamma = nn.Parameter((0.1 * torch.eye(channels)).add(self.PEDESTAL).sqrt())

    def weights(self) -> tuple[Tensor, Tensor]:
        """Gamma (channels, channels, 1, 1) and beta (channels,), as they are used."""
        beta = self.beta.clamp_min((self.BETA_MIN + self.PEDESTAL) ** 0.5)
        gamma = self.gamma.clamp_min(self.PEDESTAL**0.5)
        return (gamma.square() - self.PEDESTAL)[:, :, None, None], beta.square() - self.PEDESTAL

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        norm = functional.conv2d(x.square(), *self.weights())
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


def _hidden(channels_in: int, channels_out: int, *, leaky_relu: bool) -> ExactConv:
    if not leaky_relu:
        return ExactConv(channels_in, channels_out, kernel=3, dense=True)
    low = -round(ACTIVATION_LIMIT / SLOPE)
    return ExactConv(
        channels_in, channels_out, kernel=3, dense=True, clip=(low, ACTIVATION_LIMIT), curve=leaky
    )


def _down(channels: int, hidden: int, latents: int) -> list[nn.Module]:
    widths = (channels, hidden, hidden, hidden)
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        out = hidden if i < 3 else latents
        layers.append(nn.Conv2d(width, out, 5, stride=2, padding=2))
        layers += [GDN(out)] if i < 3 else []
    return layers


def _up(latents: int, hidden: int, channels: int) -> list[nn.Module]:
    widths = (latents, hidden, hidden, hidden)
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        out = hidden if i < 3 else channels
        layers.append(nn.ConvTranspose2d(width, out, 5, stride=2, padding=2, output_padding=1))
        layers += [GDN(out, inverse=True)] if i < 3 else []
    return layers


def _hyper_analysis(c: HyperpriorConfig) -> nn.Sequential:
    n, m = c.hyper, c.latents
    act = partial(nn.LeakyReLU, SLOPE) if c.has_mean else nn.ReLU
    before: list[nn.Module] = [] if c.has_mean else [Magnitude()]
    return nn.Sequential(
        *before,
        nn.Conv2d(m, n, 3, padding=1),
        act(),
        nn.Conv2d(n, n, 5, stride=2, padding=2),
        act(),
        nn.Conv2d(n, n, 5, stride=2, padding=2),
    )
