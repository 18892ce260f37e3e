"""The free transforms: analysis g_a, synthesis g_s and hyper-analysis h_a, in any precision.

Blocks work at the latents' resolution and at twice that (1/16 and 1/8 of a photo's), a depthwise
3x3 and a few 1x1 each, behind a pixel-unshuffle stem (in the line of EVC, Wang et al. 2023, and
DCVC-RT, Jia et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellic.constants import COLOURS
from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.everywhere import GlobalAttention
from trellic_training.models.gains import QUALITY_MAX, QUALITY_MIN

ANCHORS = 9  # qualities at which modulated blocks have scales and shifts
STEM = 8  # pixel-unshuffle factor at the picture side: half the stride


class Modulation(nn.Module):
    """A scale and a shift of each channel that depend on the quality; the identity at first.

    Both are learned at evenly spaced qualities, and interpolated linearly between them
    (feature-wise linear modulation, Perez et al. 2018). Latents are coarse at low qualities, so the
    transforms have another task there than at high ones. Computed in float32 always: bfloat16 would
    lose a small shift of a large value, and learn a larger one.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(anchors, channels))
        self.shift = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, x: Tensor, quality: Tensor) -> Tensor:
        """Map (N, channels, h, w) at qualities (N,), clipped to [1, 100], to the same shape."""
        at = torch.arange(len(self.scale), device=x.device)
        quality = quality.clamp(QUALITY_MIN, QUALITY_MAX)
        place = (quality - QUALITY_MIN) * ((len(at) - 1) / (QUALITY_MAX - QUALITY_MIN))
        near = (1 - (place[:, None] - at).abs()).clamp_min(0)
        tables = ((near[:, :, None] * table).sum(1) for table in (self.scale, self.shift))
        scale, shift = (table[:, :, None, None] for table in tables)
        x = x.float()
        return torch.addcmul(x + shift, x, scale)


class SeesQuality(nn.Module):
    """What is called with the quality too."""


class Chain(nn.Sequential, SeesQuality):
    """Layers one after the other, some of which see the quality too."""

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Run all layers; ``quality`` (N,) may be missing where no block is modulated."""
        for part in self:
            x = part(x, quality) if isinstance(part, SeesQuality) else part(x)
        return x


class DepthBlock(SeesQuality):
    """Spatial mixing (1x1, depthwise 3x3, 1x1), then channel mixing (1x1, 1x1); both residual.

    With ``anchors``, the quality modulates the input first.
    """

    def __init__(self, channels: int, expand: int = 2, anchors: int = 0) -> None:
        super().__init__()
        self.modulation = Modulation(channels, anchors) if anchors else None
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

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        if self.modulation is not None:
            if quality is None:
                raise ValueError("a modulated block without a quality")
            x = self.modulation(x, quality)
        x = x + self.spatial(x)
        mixed: Tensor = x + self.mix(x)
        return mixed

    @torch.no_grad()
    def pass_on(self) -> None:
        """Become the identity: the block adds nothing to its input until training changes that."""
        for part in (self.spatial, self.mix):
            for value in part[-1].parameters():
                value.zero_()


def _blocks(channels: int, count: int, anchors: int) -> list[nn.Module]:
    return [DepthBlock(channels, anchors=anchors) for _ in range(count)]


class DetailAnalysis(SeesQuality):
    """From the stem to latents: the trunk of blocks, and details that bypass it.

    The trunk is narrower than a block of pixels, so with the trunk alone the quality has a limit at
    any bit rate. Details are a linear transform of the stem. At high rates, more than a linear
    transform would gain little, and one matrix costs almost nothing.
    """

    def __init__(self, wide: int, trunk: Chain, details: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.detail = nn.Conv2d(wide, details, 2, stride=2)

    def forward(self, x: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map (N, wide, h, w) to (N, trunk's channels + details, h/2, w/2)."""
        return torch.cat([self.trunk(x, quality), self.detail(x)], 1)


