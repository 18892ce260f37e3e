"""A bundle's entries of its decoders: what they make, and the parts of a stream they need.

Decoders are not part of the stream id, so they may be added to a bundle or replaced at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trellic.model.channels import Layout

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_LABELS = 1 << 16
Scale = Literal[1, 2, 4, 8, 16]


class Graph(BaseModel):
    """One ONNX file.

    ``halo`` is how far, in pixels for g_a and in latents for h_a and decoders, its output
    depends on its input beyond the stride. ``int8`` is a file with the same network for CPUs,
    a part of its layers in 8 bits, ``fp16`` one for GPUs. Both give nearly the same output faster.
    With ``sees_quality`` it has an input "quality", float32 (N,): that of each picture's level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: str
    kmac_per_pixel: float = Field(ge=0)
    halo: int = Field(default=0, ge=0, le=1024)
    int8: str | None = None
    fp16: str | None = None
    sees_quality: bool = False

    @property
    def variants(self) -> dict[str, str]:
        """Files of the same network in other precisions."""
        files = {"int8": self.int8, "fp16": self.fp16}
        return {precision: file for precision, file in files.items() if file}

    @property
    def precisions(self) -> list[str]:
        """Precisions that have a file; fp32 files can be computed in bf16 too."""
        return ["fp32", *self.variants]


class DecoderInfo(BaseModel):
    """One decoder of the bundle's streams.

    Attributes
    ----------
    graph : from "latents", float32 (N, channels, h, w), to "image", uint8 (N, H, W, 3), of a
        picture decoder, or to "logits", float32 (N, classes), of one of labels
    purpose : for people
    kind : "picture" or "labels"
    channels : number of leading latent channels that the graph reads, up to the end of a channel
        group; None for all. Only the context steps that these channels need are decoded
    steps : number of first context steps to decode, fewer than the channels need, for cheap
        previews; latents of later ones are 0
    scale : the picture comes at 1 / scale of its size, rounded up
    base : decoder that ``NAME:x`` mixes with: ``x * NAME + (1 - x) * base``
    labels : of kind "labels": a name for each class
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    graph: Graph
    purpose: str
    kind: Literal["picture", "labels"] = "picture"
    channels: int | None = Field(default=None, ge=1)
    steps: int | None = Field(default=None, ge=1)
    scale: Scale = 1
    base: str | None = None
    labels: list[str] | None = Field(default=None, min_length=1, max_length=MAX_LABELS)

    def steps_in(self, layout: Layout) -> int:
        """Count the context steps of a stream that it needs."""
        return self.steps or layout.steps_for(self.channels)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> DecoderInfo:
        if (self.kind == "labels") != (self.labels is not None):
            raise ValueError(
                f"kind {self.kind!r}: labels belong to the kind 'labels', and only there"
            )
        if self.kind == "labels" and (self.scale != 1 or self.base is not None):
            raise ValueError("a decoder of kind 'labels' has neither scale nor base")
        labels = self.labels or []
        if len(set(labels)) < len(labels) or not all(t and t.isprintable() for t in labels):
            raise ValueError("labels have to be different, printable texts")
        return self


def check_decoders(decoders: Mapping[str, DecoderInfo], layout: Layout) -> None:
    """Check that the decoders of a bundle fit its layout and each other.

    Raises
    ------
    ValueError
        When one reads part of a channel group, or has a base that it cannot be mixed with.
    """
    ends = layout.group_ends
    for name, info in decoders.items():
        if info.scale > layout.stride:
            raise ValueError(
                f"decoder {name!r} has scale {info.scale}; a latent is {layout.stride} pixels wide"
            )
        if info.channels is not None and info.channels not in ends:
            raise ValueError(
                f"decoder {name!r} reads {info.channels} channels; channel groups end at {ends}"
            )
        if info.steps is not None and not _has_steps(info, layout):
            raise ValueError(
                f"decoder {name!r} decodes {info.steps} context steps; its channels need"
                f" {layout.steps_for(info.channels)}, and the first of them have to reach all"
            )
        if info.base is not None and not _mixes(name, info, decoders.get(info.base)):
            raise ValueError(
                f"decoder {name!r} has the base {info.base!r}, which is not another picture decoder"
                " of the same scale and steps"
            )


def _has_steps(info: DecoderInfo, layout: Layout) -> bool:
    steps = layout.steps[: info.steps]
    enough = max(step.last for step in steps) >= (info.channels or layout.latents)
    return enough and len(steps) == info.steps and len(steps) <= layout.steps_for(info.channels)


def _mixes(name: str, info: DecoderInfo, base: DecoderInfo | None) -> bool:
    if base is None or info.base == name or base.kind != "picture":
        return False
    return (base.scale, base.steps) == (info.scale, info.steps)
