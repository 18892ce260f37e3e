"""The free transforms: analysis g_a, synthesis g_s and hyper-analysis h_a, in any precision.

Blocks work at the latents' resolution and at twice that (1/16 and 1/8 of a photo's), a depthwise
3x3 and a few 1x1 each, behind a pixel-unshuffle stem (in the line of EVC, Wang et al. 2023, and
DCVC-RT, Jia et al. 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEM = 8  # pixel-unshuffle factor at the picture side: half the stride


class DepthBlock(nn.Module):
    """Spatial mixing (1x1, depthwise 3x3, 1x1), then channel mixing (1x1, 1x1); both residual."""

    def __init__(self, channels: int, expand: int = 2) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, channels, 1),
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels, expand * channels, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(expand * channels, channels, 1),
        )
        for last in (self.spatial[-1], self.mix[-1]):
            nn.init.normal_(last.weight, std=0.2 * channels**-0.5)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        x = x + self.spatial(x)
        mixed: Tensor = x + self.mix(x)
        return mixed


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [DepthBlock(channels) for _ in range(count)]


class DetailAnalysis(nn.Module):
    """From the stem to latents: the trunk of blocks, and details that pass it by.

    The trunk is narrower than a block of pixels, so it alone caps the quality that any bit rate can
    reach. Details are a linear transform of the stem; where rates are high little more is to be
    gained, and one matrix costs next to nothing.
    """

    def __init__(self, wide: int, trunk: nn.Sequential, details: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.detail = nn.Conv2d(wide, details, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, wide, h, w) to (N, trunk's channels + details, h/2, w/2)."""
        return torch.cat([self.trunk(x), self.detail(x)], 1)


class DetailSynthesis(nn.Module):
    """The way back: the trunk's latents through the trunk, the details added to what it gives."""

    def __init__(self, wide: int, trunk: nn.Sequential, details: int, latents: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.detail = nn.Conv2d(details, 4 * wide, 1)
        self.split = [latents - details, details]

    def forward(self, y_hat: Tensor) -> Tensor:
        """Map (N, latents, h, w) to (N, 4 wide, h, w)."""
        main, detail = torch.split(y_hat, self.split, 1)
        out: Tensor = self.trunk(main) + self.detail(detail)
        return out


def analysis(
    wide: int,
    deep: int,
    latents: int,
    blocks: tuple[int, int],
    details: int = 0,
    stem: int = STEM,
) -> nn.Sequential:
    """g_a: RGB in [-1/2, 1/2], (N, 3, H, W), to latents (N, latents, H/stride, W/stride).

    Parameters
    ----------
    wide, deep : int
        Channels at twice the latents' resolution and at theirs.
    blocks : (int, int)
        Number of blocks at twice the latents' resolution and at theirs.
    details : int
        How many of the latents, the last ones, pass the blocks by.
    stem : int
        Half the stride.
    """
    trunk: list[nn.Module] = [
        *_blocks(wide, blocks[0]),
        nn.Conv2d(wide, deep, 2, stride=2),
        *_blocks(deep, blocks[1]),
        nn.Conv2d(deep, latents - details, 1),
    ]
    if details:
        trunk = [DetailAnalysis(wide, nn.Sequential(*trunk), details)]
    return nn.Sequential(nn.PixelUnshuffle(stem), nn.Conv2d(3 * stem * stem, wide, 1), *trunk)


def synthesis(
    wide: int,
    deep: int,
    latents: int,
    blocks: tuple[int, int],
    details: int = 0,
    stem: int = STEM,
) -> nn.Sequential:
    """g_s: latents (N, latents, h, w) to RGB around 0, (N, 3, stride h, stride w)."""
    trunk: list[nn.Module] = [
        nn.Conv2d(latents - details, deep, 1),
        *_blocks(deep, blocks[1]),
        nn.Conv2d(deep, 4 * wide, 1),
    ]
    if details:
        trunk = [DetailSynthesis(wide, nn.Sequential(*trunk), details, latents)]
    return nn.Sequential(
        *trunk,
        nn.PixelShuffle(2),
        *_blocks(wide, blocks[0]),
        nn.Conv2d(wide, 3 * stem * stem, 1),
        nn.PixelShuffle(stem),
    )


def hyper_analysis(latents: int, hidden: int, hyper: int, cell: int = 4) -> nn.Sequential:
    """h_a: latents (N, latents, h, w) to hyper-latents (N, hyper, h/cell, w/cell)."""
    again: list[nn.Module] = [nn.Conv2d(hidden, hidden, 2, stride=2)] if cell == 4 else []
    return nn.Sequential(
        nn.Conv2d(latents, hidden, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hidden, 2, stride=2),
        DepthBlock(hidden),
        *again,
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hyper, 1),
    )
