"""Invertible analysis and synthesis: affine couplings that g_a runs forwards and g_s backwards.

::

    picture --unshuffle--> frequency split --> couplings --> rest of g_a
    picture <--shuffle---- its transpose <---- inverses <--- rest of g_s        the same weights

After Gao et al. 2025 (A-INN), in the line of RealNVP (Dinh et al. 2017). The couplings lose
nothing; what the codec loses, it loses in fewer channels and in rounding. `Denoising` takes the
noise of rounding out of the latents before g_s, a stage at a time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trellic_training.models.transforms import Chain, Modulation, SeesQuality

REACH = 2  # positions that one pair of couplings reaches
LIMIT = 1.0  # of a coupling's logarithmic scale, on both sides


class Coupling(nn.Module):
    """Pairs of affine couplings; each changes one half of the channels by what the other half is.

    The identity at first.

    Parameters
    ----------
    channels : even
    pairs : a pair changes the low half, then the high half
    hidden : channels within the networks that give scale and shift
    """

    def __init__(self, channels: int, pairs: int, hidden: int) -> None:
        super().__init__()
        self.part = channels // 2
        self.steps = nn.ModuleList(_network(self.part, hidden) for _ in range(2 * pairs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape, in float32."""
        changed, given = self._halves(x)
        for step in self.steps:
            log_scale, shift = affine(step(given))
            changed, given = given, changed * torch.exp(log_scale) + shift
        return torch.cat([changed, given], 1)

    def inverse(self, x: Tensor) -> Tensor:
        """Undo `forward`."""
        changed, given = self._halves(x)
        for step in reversed(self.steps):
            changed, given = given, changed
            log_scale, shift = affine(step(given))
            changed = (changed - shift) * torch.exp(-log_scale)
        return torch.cat([changed, given], 1)

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = torch.split(x.float(), self.part, 1)
        return low, high


def affine(x: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithmic scale, within `LIMIT`, and shift from what a coupling's network returns."""
    scale, shift = x.float().chunk(2, 1)
    return LIMIT * torch.tanh(scale), shift


def _network(half: int, hidden: int) -> nn.Sequential:
    last = nn.Conv2d(hidden, 2 * half, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        nn.Conv2d(half, hidden, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        last,
    )


class Inverse(nn.Module):
    """A coupling run backwards, with the very weights that the encoder has."""

    def __init__(self, coupling: Coupling) -> None:
        super().__init__()
        self.coupling = coupling

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape, in float32."""
        return self.coupling.inverse(x)


class Denoising(SeesQuality):
    """Subtracts an estimate of the noise of rounding from latents; the identity at first.

    The noise is as large as a step, which depends on the quality, so both the estimate and what it
    reads are scaled and shifted by it where the model's blocks are.
    """

    def __init__(self, latents: int, hidden: int, anchors: int = 0) -> None:
        super().__init__()
        self.reads = Modulation(latents, anchors) if anchors else None
        self.gives = Modulation(hidden, anchors) if anchors else None
        self.estimate = nn.Sequential(
            nn.Conv2d(latents, hidden, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
        )
        self.project = nn.Conv2d(hidden, latents, 1)
        self.pass_on()

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map (N, latents, h, w) to the same shape."""
        seen = x
        if self.reads is not None and self.gives is not None:
            if quality is None:
                raise ValueError("a modulated denoising without a quality")
            noise = self.gives(self.estimate(self.reads(seen, quality)), quality)
        else:
            noise = self.estimate(seen)
        clean: Tensor = x - self.project(noise)
        return clean

    @torch.no_grad()
    def pass_on(self) -> None:
        """Become the identity, until training changes that."""
        for value in self.project.parameters():
            value.zero_()


def couple(g_a: Chain, g_s: Chain, pairs: int, hidden: int, *, frequency: bool) -> None:
    """Put couplings behind g_a's stem and before g_s's last layer, which become fixed.

    Stem and last layer become an orthonormal transform of a block and its transpose: the identity,
    or with ``frequency`` a Haar transform with low frequencies in the first half of the channels.

    Parameters
    ----------
    g_a, g_s : whose stems keep all channels of a block of pixels
    """
    stem, head = g_a[1], g_s[-2]
    if not isinstance(stem, nn.Conv2d) or not isinstance(head, nn.Conv2d):
        raise TypeError("transforms without a stem")
    channels = stem.out_channels
    matrix = frequencies(math.isqrt(channels // 3)) if frequency else torch.eye(channels)
    for layer, weight in ((stem, matrix), (head, matrix.T)):
        with torch.no_grad():
            layer.weight.copy_(weight[:, :, None, None])
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        layer.requires_grad_(False)
    coupling = Coupling(channels, pairs, hidden)
    g_a.insert(2, coupling)
    g_s.insert(len(g_s) - 2, Inverse(coupling))


def frequencies(side: int) -> Tensor:
    """Haar transform of 3 x side x side blocks, lowest frequencies first: an orthonormal matrix.

    Rows are ordered by the larger of their two scales, all colours of a frequency together.
    """
    line = torch.ones(1, 1, dtype=torch.float64)
    level = torch.zeros(1)
    while len(line) < side:
        size = len(line)
        sums = torch.kron(line, torch.ones(1, 2, dtype=torch.float64))
        differences = torch.kron(torch.eye(size), torch.tensor([[1.0, -1.0]])).double()
        line = torch.cat([sums, differences])
        level = torch.cat([level, torch.full((size,), 1 + level.max().item())])
    line = line / line.norm(dim=1, keepdim=True)
    block = torch.kron(torch.eye(3, dtype=torch.float64), torch.kron(line, line))
    rank = torch.maximum(level[:, None], level[None, :]) + 0.01 * (level[:, None] + level)
    order = torch.argsort(rank.flatten().repeat(3), stable=True)
    return block[order].float()
