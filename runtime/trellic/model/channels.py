"""Channels of the latents: groups, and the context steps in which they are coded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trellic.constants import COLOURS, Bands
from trellic.geometry import CELL, STRIDE, Plane


class Group(BaseModel):
    """Neighbouring channels, and the context step of each checkerboard parity (y + x) & 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    channels: int = Field(ge=1, le=4096)
    steps: tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One context step: sees channels [0, context), predicts channels [first, last)."""

    context: int
    first: int
    last: int


class Layout(BaseModel):
    """Latent channels of a model and the order in which they are coded.

    Attributes
    ----------
    groups : channel groups from the most to the least energetic
    hyper : number of hyper-latent channels
    scales : number of scale indices
    skip_index : latents with a smaller scale index are not coded
    stride : pixels per latent, each way
    cell : latents per hyper-latent, each way
    bands : samples of a pixel

    The JSON form, from which the stream id is made, leaves out usual strides and colours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    groups: tuple[Group, ...] = Field(min_length=1)
    hyper: int = Field(ge=1, le=4096)
    scales: int = Field(ge=1, le=255)
    skip_index: int = Field(ge=0, le=255)
    stride: Literal[4, 8, 16] = STRIDE
    cell: Literal[2, 4] = CELL
    bands: Bands = COLOURS

    @model_validator(mode="after")
    def _steps_are_complete(self) -> Layout:
        used = {k for group in self.groups for k in group.steps}
        if used != set(range(len(used))) or len(used) > 8:
            raise ValueError(f"context steps {sorted(used)} are not 0..n-1 with n at most 8")
        return self

    @model_serializer(mode="wrap")
    def _without_usual_values(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = usual(self)
        for name in ("stride", "cell", "bands"):
            if fields[name] == type(self).model_fields[name].default:
                del fields[name]
        return fields

    def plane(self, width: int, height: int) -> Plane:
        """Return the planes of a picture of this many pixels."""
        return Plane(width, height, self.stride, self.cell)

    @property
    def latents(self) -> int:
        """Number of latent channels."""
        return sum(group.channels for group in self.groups)

    @property
    def group_ends(self) -> list[int]:
        """Number of channels up to the end of each group."""
        return [int(end) for end in np.cumsum([group.channels for group in self.groups])]

    def steps_for(self, channels: int | None) -> int:
        """Count the context steps that decode the leading channels, whole groups; None for all."""
        wanted = self.latents if channels is None else channels
        ends = self.group_ends
        needed = [max(g.steps) for g, end in zip(self.groups, ends, strict=True) if end <= wanted]
        return 1 + max(needed)

    @property
    def step_of(self) -> npt.NDArray[np.int64]:
        """Context step of each (channel, parity): (latents, 2)."""
        return np.repeat([g.steps for g in self.groups], [g.channels for g in self.groups], axis=0)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Channel ranges of each context step."""
        ends = np.cumsum([0] + [group.channels for group in self.groups])
        steps = []
        for k in range(1 + max(max(group.steps) for group in self.groups)):
            coded = [i for i, group in enumerate(self.groups) if k in group.steps]
            seen = [i for i, group in enumerate(self.groups) if min(group.steps) < k]
            context = int(ends[seen[-1] + 1]) if seen else 0
            steps.append(Step(context, int(ends[coded[0]]), int(ends[coded[-1] + 1])))
        return tuple(steps)
