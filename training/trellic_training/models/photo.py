"""The codec's network: float transforms and integer entropy networks, one model for all qualities.

::

    x --g_a--> f --* gain--> y --- mean --> round --> + mean = y_hat --/ gain--> g_s --> x_hat
               |                    ^                   |
               h_a                mean, scale index     v (only latents of earlier steps)
               |                    ^------------- context network of the step
               * hyper gain         |
               round = z --/ hyper gain, quality--> h_s (features)

Everything right of z that leads to mean and scale index is an integer network (`exact`). It works
in units before the gain, so that it sees the same picture at each quality. The gain only multiplies
the mean, and adds to the scale index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from trellic.constants import COLOURS, Bands
from trellic.errors import BadParameter
from trellic.limits import ACTIVATION_LIMIT
from trellic.model.channels import Group, Layout, Step
from trellic.model.quality import LEVEL_CENTRE
from trellic_training.losses.rates import SIGMA_MIN, bits, scale_ratio
from trellic_training.models.assembly import hyper_synthesis, transforms_of
from trellic_training.models.coupling import REACH
from trellic_training.models.decoders import Blocks, Width
from trellic_training.models.exact import (
    ACTIVATION_UNIT,
    ExactConv,
    depthwise,
    pointwise,
    round_through,
)
from trellic_training.models.gains import Gains
from trellic_training.models.precision import bfloat16
from trellic_training.models.proxies import PROXIES, ProxyName
from trellic_training.models.transforms import DepthBlock, hyper_analysis

MEAN_UNIT = 2.0**-9  # of a latent before its gain
MEAN_LIMIT = 2**16 - 1
SCALE_UNIT = 2.0**-5  # the network's scale output is in 1/8 index; 4 indices a real unit
SCALE_LIMIT = 1023
SCALE_PARTS = 8  # parts of one scale index in the network's output


class ModelConfig(BaseModel):
    """Sizes of the networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    wide: Width = 128
    deep: Width = 192
    encoder_blocks: tuple[Blocks, Blocks] = (2, 2)
    decoder_blocks: tuple[Blocks, Blocks] = (3, 3)
    groups: tuple[Group, ...] = Field(
        default=(Group(channels=48, steps=(0, 1)), Group(channels=144, steps=(1, 2))),
        min_length=1,
    )
    hyper: Width = 48
    hyper_hidden: Width = 128
    features: int = Field(default=128, ge=2, le=4096)
    context_hidden: Width = 128
    scales: int = Field(default=48, ge=2, le=255)
    anchors: int = Field(default=9, ge=2, le=100)
    hyper_buckets: int = Field(default=16, ge=1, le=100)
    details: int = Field(default=0, ge=0, description="latents beside the trunk: the last group")
    modulated: bool = Field(default=False, description="blocks of g_a and g_s see the quality")
    attention: tuple[Annotated[int, Field(ge=1, le=8)], ...] = Field(
        default=(), description="dilation of each attention layer at the latents' resolution"
    )
    coupling: int = Field(default=0, ge=0, le=8, description="pairs of couplings at the stems")
    frequency_split: bool = Field(default=True, description="couplings split by frequency")
    denoising: int = Field(default=0, ge=0, le=8, description="denoising stages before g_s")
    nonlocal_hyper: bool = Field(default=False, description="h_a sees all positions")
    guidance: bool = Field(default=False, description="depthwise layers of h_s are dilated")
    stride: Literal[4, 8, 16] = Field(default=16, description="pixels per latent")
    cell: Literal[2, 4] = Field(default=4, description="latents per hyper-latent")
    bands: Bands = Field(default=COLOURS, description="samples of a pixel; 3 are red, green, blue")

    @model_validator(mode="after")
    def _has_a_layout(self) -> ModelConfig:
        try:
            self.layout()
        except ValidationError as error:
            raise ValueError(error.errors()[0]["ctx"]["error"]) from error
        return self

    @model_validator(mode="after")
    def _details_are_a_group(self) -> ModelConfig:
        if self.details and (len(self.groups) < 2 or self.groups[-1].channels != self.details):
            raise ValueError(f"{self.details} details are not the channels of the last group")
        return self

    @model_validator(mode="after")
    def _couplings_keep_all_channels(self) -> ModelConfig:
        if self.coupling and self.wide != COLOURS * self.stem**2:
            raise ValueError(f"couplings need wide = {COLOURS * self.stem**2}, not {self.wide}")
        if self.coupling and self.bands != COLOURS:
            raise ValueError(f"couplings are of pictures in colour, not of {self.bands} bands")
        return self

    def without_details(self) -> ModelConfig:
        """Return the sizes of the same model less its details, and less their denoising."""
        groups = self.groups[:-1] if self.details else self.groups
        return self.model_copy(update={"details": 0, "groups": groups, "denoising": 0})

    @property
    def latents(self) -> int:
        """Number of latent channels."""
        return sum(group.channels for group in self.groups)

    @property
    def stem(self) -> int:
        """Pixels per position of the blocks at twice the latents' resolution."""
        return self.stride // 2

    @property
    def hyper_stride(self) -> int:
        """Pixels per hyper-latent."""
        return self.stride * self.cell

    def layout(self, skip_index: int = 0) -> Layout:
        """Return the latents' layout as the runtime knows it.

        Raises
        ------
        BadParameter
            When no scale index is as large as ``skip_index``.
        """
        if skip_index >= self.scales:
            raise BadParameter(
                f"skip index {skip_index}",
                expected=f"0 to {self.scales - 1}, because the model has {self.scales} scales",
            )
        return Layout(
            groups=self.groups,
            hyper=self.hyper,
            scales=self.scales,
            skip_index=skip_index,
            stride=self.stride,
            cell=self.cell,
            bands=self.bands,
        )


