"""Classifiers of small pictures: their networks, and files of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from trellic_training.data.files import load_marked, reading, save
from trellic_training.models.transforms import DepthBlock

VERSION = 1
Width = Annotated[int, Field(ge=1, le=4096)]
Blocks = Annotated[int, Field(ge=0, le=64)]


class PictureClassifierSizes(BaseModel):
    """Sizes of the layers: groups of blocks, each at half the size of the one before; then a mean.

    ``depthwise`` has the codec's own blocks, the first ones at half the picture's size. ``dense``
    has 3x3 convolutions with batch normalisation, the first ones at the picture's size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["depthwise", "dense"] = "depthwise"
    hidden: tuple[Width, ...] = Field(default=(32, 64, 96), min_length=1)
    blocks: tuple[Blocks, ...] = (1, 3, 2)

    @model_validator(mode="after")
    def _groups_have_blocks(self) -> PictureClassifierSizes:
        if len(self.hidden) != len(self.blocks):
            raise ValueError(f"{len(self.blocks)} numbers of blocks for {len(self.hidden)} groups")
        return self

    def make(self, labels: int) -> nn.Sequential:
        """Return a new classifier: (N, 3, H, W) in [-1/2, 1/2] to logits (N, labels)."""
        body = self._depthwise() if self.kind == "depthwise" else self._dense()
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.hidden[-1], labels)]
        return nn.Sequential(*body, *head)

    def _depthwise(self) -> list[nn.Module]:
        first = nn.Conv2d(12, self.hidden[0], 3, padding=1)
        parts: list[nn.Module] = [nn.PixelUnshuffle(2), first]
        for i, (hidden, blocks) in enumerate(zip(self.hidden, self.blocks, strict=True)):
            if i:
                parts.append(nn.Conv2d(self.hidden[i - 1], hidden, 2, stride=2))
            parts += [nn.LeakyReLU(0.1), *(DepthBlock(hidden) for _ in range(blocks))]
        return parts

    def _dense(self) -> list[nn.Module]:
        parts: list[nn.Module] = []
        groups = zip(pairwise((3, *self.hidden)), self.blocks, strict=True)
        for (before, hidden), blocks in groups:
            parts += _dense_block(before, hidden, 2 if parts else 1)
            for _ in range(blocks):
                parts += _dense_block(hidden, hidden, 1)
        return parts


def _dense_block(before: int, after: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU()]


@dataclass
class TrainedClassifier:
    """A classifier, and what it was trained on.

    Attributes
    ----------
    sizes : of its layers
    network : its weights, for evaluation
    labels : names, in the order of the logits
    side : of the training pictures, in pixels
    facts : of its training
    """

    sizes: PictureClassifierSizes
    network: nn.Sequential
    labels: list[str]
    side: int
    facts: dict[str, Any]


def save_classifier(classifier: TrainedClassifier, path: Path) -> None:
    """Write a classifier."""
    content = {
        "trellic_classifier": VERSION,
        "sizes": classifier.sizes.model_dump(),
        "labels": classifier.labels,
        "side": classifier.side,
        "facts": classifier.facts,
        "state": classifier.network.state_dict(),
    }
    save(content, path)


def load_classifier(path: Path) -> TrainedClassifier:
    """Read what `save_classifier` wrote.

    Raises
    ------
    BadParameter
        When the file is something else, or of another version.
    """
    with reading(path, "holds no classifier of pictures"):
        content = load_marked(path, "trellic_classifier", VERSION, "classifier")
        sizes = PictureClassifierSizes.model_validate(content["sizes"])
        network = sizes.make(len(content["labels"]))
        network.load_state_dict(content["state"])
        kept = {name: content[name] for name in ("labels", "side", "facts")}
    return TrainedClassifier(sizes, network.eval(), **kept)
