"""The free transforms: analysis g_a, synthesis g_s and hyper-analysis h_a, in any precision.

Blocks work at 1/8 and 1/16 of the picture's resolution, a depthwise 3x3 and a few 1x1 each,
behind a pixel-unshuffle stem (in the line of EVC, Wang et al. 2023, and DCVC-RT, Jia et al. 2025).
"""

from __future__ import annotations

from torch import Tensor, nn

STRIDE = 16  # pixels per latent
HYPER_STRIDE = 64  # pixels per hyper-latent
STEM = 8  # pixel-unshuffle factor at the picture side


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


def analysis(wide: int, deep: int, latents: int, blocks: tuple[int, int]) -> nn.Sequential:
    """g_a: RGB in [-1/2, 1/2], (N, 3, H, W), to latents (N, latents, H/16, W/16).

    Parameters
    ----------
    wide, deep : int
        Channels at 1/8 and at 1/16 of the resolution.
    blocks : (int, int)
        Number of blocks at 1/8 and at 1/16.
    """
    return nn.Sequential(
        nn.PixelUnshuffle(STEM),
        nn.Conv2d(3 * STEM * STEM, wide, 1),
        *_blocks(wide, blocks[0]),
        nn.Conv2d(wide, deep, 2, stride=2),
        *_blocks(deep, blocks[1]),
        nn.Conv2d(deep, latents, 1),
    )


def synthesis(wide: int, deep: int, latents: int, blocks: tuple[int, int]) -> nn.Sequential:
    """g_s: latents (N, latents, h, w) to RGB around 0, (N, 3, 16 h, 16 w)."""
    return nn.Sequential(
        nn.Conv2d(latents, deep, 1),
        *_blocks(deep, blocks[1]),
        nn.Conv2d(deep, 4 * wide, 1),
        nn.PixelShuffle(2),
        *_blocks(wide, blocks[0]),
        nn.Conv2d(wide, 3 * STEM * STEM, 1),
        nn.PixelShuffle(STEM),
    )


def hyper_analysis(latents: int, hidden: int, hyper: int) -> nn.Sequential:
    """h_a: latents (N, latents, h, w) to hyper-latents (N, hyper, h/4, w/4)."""
    return nn.Sequential(
        nn.Conv2d(latents, hidden, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hidden, 2, stride=2),
        DepthBlock(hidden),
        nn.Conv2d(hidden, hidden, 2, stride=2),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hyper, 1),
    )
