"""Universal quantization: a dither that sender and receiver share makes the error independent.

With step s = 2 / (levels - 1) and dither u uniform in [-s/2, s/2), the sender transmits the index
of ``q = Q(y + u)`` and the receiver uses ``q - u``. Because y is in [-1, 1], ``y + u`` never leaves
the cells of the outermost centres, so ``q - u - y`` is uniform in [-s/2, s/2] whatever y is (Ziv
1985; Zamir and Feder 1992): the quantizer *is* a channel that adds independent uniform noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DitheredQuantizer:
    """``levels`` uniform centres in [-1, 1] for each of ``dimension`` latents.

    The rate is fixed: every index is written with log2(levels) bits, no entropy coder.
    """

    dimension: int
    levels: int

    @property
    def step(self) -> float:
        """Distance of two centres."""
        return 2 / (self.levels - 1)

    @property
    def bits(self) -> float:
        """Bits a picture: ``dimension * log2(levels)``."""
        return self.dimension * math.log2(self.levels)

    def dither(self, count: int, generator: torch.Generator) -> Tensor:
        """Return shared randomness u, float32 (count, dimension) in [-step/2, step/2)."""
        uniform = torch.rand(count, self.dimension, generator=generator, device=generator.device)
        return (uniform - 0.5) * self.step

    def indices(self, y: Tensor, u: Tensor) -> Tensor:
        """Return what is transmitted: int64 in [0, levels), the centre nearest to ``y + u``."""
        nearest = torch.round((y + u + 1) / self.step)
        return nearest.clamp(0, self.levels - 1).long()

    def received(self, indices: Tensor, u: Tensor) -> Tensor:
        """Return what a decoder sees: the centre less the dither, ``y`` plus uniform noise."""
        return indices * self.step - 1 - u

    def __call__(self, y: Tensor, u: Tensor) -> Tensor:
        """Quantize and undo the dither; the gradient is that of the identity.

        That gradient is exact, not a surrogate: over the dither the output is distributed as y plus
        noise that does not depend on y, so the derivative of any expected loss passes unchanged.
        (The papers use a soft assignment to the centres instead.)
        """
        hard = self.received(self.indices(y.detach(), u), u)
        return y + (hard - y).detach()
