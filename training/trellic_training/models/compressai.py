"""Checkpoints of CompressAI's hyper-prior models, made into `HyperpriorModel` without CompressAI.

The float transforms are copied unchanged. h_s is quantized after training, and is not trained again
(after He et al. 2022, "Post-Training Quantization for Cross-Platform Learned Image Compression").
Each hidden channel is scaled so that its range on a few photos fills eight bits, and each filter so
that its weights fill eight bits. The factorized prior of z is replaced, channel by channel, by the
nearest of the bundle's scale tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic.errors import BadParameter
from trellic.limits import ACTIVATION_LIMIT
from trellic.model.channels import Group
from trellic_training.data.files import load, reading
from trellic_training.losses.rates import SIGMA_MIN, bits, scale_ratio
from trellic_training.models.exact import ACTIVATION_UNIT, ExactConv
from trellic_training.models.hyperprior import (
    LATENT_UNIT,
    SLOPE,
    Architecture,
    HyperHeads,
    HyperpriorConfig,
    HyperpriorModel,
)

State = Mapping[str, Tensor]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
HYPER_REACH = 127  # of a hyper-latent from its median, where priors are fitted
QUIET = 1e-3  # least range of a channel, as a share of the largest in its layer
FINEST = 4.0  # integers per step of z at most; more would coarsen the weights
SUPPORT = ACTIVATION_LIMIT * ACTIVATION_UNIT  # of a hidden activation, in real units


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint of CompressAI, of its training script or of its zoo.

    Raises
    ------
    BadParameter
        When the file holds no weights.
    """
    with reading(path, "is not a CompressAI checkpoint"):
        content = load(path)
    for key in ("state_dict", "network"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise BadParameter(f"{path} is not a CompressAI checkpoint", expected="a state dict")
    tensors = {_name(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if "g_a.0.weight" not in tensors:
        raise BadParameter(
            f"{path} has no weights 'g_a.0.weight'", expected=f"one of {', '.join(ARCHITECTURES)}"
        )
    return tensors


def _name(key: str) -> str:
    """Return a name as CompressAI 1.2.8 spells it; older versions had others for the prior."""
    key = key.removeprefix("module.")
    prior = re.fullmatch(r"entropy_bottleneck\._(matri|bias|factor)\w*?\.?(\d)", key)
    plural = {"matri": "matrices", "bias": "biases", "factor": "factors"}
    return f"entropy_bottleneck.{plural[prior[1]]}.{prior[2]}" if prior else key


@torch.no_grad()
def from_compressai(
    architecture: Architecture, state: State, pictures: Sequence[Tensor]
) -> HyperpriorModel:
    """Make a model from CompressAI's weights.

    Parameters
    ----------
    architecture : which of its models this is
    state : its state dict, as `read_state` returns it
    pictures : (1, 3, H, W) in [-1/2, 1/2], sides multiples of 64; h_s is quantized for them

    Returns
    -------
    HyperpriorModel, in evaluation mode, without gradients

    Raises
    ------
    BadParameter
        When the weights are of another architecture.
    """
    n, m = len(state["g_a.0.weight"]), len(state.get("g_a.6.weight", ()))
    config = HyperpriorConfig(
        architecture=architecture, hyper=n, groups=(Group(channels=max(m, 1), steps=(0, 0)),)
    )
    model = HyperpriorModel(config)
    _load_free(model, state)
    h_s = float_h_s(config, state)
    fraction = _set_prior(model, state)
    last = _conv(model.h_a[-1])
    last[1].sub_(fraction)
    for parameter in last:
        parameter.mul_(ACTIVATION_UNIT)
    for parameter in _conv(model.g_a[-1]):
        parameter.div_(LATENT_UNIT)
    _conv(model.g_s[0])[0].mul_(LATENT_UNIT)
    first = next(layer for layer in model.h_a if isinstance(layer, nn.Conv2d))
    first.weight.mul_(LATENT_UNIT)
    seen = [torch.round(model.h_a(model.g_a(x)) / ACTIVATION_UNIT) for x in pictures]
    _quantize_h_s(model, h_s, seen, fraction)
    return model.eval().requires_grad_(requires_grad=False)


def _load_free(model: HyperpriorModel, state: State) -> None:
    moved = {"g_a": 1, "g_s": 0, "h_a": 0 if model.config.has_mean else 1}
    for part, by in moved.items():
        own = {
            _shifted(key.removeprefix(f"{part}."), by): value
            for key, value in state.items()
            if key.startswith(f"{part}.") and "_reparam." not in key
        }
        _load(getattr(model, part), own, part, model.config.architecture)


def _shifted(key: str, by: int) -> str:
    number, _, rest = key.partition(".")
    return f"{int(number) + by}.{rest}"


def _load(module: nn.Module, state: State, part: str, architecture: str) -> None:
    try:
        module.load_state_dict(dict(state))
    except (RuntimeError, ValueError) as error:
        what = " ".join(str(error).split())[:160]
        raise BadParameter(
            f"{part} of the checkpoint is not that of {architecture} ({what})",
            remedy=f"name its architecture, one of {', '.join(ARCHITECTURES)}",
        ) from error


# ---- h_s ----


def float_h_s(config: HyperpriorConfig, state: State) -> nn.Sequential:
    """h_s as CompressAI has it: from z to standard deviations, after means if it has them.

    Raises
    ------
    BadParameter
        When the weights are of another architecture.
    """
    first, second = config.widths
    act = nn.LeakyReLU(SLOPE) if config.has_mean else nn.ReLU()
    h_s = nn.Sequential(
        nn.ConvTranspose2d(config.hyper, first, 5, stride=2, padding=2, output_padding=1),
        act,
        nn.ConvTranspose2d(first, second, 5, stride=2, padding=2, output_padding=1),
        act,
        nn.Conv2d(second, config.latents * (1 + config.has_mean), 3, padding=1),
        *([] if config.has_mean else [act]),
    )
    own = {k.removeprefix("h_s."): v for k, v in state.items() if k.startswith("h_s.")}
    _load(h_s, own, "h_s", config.architecture)
    return h_s.requires_grad_(requires_grad=False)


def _quantize_h_s(
    model: HyperpriorModel, h_s: nn.Sequential, seen: Sequence[Tensor], fraction: Tensor
) -> None:
    """Give the integer h_s the weights of the float one, scaled to fill its activations."""
    offset = fraction[None, :, None, None]
    hidden = [_ranges(h_s[:stop], [z + offset for z in seen]) for stop in (2, 4)]
    scales = [SUPPORT / reach for reach in hidden]
    convs = [_as_conv(h_s[0]), _as_conv(h_s[2]), _conv(h_s[4])]
    fine, rest = _set_input(model.h_s[0], torch.stack([_reach(z) for z in seen]).amax(0), fraction)
    weight, bias = convs[0]
    bias = bias + (weight.sum((2, 3)) * rest).sum(1)  # exact but at the border
    weight = weight / (ACTIVATION_UNIT * fine[None, :, None, None])
    weight = functional.pad(weight, (0, 0, 0, 0, 0, 1))  # the quality has no effect
    _set(model.h_s[1], weight, bias, scales[0].repeat_interleave(4))
    weight, bias = convs[1]
    weight = weight / scales[0][None, :, None, None]
    _set(model.h_s[3], weight, bias, scales[1].repeat_interleave(4))
    weight, bias = convs[2]
    weight = weight / scales[1][None, :, None, None]
    heads = model.h_s[5]
    assert isinstance(heads, HyperHeads)  # noqa: S101
    latents = model.config.latents
    one = torch.full((latents,), 1 / LATENT_UNIT)
    _set(heads.scale, weight[:latents], bias[:latents], one)
    if model.config.has_mean:
        _set(heads.mean, weight[latents:], bias[latents:], one)


def _set_input(layer: nn.Module, reach: Tensor, fraction: Tensor) -> tuple[Tensor, Tensor]:
    """Add the medians' fractions to z before anything is padded with zeros.

    Returns
    -------
    fine : integers per step of z: 1, 2 or 4, as its range allows
    rest : what is still missing then, in steps of z
    """
    fine = torch.exp2(torch.floor(torch.log2(ACTIVATION_LIMIT / (reach + 1)))).clamp(1, FINEST)
    added = torch.round(fraction * fine) / fine
    one = torch.ones(1)
    weight = torch.diag(torch.cat([fine, one]))[:, :, None, None]
    bias = torch.cat([fine * added * ACTIVATION_UNIT, 0 * one])
    _set(layer, weight, bias, torch.ones(len(bias)))
    return fine, fraction - added


def _reach(x: Tensor) -> Tensor:
    return x.abs().amax((0, 2, 3))


def _ranges(layers: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Largest magnitude of each channel on the calibration pictures."""
    reach = torch.stack([_reach(layers(x)) for x in inputs]).amax(0)
    return torch.maximum(reach, QUIET * reach.max()).clamp_min(1e-9)


def _set(layer: nn.Module, weight: Tensor, bias: Tensor, scale: Tensor) -> None:
    assert isinstance(layer, ExactConv)  # noqa: S101
    layer.weight.copy_(weight * scale[:, None, None, None])
    layer.bias.copy_(bias * scale)


def _as_conv(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Return a transposed 5x5 convolution of stride 2 as a 3x3 one before a pixel shuffle.

    Output ``2 m + p`` sums ``input[m + d] * kernel[p - 2 d + 2]`` over ``d`` in -1, 0, 1.
    """
    kernel, bias = _conv(layer)  # (in, out, 5, 5)
    weight = torch.zeros(kernel.shape[1], 2, 2, kernel.shape[0], 3, 3)
    taps = [(p, d, p - 2 * d + 2) for p in (0, 1) for d in (-1, 0, 1) if p - 2 * d + 2 < 5]
    for py, dy, ky in taps:
        for px, dx, kx in taps:
            weight[:, py, px, :, dy + 1, dx + 1] = kernel[:, :, ky, kx].T
    return weight.flatten(0, 2), bias.repeat_interleave(4)


def _conv(layer: nn.Module) -> tuple[Tensor, Tensor]:
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer.bias is None:
        raise TypeError(f"{type(layer).__name__} where a convolution with bias is expected")
    return layer.weight, layer.bias


# ---- the prior of z ----


def _set_prior(model: HyperpriorModel, state: State) -> Tensor:
    """Choose mean and table of each hyper-latent channel; returns the fraction of its median."""
    try:
        median = state["entropy_bottleneck.quantiles"][:, 0, 1]
        pmf = factorized_pmf(state, median)
    except (KeyError, IndexError, RuntimeError) as error:
        raise BadParameter(
            f"the checkpoint has no usable entropy_bottleneck ({error!r})",
            remedy="export a checkpoint of CompressAI 1.1 or newer, before or after update()",
        ) from error
    whole = median.round()
    scales = model.config.scales
    ladder = SIGMA_MIN * scale_ratio(scales) ** torch.arange(scales, dtype=torch.float64)
    k = torch.arange(-HYPER_REACH, HYPER_REACH + 1, dtype=torch.float64)
    cost = bits(k[None, :].expand(scales, -1), ladder[:, None].expand(-1, len(k)))
    best = ladder[(pmf @ cost.T).argmin(1)]
    model.hyper_mean.copy_(whole * ACTIVATION_UNIT)
    model.hyper_log_sigma.copy_(best.log() + math.log(ACTIVATION_UNIT))
    return median - whole


def factorized_pmf(state: State, median: Tensor) -> Tensor:
    """Distribution of a hyper-latent's distance from its median: float64 (channels, 255).

    The cumulative is the small monotone network of Ballé et al. 2018, appendix 6.1.
    """
    k = torch.arange(-HYPER_REACH, HYPER_REACH + 2, dtype=torch.float64) - 0.5
    value = (median.double()[:, None] + k)[:, None, :]
    for i in range(5):
        matrix, bias = (
            state[f"entropy_bottleneck.{part}.{i}"].double() for part in ("matrices", "biases")
        )
        value = functional.softplus(matrix) @ value + bias
        if i < 4:
            factor = state[f"entropy_bottleneck.factors.{i}"].double()
            value = value + torch.tanh(factor) * torch.tanh(value)
    pmf = torch.sigmoid(value[:, 0]).diff(dim=1)
    return pmf / pmf.sum(1, keepdim=True)
