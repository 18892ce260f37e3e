"""Weights for another scale of quality: each quality does what another one did before.

A model's quality stands for a ``lmbda``. If a recipe maps qualities in another way, every quality
would start at a rate that it was not trained for. So the tables over quality are read again at the
qualities that had the same ``lmbda`` before. Beyond the ends the last line continues.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trellic.model.quality import LEVEL_CENTRE
from trellic_training.models.exact import ACTIVATION_UNIT, ExactConv
from trellic_training.models.gains import QUALITY_MAX, QUALITY_MIN, Gains
from trellic_training.models.photo import PhotoModel
from trellic_training.models.transforms import Modulation

Float64 = npt.NDArray[np.float64]


@torch.no_grad()
def stretched(trained: PhotoModel, before: Callable[[Float64], Float64]) -> PhotoModel:
    """Return a model whose qualities do what others did in a trained one.

    The result is exact at the tables' qualities, and between them where the tables are straight.
    The hyper-synthesis takes the quality as one number, so its map becomes the nearest straight
    line.

    Parameters
    ----------
    trained : PhotoModel
        Left as it is.
    before : function of qualities in [1, 100]
        Returns the qualities of before, which may lie outside.
    """
    model = copy.deepcopy(trained)
    stretch_tables(model, before)
    qualities = np.arange(QUALITY_MIN, QUALITY_MAX + 1)
    ratio, offset = np.polyfit(qualities - LEVEL_CENTRE, before(qualities) - LEVEL_CENTRE, 1)
    _map_input(cast(ExactConv, model.h_s[0]), float(ratio), float(offset))
    return model


@torch.no_grad()
def stretch_tables(network: nn.Module, before: Callable[[Float64], Float64]) -> None:
    """Read the gains and modulations of a network again, in place; see `stretched`."""
    for module in network.modules():
        if isinstance(module, Gains):
            _read_again(module.log_gain, before)
        elif isinstance(module, Modulation):
            _read_again(module.scale, before)
            _read_again(module.shift, before)


def _read_again(table: Tensor, before: Callable[[Float64], Float64]) -> None:
    """Set rows (anchors, channels) at evenly spaced qualities to the old table's values."""
    last = len(table) - 1
    was = before(np.linspace(QUALITY_MIN, QUALITY_MAX, last + 1))
    at = torch.from_numpy((was - QUALITY_MIN) * (last / (QUALITY_MAX - QUALITY_MIN)))
    low = at.floor().clamp(0, last - 1).long()
    part = (at - low)[:, None]
    old = table.double()
    table.copy_(old[low] * (1 - part) + old[low + 1] * part)


def _map_input(layer: ExactConv, ratio: float, offset: float) -> None:
    """Let a layer's last input, the level, be ``ratio`` times itself plus ``offset``."""
    level = layer.weight[:, -1, 0, 0]
    layer.bias.add_(level * (offset * ACTIVATION_UNIT))
    level.mul_(ratio)
