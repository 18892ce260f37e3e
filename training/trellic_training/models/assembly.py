"""The networks of a `PhotoModel`, put together as its configuration says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from trellic_training.models.coupling import Denoising, couple
from trellic_training.models.exact import depthwise, dilated, pointwise
from trellic_training.models.transforms import ANCHORS, Chain, analysis, synthesis

if TYPE_CHECKING:
    from trellic_training.models.photo import ModelConfig


def transforms_of(c: ModelConfig) -> tuple[Chain, Chain]:
    """Return g_a and g_s."""
    anchors = ANCHORS if c.modulated else 0
    beside = c.details, (c.stem, c.bands), anchors, c.attention
    g_a = analysis(c.wide, c.deep, c.latents, c.encoder_blocks, *beside)
    g_s = synthesis(c.wide, c.deep, c.latents, c.decoder_blocks, *beside)
    if c.coupling:
        couple(g_a, g_s, c.coupling, c.wide * 2 // 3, frequency=c.frequency_split)
    clean = (Denoising(c.latents, c.deep // 2, anchors) for _ in range(c.denoising))
    return g_a, Chain(*clean, *g_s)


def hyper_synthesis(c: ModelConfig) -> nn.Sequential:
    """Return h_s, an integer network."""
    spread = dilated if c.guidance else partial(depthwise, kernel=3)
    wider: list[nn.Module] = [
        pointwise(c.features, 2 * c.features),
        nn.PixelShuffle(2),
        pointwise(c.features // 2, c.features),
        spread(c.features),
    ]
    return nn.Sequential(
        pointwise(c.hyper + 1, c.features),
        spread(c.features),
        *(wider if c.cell == 4 else []),
        pointwise(c.features, 4 * c.features),
        nn.PixelShuffle(2),
        spread(c.features),
        pointwise(c.features, c.features),
    )
