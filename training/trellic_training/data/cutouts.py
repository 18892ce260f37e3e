"""Crops that become an object on pure white or black, as product photos have it.

A model that never sees such pictures does not learn to give flat white back as 255.
"""

from __future__ import annotations

import torch
from torch import Tensor

WHITE = 0.8  # share of white among the backgrounds
LEAST, MOST = 0.15, 0.65  # half axes of the object, as shares of the crop's side
ROUND, SQUARE = 2.0, 6.0  # exponents: an ellipse, nearly a rectangle


def cut_out(crops: Tensor, share: float) -> Tensor:
    """Replace what lies around an object by white or black, in some crops.

    Objects are superellipses at random places. Their edge is blended over one pixel.

    Parameters
    ----------
    crops : uint8 (N, H, W, 3); not changed
    share : probability of each crop; with 0 no random number is drawn

    Returns
    -------
    uint8 (N, H, W, 3), on the same device
    """
    if not share:
        return crops
    count, height, width = crops.shape[:3]
    chosen, centre_y, centre_x, half_y, half_x, power, colour = torch.rand(
        7, count, 1, 1, device=crops.device
    )
    half_y, half_x = (LEAST + (MOST - LEAST) * half for half in (half_y, half_x))
    power = ROUND + (SQUARE - ROUND) * power
    y = torch.arange(height, device=crops.device)[:, None] / height
    x = torch.arange(width, device=crops.device) / width
    reach = ((y - centre_y).abs() / half_y) ** power + ((x - centre_x).abs() / half_x) ** power
    inside = 1 - reach ** (1 / power)  # of the way from the edge to the centre
    pixels = inside * torch.minimum(half_y * height, half_x * width)
    cover = (pixels + 0.5).clamp(0, 1)[..., None]
    background = 255.0 * (colour < WHITE)[..., None]
    cut = (background + cover * (crops - background)).round().to(torch.uint8)
    return torch.where(chosen[..., None] < share, cut, crops)
