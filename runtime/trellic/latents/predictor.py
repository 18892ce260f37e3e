"""Means and scale indices of the latents of a slice, from z and the latents decoded so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.engines.exact import ExactNetwork
from trellic.geometry import Plane, Rectangle
from trellic.latents import cpu as arithmetic
from trellic.model.channels import Layout, Step
from trellic.model.quality import Level
from trellic.quantize import dither_cpu as dithering
from trellic.support.clock import Clock

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SliceContext:
    """A slice on its way through the context steps.

    Attributes
    ----------
    part : its window of the picture's latents
    plane, level : of its picture
    features : float32 (channels, rows, columns), from h_s
    v32 : int32 (latents, rows, columns), in 1/32 step; filled step by step, only by this class
    key : of its dither; None if there is none
    """

    part: Rectangle
    plane: Plane
    level: Level
    features: Float32
    v32: Int32
    key: int | None = None

    def noise(self, step: Step, position: Int32) -> npt.NDArray[np.int8] | None:
        """Noise of the coded latents of a step, in 1/64 step; None if there is none.

        Latents are numbered over all channels of the slice, positions are within the step's.
        """
        if self.key is None:
            return None
        return dithering.noise(self.key, step.first * self.v32[0].size, position)

    def add(self, step: Step, position: Int32, recon32: Int32) -> None:
        """Add reconstructions to the means of a step."""
        coded = self.v32[step.first : step.last].reshape(-1)  # a view: the slice is contiguous
        arithmetic.fill(coded, position, recon32)


class Predicted(NamedTuple):
    """The coded latents of a step: int32 positions and means in 1/32 step, uint8 scale indices."""

    position: Int32
    mean32: Int32
    scale_index: Uint8


class Predictor:
    """The exact part of a model: integer networks that decide every table.

    Parameters
    ----------
    layout : of the bundle
    networks : "h_s" and "context_k"; "h_s" alone where it predicts by itself
    steps : number of first context steps; None for all
    clock : told when a stage ends, "networks"
    """

    def __init__(
        self,
        layout: Layout,
        networks: Mapping[str, ExactNetwork],
        steps: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.layout, self.networks = layout, networks
        self.clock = clock or Clock()
        self.steps = layout.steps[:steps]
        self.channels = max(step.last for step in self.steps)
        self._member = [
            np.ascontiguousarray(layout.step_of[step.first : step.last] == k)
            for k, step in enumerate(self.steps)
        ]
        self._h_s_reach = networks["h_s"].reach

    def start(
        self, z: Int64, part: Rectangle, plane: Plane, level: Level, key: int | None = None
    ) -> SliceContext:
        """Return a slice none of whose latents is known yet.

        Parameters
        ----------
        z : int64 (hyper, rows, columns), hyper-latents of the picture
        part : the slice's window of the picture's latents
        """
        features = self.features(z, part, level)
        v32 = np.zeros((self.channels, *features.shape[1:]), np.int32)
        return SliceContext(part, plane, level, features, v32, key)

    def features(self, z: Int64, part: Rectangle, level: Level) -> Float32:
        """Features of a slice, from the hyper-latents above it and within the reach of h_s."""
        rows, columns = z.shape[1:]
        cells = part.coarser(self.layout.cell)
        window = cells.grown(self._h_s_reach).within(Rectangle(0, rows, 0, columns))
        z = z[(slice(None), *window.index())]
        scaled = (z * level.hyper_scale[:, None, None] + (1 << 15)) >> 16
        plane = np.full((1, *window.shape), level.plane, np.float32)
        x = np.concatenate([np.clip(scaled, -127, 127).astype(np.float32), plane])
        features = np.concatenate(self.networks["h_s"](x)).astype(np.float32, copy=False)
        own = (slice(None), *part.index(window.finer(self.layout.cell)))
        return np.ascontiguousarray(features[own])

    def predict(self, k: int, context: SliceContext) -> Predicted:
        """Means and scale indices of step ``k``; the means are filled into the context."""
        step, part, level = self.steps[k], context.part, context.level
        mu, log_scale = self.outputs(k, context)
        coded = slice(step.first, step.last)
        rows, columns = context.plane.coded
        limits = (rows - part.top, columns - part.left, self.layout.skip_index, self.layout.scales)
        predicted = arithmetic.predict(
            np.ascontiguousarray(mu, np.float32),
            np.ascontiguousarray(log_scale, np.float32),
            self._member[k],
            level.gain[coded],
            level.scale_shift[coded],
            limits,
            context.v32[coded],
        )
        self.clock.mark("networks")
        return Predicted(*predicted)

    def outputs(self, k: int, context: SliceContext) -> Sequence[npt.NDArray[np.floating]]:
        """Return the integers mu and s of one step."""
        step, features = self.steps[k], context.features
        if "context_0" not in self.networks:  # h_s predicts by itself: mu and s, or s alone
            mu, s = features[: self.layout.latents], features[-self.layout.latents :]
            return (mu if len(features) > len(mu) else np.zeros_like(s)), s
        x = features
        if step.context:
            scale, count = context.level.context_scale[: step.context], len(features)
            x = np.empty((count + step.context, *features.shape[1:]), np.float32)
            x[:count] = features
            arithmetic.context_input(context.v32[: step.context], scale, x[count:])
        return self.networks[f"context_{k}"](x)