@dataclass(frozen=True)
class Output:
    """Result of one pass through the model.

    Attributes
    ----------
    x_hat : (N, bands, H, W), reconstruction, nominally in [-1/2, 1/2]
    f_hat : (N, C, h, w), the latents that it was made of, before the gain
    y_bits, z_bits : (N,), code lengths in bits
    """

    x_hat: Tensor
    f_hat: Tensor
    y_bits: Tensor
    z_bits: Tensor


class PhotoModel(nn.Module):
    """Variable-rate codec with a hyper-prior and a few context steps."""

    proxy: ProxyName = "mixed"  # what stands in for rounding while training

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = c = config
        self.g_a, self.g_s = transforms_of(c)
        sizes = c.latents, c.hyper_hidden, c.hyper, c.cell
        self.h_a = hyper_analysis(*sizes, everywhere=c.nonlocal_hyper)
        self.gains = Gains(c.latents, c.anchors, 0.75, 10.0)
        self.hyper_gains = Gains(c.hyper, c.anchors, 1.0, 4.0)
        self.hyper_mean = nn.Parameter(torch.zeros(c.hyper))
        self.hyper_log_sigma = nn.Parameter(torch.zeros(c.hyper))
        self.context_log_gain = nn.Parameter(torch.zeros(c.latents))
        self.h_s = hyper_synthesis(c)
        layout = c.layout()
        self.steps = layout.steps
        self.contexts = nn.ModuleList(self._context(step) for step in self.steps)
        self.register_buffer("step_of", torch.from_numpy(layout.step_of), persistent=False)

    def _context(self, step: Step) -> nn.Sequential:
        c = self.config
        hidden = c.context_hidden
        count = step.last - step.first
        layers: list[nn.Module] = [pointwise(c.features + step.context, hidden)]
        if step.context:
            layers += [depthwise(hidden, 5), pointwise(hidden, hidden)]
        return nn.Sequential(*layers, Heads(hidden, count))

    @property
    def halos(self) -> tuple[int, int, int]:
        """How far g_a reaches, in pixels, and h_a and g_s, in latents, beyond their strides.

        A block's 3x3 kernel reaches one position of its own stride. An h_a that sees all positions
        has 0, which says that it runs in one piece.
        """
        c = self.config
        near, far = c.coupling * REACH, sum(c.attention)
        hyper = sum(isinstance(part, DepthBlock) for part in self.h_a)  # at half the latents' size
        encoder = c.stem * (c.encoder_blocks[0] + near) + c.stride * (c.encoder_blocks[1] + far)
        decoder = c.denoising + c.decoder_blocks[1] + far - (-(c.decoder_blocks[0] + near) // 2)
        return encoder, 0 if c.nonlocal_hyper else 2 * hyper, decoder

    def step_map(self, height: int, width: int) -> Tensor:
        """Context step of every latent of a plane: int64 (latents, height, width)."""
        table: Tensor = self.step_of  # type: ignore[assignment]
        y = torch.arange(height, device=table.device)[:, None]
        x = torch.arange(width, device=table.device)[None, :]
        return table[:, (y + x) & 1]

    def hyper_quality(self, quality: Tensor) -> Tensor:
        """Quality at the middle of the bucket: hyper-latents change their step bucket by bucket."""
        size = 100.0 / self.config.hyper_buckets
        return ((quality - 0.5) / size).floor() * size + 0.5 + size / 2

    def hyper(self, f: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Code the hyper-latents: returns the integer features and the bits of each picture."""
        bucket = self.hyper_quality(quality).clamp(1.0, 100.0)
        log_gain = self.hyper_gains.log(bucket)
        gain = torch.exp(log_gain)
        mean = (self.hyper_mean[None, :, None, None] * gain).round()
        z = self.h_a(f).float() * gain
        sigma = torch.exp(log_gain + self.hyper_log_sigma[None, :, None, None])
        noisy = z + torch.rand_like(z) - 0.5 if self.training else z.round()
        z_bits = bits(noisy - mean, sigma.clamp_min(SIGMA_MIN).expand_as(z)).sum((1, 2, 3))
        z_hat = round_through(z)
        return self.features(z_hat / gain, quality), z_bits

    def features(self, z_scaled: Tensor, quality: Tensor) -> Tensor:
        """Integer features of the latents from hyper-latents divided by their gains."""
        level = (torch.floor(quality + 0.5) - LEVEL_CENTRE)[:, None, None, None]
        scaled = to_activation(z_scaled)
        n, _, height, width = scaled.shape
        features: Tensor = self.h_s(torch.cat([scaled, level.expand(n, 1, height, width)], 1))
        return features

    def parameters_of(
        self, k: int, features: Tensor, y_hat: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean (in steps) and scale index (fraction of 1/8) that step ``k`` predicts.

        Parameters
        ----------
        features : integer features of h_s
        y_hat : reconstructed latents in steps, 0 where not yet decoded
        """
        step = self.steps[k]
        log_gain = self.gains.log(quality)
        seen = slice(0, step.context)
        relative = torch.exp(self.context_log_gain[None, seen, None, None] - log_gain[:, seen])
        context = to_activation(y_hat[:, seen] * relative)
        mean, scale = self.contexts[k](torch.cat([features, context], 1))
        coded = slice(step.first, step.last)
        shift = log_gain[:, coded] * (SCALE_PARTS / math.log(scale_ratio(self.config.scales)))
        index = (scale + round_through(shift)) / SCALE_PARTS
        return (
            mean * MEAN_UNIT * torch.exp(log_gain[:, coded]),
            index.clamp(0, self.config.scales - 1),
        )

    def sigma(self, index: Tensor) -> Tensor:
        """Return the standard deviation, in steps, of a scale index."""
        return SIGMA_MIN * torch.exp(index * math.log(scale_ratio(self.config.scales)))

    def code_latents(self, y: Tensor, features: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Quantize and cost all latents, step by step: returns y_hat in steps and bits (N,)."""
        steps = self.step_map(y.shape[2], y.shape[3])
        y_hat = torch.zeros_like(y)
        total = torch.zeros(y.shape[0], device=y.device)
        for k, step in enumerate(self.steps):
            mean, index = self.parameters_of(k, features, y_hat, quality)
            coded = slice(step.first, step.last)
            mask = (steps[coded] == k)[None]
            residual = y[:, coded] - mean
            proxy = PROXIES[self.proxy if self.training else "straight-through"]
            value, decoded = proxy(residual)
            cost = bits(value, self.sigma(index))
            total = total + (cost * mask).sum((1, 2, 3))
            filled = (decoded + mean) * mask
            y_hat = torch.cat(
                [y_hat[:, : step.first], y_hat[:, coded] + filled, y_hat[:, step.last :]], 1
            )
        return y_hat, total

    def forward(self, x: Tensor, quality: Tensor, *, autocast: bool = False) -> Output:
        """Code pictures.

        Parameters
        ----------
        x : (N, bands, H, W) in [-1/2, 1/2], sides multiples of the hyper-stride
        quality : (N,) in [1, 100]
        autocast : bool
            Run the free transforms in bfloat16, where that is faster. Rates and entropy
            networks never are.
        """
        kind = x.device.type
        with bfloat16(kind, autocast):
            f = self.g_a(x, quality).float()
        gain = self.gains(quality)
        features, z_bits = self.hyper(f, quality)
        y_hat, y_bits = self.code_latents(f * gain, features, quality)
        f_hat = y_hat / gain
        with bfloat16(kind, autocast):
            x_hat = self.g_s(f_hat, quality).float()
        return Output(x_hat, f_hat, y_bits, z_bits)


def to_activation(x: Tensor) -> Tensor:
    """Real values to integer activations in [-127, 127]."""
    return round_through(x / ACTIVATION_UNIT).clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


class Heads(nn.Module):
    """The last layers of a context network: mean and scale, each with a unit of its own."""

    def __init__(self, hidden: int, count: int) -> None:
        super().__init__()
        self.mean = ExactConv(
            hidden, count, unit=MEAN_UNIT, clip=(-MEAN_LIMIT, MEAN_LIMIT), gain=0.3
        )
        self.scale = ExactConv(
            hidden, count, unit=SCALE_UNIT, clip=(-SCALE_LIMIT, SCALE_LIMIT), gain=0.3
        )
        nn.init.constant_(self.scale.bias, 4.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the integer mean and scale."""
        mean: Tensor = self.mean(x)
        scale: Tensor = self.scale(x)
        return mean, scale
