"""Pixels of files and pixels of networks."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_RANGE = 255.0


def to_network(batch: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1/2, 1/2], channels last in memory."""
    x = batch.permute(0, 3, 1, 2).float() / PIXEL_RANGE - 0.5
    return x.contiguous(memory_format=torch.channels_last)
