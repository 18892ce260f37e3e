"""Initial weights of the transforms from principal components, as in a transform codec.

Randomly initialised auto-encoders spend most of a short run on learning to pass pixels through.
Here the linear path of g_a (stem, downsampling, output) starts as two stages of principal
components of photos, and the path of g_s as their transposes. All residual blocks start near zero.
So the first step already has the quality of a block transform, and latents are ordered by energy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.photo import Heads, PhotoModel
from trellic_training.models.transforms import DepthBlock

LATENT_SCALE = 4.0  # latents per unit of an orthonormal coefficient of pixels in [-1/2, 1/2]
RESIDUAL_SCALE = 0.1  # of the last layer of each residual branch
SCALE_SPREAD = 4.0  # scale indices in one real unit of the scale head


@torch.no_grad()
def start_from_components(model: PhotoModel, crops: Tensor) -> None:
    """Set the linear paths, and the scales that depend on them.

    Parameters
    ----------
    model : with random initial weights
    crops : (N, 3, H, W) in [-1/2, 1/2], a few hundred, sides multiples of the stride
    """
    config = model.config
    blocks = functional.pixel_unshuffle(crops, config.stem)
    if config.coupling:  # which have their fixed transform of a block
        first = _plain(model.g_a)[0].weight[:, :, 0, 0].T
    else:
        first = _components(blocks.permute(0, 2, 3, 1).flatten(0, 2), config.wide)
    used = first.shape[1]
    inner = torch.einsum("nchw,ck->nkhw", blocks, first)
    pairs = functional.pixel_unshuffle(inner, 2).permute(0, 2, 3, 1).flatten(0, 2)
    second = _components(pairs, min(config.deep, config.latents))
    rank = second.shape[1]

    stem, down, out = _plain(model.g_a)
    stem.weight[:used] = first.T[:, :, None, None]
    down.weight.zero_()
    down.weight[:rank, :used] = second.T.reshape(rank, used, 2, 2)
    _diagonal(out, LATENT_SCALE)

    inward, up, head = _plain(model.g_s)
    _diagonal(inward, 1 / LATENT_SCALE)
    up.weight.zero_()
    up.weight[: 4 * used, :rank] = second[:, :, None, None]
    head.weight[:, :used] = first[:, :, None, None]
    for conv in (stem, down, out, inward, up, head):
        nn.init.zeros_(_bias(conv))
    for block in model.modules():
        if isinstance(block, DepthBlock):
            for last in (block.spatial[-1], block.mix[-1]):
                _weight(last).mul_(RESIDUAL_SCALE)
        if isinstance(block, NeighbourAttention):
            block.project.weight.mul_(RESIDUAL_SCALE)
    _set_scales(model, LATENT_SCALE * (pairs @ second).std(0).clamp_min(1e-3))


def _components(samples: Tensor, count: int) -> Tensor:
    """Return the ``count`` strongest principal axes as columns: (features, count)."""
    moment = samples.T.double() @ samples.double() / len(samples)
    vectors: Tensor = torch.linalg.eigh(moment)[1]
    return vectors.flip(1)[:, :count].float()


def _plain(transform: nn.Sequential) -> list[nn.Conv2d]:
    """Return the convolutions outside the residual blocks, in order."""
    return [module for module in transform if isinstance(module, nn.Conv2d)]


def _weight(conv: nn.Module) -> Tensor:
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"{type(conv).__name__} where a convolution is expected")
    return conv.weight


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError("a convolution without bias")
    return conv.bias


def _diagonal(conv: nn.Conv2d, value: float) -> None:
    conv.weight.zero_()
    size = min(conv.weight.shape[:2])
    conv.weight[range(size), range(size), 0, 0] = value


def _set_scales(model: PhotoModel, deviation: Tensor) -> None:
    """Tell the hyper-prior and the contexts how large each latent is before its gain."""
    latents = model.config.latents
    full = functional.pad(deviation, (0, latents - len(deviation)), value=0.1)
    model.context_log_gain.copy_((2 / full).log())
    _weight(model.h_a[0]).div_(full[None, :, None, None])
    bias = scale_bias(full, model.config.scales)
    for spec, context in zip(model.steps, model.contexts, strict=True):
        heads = list(context.children())[-1]
        if isinstance(heads, Heads):
            heads.scale.bias.copy_(bias[spec.first : spec.last])


def scale_bias(deviation: Tensor, scales: int) -> Tensor:
    """Return the bias of a scale head that predicts these deviations, in scalar steps."""
    step = SCALE_SPREAD * math.log(scale_ratio(scales))
    return (deviation / SIGMA_MIN).log() / step
