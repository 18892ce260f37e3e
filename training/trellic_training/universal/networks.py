"""The networks of the MNIST experiments, with the papers' layers and a common factor of widths."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

SIDE = 28  # of a digit in pixels
CLASSES = 10
ENCODER = (SIDE * SIDE, 512, 256, 128, 128)
START = (32, 4, 4)  # what the decoder's last full layer is reshaped to
SLOPE = 0.2


class Encoder(nn.Sequential):
    """f: digits (N, 1, 28, 28) in [0, 1] to latents (N, dimension) in [-1, 1].

    Full layers 784-512-256-128-128-d with batch norm and leaky ReLU, tanh at the end.
    """

    def __init__(self, dimension: int) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(ENCODER):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, nn.Linear(ENCODER[-1], dimension), nn.Tanh())


class Decoder(nn.Sequential):
    """g: what the receiver has, (N, dimension), to digits (N, 1, 28, 28) in [0, 1].

    Full layers 128-512, reshaped to 32x4x4, transposed convolutions 64-128-1 (times ``width``).
    """

    def __init__(self, dimension: int, width: float = 1.0) -> None:
        first, second = scaled(64, width), scaled(128, width)
        flat = START[0] * START[1] * START[2]
        super().__init__(
            *(nn.Linear(dimension, 128), nn.BatchNorm1d(128), nn.LeakyReLU(SLOPE)),
            *(nn.Linear(128, flat), nn.BatchNorm1d(flat), nn.LeakyReLU(SLOPE)),
            nn.Unflatten(1, START),
            *(nn.ConvTranspose2d(START[0], first, 3, 2, 1), nn.BatchNorm2d(first)),
            nn.LeakyReLU(SLOPE),
            *(nn.ConvTranspose2d(first, second, 4, 2, 1), nn.BatchNorm2d(second)),
            nn.LeakyReLU(SLOPE),
            *(nn.ConvTranspose2d(second, 1, 4, 2, 1), nn.Sigmoid()),
        )


class Critic(nn.Sequential):
    """h: digits (N, 1, 28, 28) to a score (N, 1); convolutions 64-128-256 (times ``width``).

    No batch norm: the gradient penalty is a matter of each picture alone (Gulrajani et al. 2017).
    """

    def __init__(self, width: float = 1.0) -> None:
        channels = (1, *(scaled(c, width) for c in (64, 128, 256)))
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, nn.Flatten(), nn.Linear(channels[-1] * 3 * 3, 1))


class Classifier(nn.Sequential):
    """C: digits (N, 1, 28, 28) to ten logits (N, 10); trained first, then frozen."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 5, 2, 2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
        )


def scaled(channels: int, width: float) -> int:
    """Channels times a width factor, at least 4."""
    return max(4, round(channels * width))


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared distance of the critic's gradient norm from 1, between real and made pictures.

    Both are (N, 1, 28, 28); Gulrajani et al. 2017, equation 3, without its factor of 10.
    """
    share = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
