"""Changes to the model or its loss that no recipe offers, tried beside it.

Each is a stage of its own that changes the model once the weights to start from are there, so all
variants start from the same principal components.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.models.transforms import DepthBlock
from trellic_training.pixels import PIXEL_RANGE, to_network
from trellic_training.stages.end_to_end import EndToEnd, sample_quality

COMPACTION = 0.05  # weight of the energy-compaction term, in bits per pixel


class Activation(EndToEnd):
    """Other activations in g_a, h_a and g_s; each subclass names its own."""

    make: Callable[[int], nn.Module]

    def started(self) -> None:
        """Replace each leaky ReLU in the model and in its average."""
        for model in (self.model, self.average):
            for block in model.modules():
                if isinstance(block, DepthBlock):
                    for part in (block.spatial, block.mix):
                        part[1] = type(self).make(part[0].out_channels)
        self.ema.requires_grad_(False)


class Gelu(Activation):
    """GELU (Hendrycks and Gimpel 2016)."""

    make = staticmethod(lambda channels: nn.GELU())


class Relu(Activation):
    """Plain ReLU."""

    make = staticmethod(lambda channels: nn.ReLU())


class HardShrinkage(Activation):
    """Zero within a threshold, the identity beyond (Kirmemis and Tekalp 2020); threshold 0.05."""

    make = staticmethod(lambda channels: nn.Hardshrink(0.05))


class SimplifiedGdn(nn.Module):
    """Division by a learned norm of channels (Ballé et al. 2016; L1 as Johnston et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(0.1 * torch.eye(channels))
        self.beta = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        norm = functional.conv2d(x.abs(), self.gamma.abs()[:, :, None, None], self.beta.abs())
        return x / norm


class Gdn(Activation):
    """Generalized divisive normalization."""

    make = SimplifiedGdn


class Kernel5(EndToEnd):
    """Depthwise kernels of 5x5 in g_a and g_s, the 3x3 ones in their middle to begin with."""

    def started(self) -> None:
        """Grow the kernels of the model and of its average."""
        for model in (self.model, self.average):
            for block in model.modules():
                if isinstance(block, DepthBlock):
                    block.spatial[2] = _grown(block.spatial[2])
        self.ema.requires_grad_(False)


def _grown(small: nn.Module) -> nn.Conv2d:
    if not isinstance(small, nn.Conv2d):
        raise TypeError("a block without a depthwise convolution")
    channels = small.out_channels
    large = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
    large.weight.data = functional.pad(small.weight.data, (1, 1, 1, 1))
    large.bias = small.bias
    return large


class Compaction(EndToEnd):
    """A term that draws the energy of latents into the first channels (after Cheng et al. 2019).

    The share of each channel in the energy, before the gain, times its place in [0, 1].
    """

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Rate, distortion and the term."""
        loss = super().training_step(batch, batch_index)
        x = to_network(batch)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.autocast):
            quality = sample_quality(len(x), x.device)
            energy = self.model.g_a(x, quality).float().square().mean((0, 2, 3))
        place = torch.linspace(0, 1, len(energy), device=energy.device)
        return loss + COMPACTION * (energy * place).sum() / energy.sum()


class EvenQualities(EndToEnd):
    """All qualities drawn alike, none preferred."""

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Weighted rate-distortion loss, as the recipe's."""
        x = to_network(batch)
        quality = 1 + 99 * torch.rand(len(x), device=x.device)
        output = self.model(x, quality, autocast=self.recipe.autocast)
        bpp = (output.y_bits + output.z_bits) / (x.shape[2] * x.shape[3])
        mse = (output.x_hat - x).square().mean((1, 2, 3))
        lmbda, weight = self.weights_of_quality(quality)
        loss: Tensor = (weight * (bpp + lmbda * PIXEL_RANGE**2 * mse)).mean()
        return loss
