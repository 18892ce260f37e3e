"""Decoders beside the first one: their sizes, and how they start.

All read the latents as a decoder of the runtime gets them, with gains divided out. They are chains
of the blocks of `transforms`, which the exporter knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from trellic.model.channels import Layout
from trellic.model.decoders import Scale
from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.coupling import Denoising, Inverse
from trellic_training.models.transforms import (
    ANCHORS,
    Chain,
    DepthBlock,
    DetailSynthesis,
    synthesis,
)

Blocks = Annotated[int, Field(ge=0, le=64)]
Width = Annotated[int, Field(ge=1, le=4096)]


class _Sizes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def known(self, layout: Layout) -> npt.NDArray[np.bool_]:
        """Which latents are decoded for it, by parity (y + x) & 1: (channels, 2)."""
        steps: int | None = getattr(self, "steps", None)
        channels: int | None = getattr(self, "channels", None)
        known: npt.NDArray[np.bool_] = layout.step_of[:channels] < (steps or len(layout.steps))
        return known


class SynthesisSizes(_Sizes):
    """Sizes of a g_s for the whole picture; see `transforms.synthesis`."""

    kind: Literal["synthesis"] = "synthesis"
    wide: Width
    deep: Width
    blocks: tuple[Blocks, Blocks]
    details: int = Field(default=0, ge=0)
    modulated: bool = Field(default=False, description="its blocks see the quality")

    @property
    def channels(self) -> int | None:
        """How many leading latents are read: None for all."""
        return None

    @property
    def scale(self) -> Scale:
        """The picture comes at 1 / scale of its size."""
        return 1

    @property
    def halo(self) -> int:
        """How far the decoder reaches, in latents."""
        return self.blocks[1] + -(-self.blocks[0] // 2)

    def make(self, layout: Layout, labels: int = 0) -> Chain:
        """Return a new decoder."""
        sizes = self.wide, self.deep, layout.latents, self.blocks, self.details
        anchors = ANCHORS if self.modulated else 0
        return synthesis(*sizes, block=(layout.stride // 2, layout.bands), anchors=anchors)


class PreviewSizes(_Sizes):
    """Sizes of a decoder for a small picture, from the leading latents alone.

    With ``steps``, also from the first context steps alone; latents of later ones are 0.
    """

    kind: Literal["preview"]
    channels: Width
    steps: int | None = Field(default=None, ge=1)
    scale: Literal[2, 4, 8, 16]
    hidden: Width
    blocks: Blocks = 1
    modulated: bool = Field(default=False, description="its blocks see the quality")

    @property
    def halo(self) -> int:
        """How far the decoder reaches, in latents."""
        return self.blocks

    def make(self, layout: Layout, labels: int = 0) -> Chain:
        """Return a new decoder."""
        side = layout.stride // self.scale
        anchors = ANCHORS if self.modulated else 0
        return Chain(
            nn.Conv2d(self.channels, self.hidden, 1),
            *(DepthBlock(self.hidden, anchors=anchors) for _ in range(self.blocks)),
            nn.Conv2d(self.hidden, 3 * side**2, 1),
            nn.PixelShuffle(side),
        )


class ClassifierSizes(_Sizes):
    """Sizes of a decoder that makes labels: blocks, each group at half the size, then a mean."""

    kind: Literal["classifier"]
    hidden: tuple[Width, ...] = Field(min_length=1)
    blocks: tuple[Blocks, ...]
    channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _groups_have_blocks(self) -> ClassifierSizes:
        if len(self.hidden) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} numbers of blocks for {len(self.hidden)} groups")
        return self

    @property
    def scale(self) -> Scale:
        """None, because there is no picture."""
        return 1

    @property
    def halo(self) -> int:
        """The decoder sees the whole plane, and is never cut into tiles."""
        return 0

    def make(self, layout: Layout, labels: int = 0) -> Chain:
        """Return a new decoder for this many labels."""
        parts: list[nn.Module] = []
        before = self.channels or layout.latents
        for hidden, blocks in zip(self.hidden, self.blocks, strict=True):
            size = 2 if parts else 1
            parts += [nn.Conv2d(before, hidden, size, stride=size), nn.LeakyReLU(0.1)]
            parts += [DepthBlock(hidden) for _ in range(blocks)]
            before = hidden
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(self.dropout)]
        return Chain(*parts, *head, nn.Linear(before, labels))


Sizes = Annotated[SynthesisSizes | PreviewSizes | ClassifierSizes, Field(discriminator="kind")]


@torch.no_grad()
def start_from(decoder: Chain, trained: Chain) -> None:
    """Start a g_s from a trained one of the same latents, as close to it as its size allows.

    At 1/16 the first blocks are copied. At 1/8 a narrower decoder works in the strongest directions
    of the trained one's last layer (singular vectors), and its blocks keep their initial weights.
    Blocks that the trained one lacks start as the identity, so a larger decoder starts equal to it.

    Raises
    ------
    ValueError
        When the two differ in their channels at 1/16 or in their details.
    """
    own, given = _Parts(decoder), _Parts(trained)
    own.inward.load_state_dict(given.inward.state_dict())
    _take_over(own.deep, given.deep)
    if own.head.weight.shape == given.head.weight.shape:
        kept = torch.eye(own.head.in_channels)
        _take_over(own.wide, given.wide)
        own.head.load_state_dict(given.head.state_dict())
    else:
        left, values, right = torch.linalg.svd(given.head.weight.flatten(1), full_matrices=False)
        count = own.head.in_channels
        kept = right[:count]
        own.head.weight.copy_((left * values)[:, :count, None, None])
        own.head.bias.copy_(given.head.bias)  # type: ignore[union-attr, arg-type]
    spread = torch.kron(kept.contiguous(), torch.eye(4))
    for to, source in zip(own.up, given.up, strict=True):
        _project(to, source, spread)


def _take_over(own: Sequence[nn.Module], given: Sequence[nn.Module]) -> None:
    for block, source in zip(own, given, strict=False):
        block.load_state_dict(block.state_dict() | source.state_dict())
    for block in own[len(given) :]:
        if not isinstance(block, DepthBlock):
            raise TypeError("a decoder of other blocks than ours")
        block.pass_on()


def _project(to: nn.Conv2d, source: nn.Conv2d, matrix: Tensor) -> None:
    """Set a layer to a trained one followed by a matrix."""
    to.weight.copy_(torch.einsum("ij,jk->ik", matrix, source.weight[:, :, 0, 0])[:, :, None, None])
    if to.bias is not None and source.bias is not None:
        to.bias.copy_(matrix @ source.bias)


class _Parts:
    """The parts of a `transforms.synthesis`, less what decoders of a family lack."""

    def __init__(self, g_s: Chain) -> None:
        parts = [part for part in g_s if not isinstance(part, Denoising | Inverse)]
        first = parts[0]
        with_details = isinstance(first, DetailSynthesis)
        shuffles = [i for i, part in enumerate(parts) if isinstance(part, nn.PixelShuffle)]
        if not shuffles:
            raise ValueError("no decoder of pictures")
        shuffle = shuffles[0]
        trunk = list(first.trunk) if isinstance(first, DetailSynthesis) else parts[:shuffle]
        self.inward, *deep, last = trunk
        self.deep = [part for part in deep if not isinstance(part, NeighbourAttention)]
        self.up: list[nn.Conv2d] = [last, *([first.detail] if with_details else [])]  # type: ignore[list-item]
        *self.wide, head, last = parts[shuffle + 1 :]
        side = last.upscale_factor if isinstance(last, nn.PixelShuffle) else 0
        if not isinstance(head, nn.Conv2d) or head.out_channels != 3 * side**2:
            raise ValueError("the decoder to start from is not one of Trellic's")
        self.head = head
