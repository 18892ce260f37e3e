"""The critic of a perceptual decoder: it tells photos from decoded pictures, patch by patch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """A network on overlapping patches of about 30 pixels, Lipschitz by spectral normalisation.

    With two ``pictures`` it sees the one to judge beside another decoder's picture of the same
    latents, so that it judges whether a texture fits its place and not only whether it looks real.
    Mentzer et al. 2020 condition on the latents themselves; this costs only three input channels.
    With one, it judges how the pictures are distributed. Normalisation: Miyato et al. 2018.
    """

    def __init__(self, hidden: int, pictures: int = 2) -> None:
        super().__init__()
        sizes = (3 * pictures, hidden, 2 * hidden, 2 * hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [_conv(before, after, 4, 2), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, _conv(sizes[-1], 1, 3, 1))

    def forward(self, *pictures: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) around 0 to verdicts (N, 1, H / 8, W / 8) on the first."""
        verdict: Tensor = self.layers(torch.cat(pictures, 1))
        return verdict


def _conv(before: int, after: int, size: int, stride: int) -> nn.Module:
    return spectral_norm(nn.Conv2d(before, after, size, stride, 1))