class DetailSynthesis(SeesQuality):
    """The inverse of `DetailAnalysis`: the trunk decodes its latents, and details are added."""

    def __init__(self, wide: int, trunk: Chain, details: int, latents: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.detail = nn.Conv2d(details, 4 * wide, 1)
        self.split = [latents - details, details]

    def forward(self, y_hat: Tensor, quality: Tensor | None = None) -> Tensor:
        """Map (N, latents, h, w) to (N, 4 wide, h, w)."""
        main, detail = torch.split(y_hat, self.split, 1)
        out: Tensor = self.trunk(main, quality) + self.detail(detail)
        return out


def analysis(
    wide: int,
    deep: int,
    latents: int,
    blocks: tuple[int, int],
    details: int = 0,
    block: tuple[int, int] = (STEM, COLOURS),
    anchors: int = 0,
    attention: Sequence[int] = (),
) -> Chain:
    """g_a: pixels in [-1/2, 1/2], (N, bands, H, W), to latents (N, latents, H/stride, W/stride).

    Parameters
    ----------
    wide, deep : int
        Channels at twice the latents' resolution and at theirs.
    blocks : (int, int)
        Number of blocks at twice the latents' resolution and at theirs.
    details : int
        How many of the last latents bypass the blocks.
    block : (int, int)
        Side of a block of pixels, which is half the stride, and samples of a pixel.
    anchors : int
        Number of qualities at which blocks have scales and shifts of their own; 0: they see none.
    attention : sequence of int
        Dilation of each layer of attention behind the blocks at the latents' resolution.
    """
    trunk: list[nn.Module] = [
        *_blocks(wide, blocks[0], anchors),
        nn.Conv2d(wide, deep, 2, stride=2),
        *_blocks(deep, blocks[1], anchors),
        *(NeighbourAttention(deep, dilation) for dilation in attention),
        nn.Conv2d(deep, latents - details, 1),
    ]
    if details:
        trunk = [DetailAnalysis(wide, Chain(*trunk), details)]
    stem, bands = block
    return Chain(nn.PixelUnshuffle(stem), nn.Conv2d(bands * stem * stem, wide, 1), *trunk)


def synthesis(
    wide: int,
    deep: int,
    latents: int,
    blocks: tuple[int, int],
    details: int = 0,
    block: tuple[int, int] = (STEM, COLOURS),
    anchors: int = 0,
    attention: Sequence[int] = (),
) -> Chain:
    """g_s: latents (N, latents, h, w) to pixels around 0, (N, bands, stride h, stride w)."""
    trunk: list[nn.Module] = [
        nn.Conv2d(latents - details, deep, 1),
        *_blocks(deep, blocks[1], anchors),
        *(NeighbourAttention(deep, dilation) for dilation in attention),
        nn.Conv2d(deep, 4 * wide, 1),
    ]
    if details:
        trunk = [DetailSynthesis(wide, Chain(*trunk), details, latents)]
    stem, bands = block
    return Chain(
        *trunk,
        nn.PixelShuffle(2),
        *_blocks(wide, blocks[0], anchors),
        nn.Conv2d(wide, bands * stem * stem, 1),
        nn.PixelShuffle(stem),
    )


def hyper_analysis(
    latents: int, hidden: int, hyper: int, cell: int = 4, *, everywhere: bool = False
) -> nn.Sequential:
    """h_a: latents (N, latents, h, w) to hyper-latents (N, hyper, h/cell, w/cell).

    With ``everywhere`` it has attention to all positions beside the convolutions (the local and the
    non-local branch of Fu and Du 2023), at the resolution of hyper-latents.
    """
    again: list[nn.Module] = [nn.Conv2d(hidden, hidden, 2, stride=2)] if cell == 4 else []
    return nn.Sequential(
        nn.Conv2d(latents, hidden, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hidden, 2, stride=2),
        DepthBlock(hidden),
        *again,
        *([GlobalAttention(hidden)] if everywhere else []),
        nn.LeakyReLU(0.1),
        nn.Conv2d(hidden, hyper, 1),
    )
