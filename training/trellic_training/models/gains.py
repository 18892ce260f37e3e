"""Per-channel gains that make one model serve all qualities (Cui et al. 2021, asymmetric gains)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

QUALITY_MIN, QUALITY_MAX = 1.0, 100.0


class Gains(nn.Module):
    """Logarithmic gains at evenly spaced qualities, interpolated linearly in between.

    Parameters
    ----------
    channels : int
    anchors : int
        Number of qualities with learned gains, from 1 to 100.
    first, last : float
        Initial gain at quality 1 and at quality 100.
    """

    def __init__(self, channels: int, anchors: int, first: float, last: float) -> None:
        super().__init__()
        line = torch.linspace(math.log(first), math.log(last), anchors)
        self.log_gain = nn.Parameter(line[:, None].repeat(1, channels))

    def log(self, quality: Tensor) -> Tensor:
        """Natural logarithm of the gains: quality (N,) in [1, 100] to (N, channels, 1, 1)."""
        last = self.log_gain.shape[0] - 1
        position = (quality - QUALITY_MIN) * (last / (QUALITY_MAX - QUALITY_MIN))
        low = position.floor().clamp(0, last - 1).long()
        part = (position - low)[:, None]
        value = self.log_gain[low] * (1 - part) + self.log_gain[low + 1] * part
        return value[:, :, None, None]

    def forward(self, quality: Tensor) -> Tensor:
        """Gains at each quality: (N,) to (N, channels, 1, 1)."""
        return torch.exp(self.log(quality))
