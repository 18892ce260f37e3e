"""The small networks: their sizes, and their place in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trellic.errors import BadParameter
from trellic.model.bundle import Bundle
from trellic.model.channels import Layout
from trellic_training.models.decoders import SynthesisSizes
from trellic_training.models.photo import ModelConfig
from trellic_training.models.transforms import ANCHORS, Chain, analysis


@dataclass(frozen=True)
class Width:
    """Sizes of both networks.

    Attributes
    ----------
    wide, deep : channels at 1/8 and at 1/16
    encoder_blocks, decoder_blocks : at 1/8 and at 1/16
    """

    wide: int
    deep: int
    encoder_blocks: tuple[int, int]
    decoder_blocks: tuple[int, int]


# `fast` of the model photo has 112 and 192 channels.
WIDTHS: Mapping[str, Width] = {
    "half": Width(56, 96, (1, 2), (1, 2)),
    "quarter": Width(28, 48, (1, 2), (1, 2)),
}


class Students:
    """A small g_a and a small g_s for the latents of a model.

    Parameters
    ----------
    width : of both
    layout : of the latents
    details : how many of the last latents bypass the blocks
    """

    def __init__(self, width: Width, layout: Layout, details: int) -> None:
        self.layout = layout
        self.sizes = SynthesisSizes(
            wide=width.wide,
            deep=width.deep,
            blocks=width.decoder_blocks,
            details=details,
            modulated=True,
        )
        self.decoder: Chain = self.sizes.make(layout)
        blocks, stem = width.encoder_blocks, layout.stride // 2
        block = stem, layout.bands
        self.encoder: Chain = analysis(
            width.wide, width.deep, layout.latents, blocks, details, block, ANCHORS
        )
        self.encoder_halo = stem * blocks[0] + layout.stride * blocks[1]


def details_of(bundle: Bundle) -> int:
    """Return how many of the last latents of a model bypass the blocks.

    Raises
    ------
    BadParameter
        When the bundle does not say how its networks are made.
    """
    sizes = bundle.manifest.training.get("recipe", {}).get("model")
    if sizes is None:
        raise BadParameter(
            f"model {bundle.manifest.name!r} does not say what its networks are like",
            expected="a bundle with a recipe in its manifest, such as 'photo'",
        )
    return ModelConfig.model_validate(sizes).details
