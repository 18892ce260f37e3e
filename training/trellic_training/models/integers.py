"""The integers of a bundle, from a model's weights: networks and quality tables."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import nn

from trellic.constants import TRELLIS_STATES
from trellic.integer.networks import IntegerNetwork
from trellic.model.quality import GAIN_BITS, LevelTables
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models.exact import ExactConv, network_layers
from trellic_training.models.hyperprior import Split
from trellic_training.models.photo import PhotoModel

FIRST_LEVEL, LAST_LEVEL = -15, 116  # qualities 1 to 100, and what trellis offsets may add
WIDE_UNTIL = 75, 90  # qualities where widening begins to fade, and where it is gone


def integer_networks(model: PhotoModel) -> dict[str, IntegerNetwork]:
    """h_s and the context networks, if there are any, as integers."""
    modules = {f"context_{k}": context for k, context in enumerate(model.contexts)}
    networks = {k: _network(m) for k, m in modules.items() if not isinstance(m, Split)}
    return {"h_s": _network(model.h_s)} | networks


def _network(modules: nn.Module) -> IntegerNetwork:
    """Return a chain as integers; its last module is one more layer, or heads side by side."""
    *chain, last = modules.children()
    if isinstance(last, ExactConv | nn.PixelShuffle):
        return IntegerNetwork(network_layers(nn.Sequential(*chain, last)))
    heads = network_layers(nn.Sequential(*last.children()))
    return IntegerNetwork(network_layers(nn.Sequential(*chain)), heads)


@torch.no_grad()
def level_tables(model: PhotoModel) -> LevelTables:
    """Gains of latents and hyper-latents as integer tables over quality."""
    config = model.config
    quality = torch.arange(FIRST_LEVEL, LAST_LEVEL + 1, dtype=torch.float64)
    log_gain = model.gains.double().log(quality)[:, :, 0, 0].numpy()
    size = 100 / config.hyper_buckets
    middle = torch.arange(config.hyper_buckets, dtype=torch.float64) * size + 0.5 + size / 2
    hyper_log = model.hyper_gains.double().log(middle)[:, :, 0, 0].numpy()
    log_ratio = math.log(scale_ratio(config.scales))
    sigma = hyper_log + model.hyper_log_sigma.double().numpy()
    index = np.rint((sigma - math.log(SIGMA_MIN)) / log_ratio).clip(0, config.scales - 1)
    context = np.exp(model.context_log_gain.double().numpy())
    model.float()
    return LevelTables(
        first_level=FIRST_LEVEL,
        level_offset=np.zeros(len(TRELLIS_STATES), np.int16),
        gain=np.maximum(np.rint(np.exp(log_gain) * 2**GAIN_BITS), 1).astype(np.int32),
        scale_shift=np.rint(128 * log_gain / log_ratio).astype(np.int32),
        context_gain=np.maximum(np.rint(context * 2**GAIN_BITS), 1).astype(np.int32),
        hyper_mean=np.rint(model.hyper_mean.double().numpy() * np.exp(hyper_log)).astype(np.int32),
        hyper_index=index.astype(np.uint8),
        hyper_scale=np.maximum(np.rint(2**20 * np.exp(-hyper_log)), 1).astype(np.int32),
    )


def widened(levels: LevelTables, widening: int) -> LevelTables:
    """Take scales as larger than predicted, so that tables are wider than those fitted to them.

    The search then finds indices that cost less for the same error
    (docs/experiments/rate-allocation.md). From quality 75 on this fades, and at 90 it is gone.

    Parameters
    ----------
    widening : in 1/128 scale index
    """
    quality = levels.first_level + np.arange(len(levels.gain))
    share = np.clip((WIDE_UNTIL[1] - quality) / (WIDE_UNTIL[1] - WIDE_UNTIL[0]), 0, 1)
    shift = np.rint(widening * share).astype(np.int32)
    return dataclasses.replace(levels, scale_shift=levels.scale_shift + shift[:, None])
