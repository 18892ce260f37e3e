"""Latents of a picture to the segments of a stream.

::

    h -> z -> segment 0          z -> h_s -> features
    each slice, each step k:     features, latents so far -> context k -> mean, scale index
                                 t = y - mean -> search -> k -> rANS
                                 v = mean + reconstruction
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.engines.exact import ExactNetwork
from trellic.entropy.tables import Tables
from trellic.geometry import Plane, Rectangle
from trellic.latents import cpu as arithmetic
from trellic.latents.lanes import guess_lanes
from trellic.latents.order import grid_of, in_file_order
from trellic.latents.predictor import Predictor, SliceContext
from trellic.latents.quantizer import Quantizer, Symbols, book_of, quantize
from trellic.limits import HYPER_LIMIT, TARGET_LIMIT
from trellic.model.channels import Layout, Step
from trellic.model.quality import Level
from trellic.quantize.dither import slice_key
from trellic.support.clock import Clock

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Observer = Callable[[Int32, Uint8, Int32, Uint8], None]

NOT_CODED = 255  # class of a latent under the skip threshold


@dataclass(frozen=True)
class CodedLatents:
    """Segments in file order, and the lanes of each slice."""

    segments: list[bytes]
    lanes: list[int]


@dataclass(frozen=True)
class QuantizedLatents:
    """The encoder's choices, as planes.

    Attributes
    ----------
    v32 : int32 (latents, rows, columns), reconstruction in 1/32 step, as a decoder will have it
    k : int32, same shape; indices, 0 where not coded
    cls : uint8, same shape; class of each latent (0 scalar, 1 Q0, 2 Q1, 3 to 18 dithered or
        still),
        `NOT_CODED` elsewhere
    scale_index : uint8, same shape; 0 where not coded
    """

    v32: Int32
    k: Int32
    cls: Uint8
    scale_index: Uint8


class _Chosen(NamedTuple):
    """One step of a slice, quantized."""

    step: Step
    position: Int32
    scale_index: Uint8
    symbols: Symbols


class LatentEncoder:
    """Codes latent planes with the integer networks and tables of one model.

    Parameters
    ----------
    layout, tables : of the bundle
    networks : as of `Predictor`
    steps : number of first context steps to code, None for all; segments, in file order, end with
        those of the last step
    clock : notes the end of stages: "networks" (h_s and contexts), "search", "rans"
    """

    def __init__(
        self,
        layout: Layout,
        tables: Tables,
        networks: Mapping[str, ExactNetwork],
        steps: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.layout, self.tables = layout, tables
        self.predictor = Predictor(layout, networks, steps, clock)
        self._clock = self.predictor.clock

    def encode(
        self,
        f: Float32,
        h: Float32,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
        *,
        lanes: Sequence[int] | None = None,
        slice_side: int | None = None,
        observe: Observer | None = None,
    ) -> CodedLatents:
        """Code latents.

        Parameters
        ----------
        f : float32 (latents, rows, columns), outputs of g_a, before the gain
        h : float32 (hyper, rows / cell, columns / cell), outputs of h_a, before the gain
        lanes : lanes of each slice; by default guessed, and corrected if the slice is too small for
            the guess
        slice_side : of a slice, in latents; by default that of the plane
        observe : called with (t32, scale_index, k, class) of each step of each slice, twice for a
            slice whose lanes were corrected
        """
        z = hyper_symbols(h, level)
        grid = grid_of(plane, slice_side)
        used: list[int] = []
        coded: list[list[bytes]] = []
        for i, part in enumerate(grid):  # large arrays are made slice by slice
            y32 = arithmetic.to_fixed(f[(slice(None), *part.index())], level.gain_float)
            key = None if quantizer.dither is None else slice_key(quantizer.dither, i)
            context = self.predictor.start(z, part, plane, level, key)
            first = [hyper_segment(z, level)] if i == 0 else []
            code = partial(self._coded, y32, context, quantizer, first, observe)
            guess = guess_lanes(arithmetic.log_sum(y32), y32.size) if not lanes else lanes[i]
            parts = code(guess)
            right = guess if lanes else entropy.choose_lanes(sum(map(len, parts)))
            if right < guess:  # too many for so small a slice
                parts = code(right)
            coded.append(parts)
            used.append(min(guess, right))
        return CodedLatents(in_file_order(coded, len(self.predictor.steps)), used)

    def quantize(
        self,
        f: Float32,
        h: Float32,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
        observe: Observer | None = None,
    ) -> QuantizedLatents:
        """Quantize latents exactly as `encode` does a picture of one slice, but write no bytes.

        Arguments are those of `encode`; lanes are guessed. ``observe`` is called with (t32,
        scale_index, k, class) of each step.
        """
        part = Rectangle(0, plane.latents[0], 0, plane.latents[1])
        y32 = arithmetic.to_fixed(f, level.gain_float)
        key = None if quantizer.dither is None else slice_key(quantizer.dither, 0)
        context = self.predictor.start(hyper_symbols(h, level), part, plane, level, key)
        lanes = guess_lanes(arithmetic.log_sum(y32), y32.size)
        k = np.zeros(y32.shape, np.int32)
        cls = np.full(y32.shape, NOT_CODED, np.uint8)
        index = np.zeros(y32.shape, np.uint8)
        for chosen in self._chosen(y32, context, quantizer, lanes, observe):
            own = slice(chosen.step.first, chosen.step.last)
            k[own].reshape(-1)[chosen.position] = chosen.symbols.k
            cls[own].reshape(-1)[chosen.position] = chosen.symbols.cls
            index[own].reshape(-1)[chosen.position] = chosen.scale_index
        return QuantizedLatents(context.v32, k, cls, index)

    def decoded(
        self, f: Float32, z: Int64, plane: Plane, level: Level, quantizer: Quantizer
    ) -> Int32:
        """Quantize latents as `encode` does, without a trellis, and return what a decoder has.

        Parameters
        ----------
        z : int64 (hyper, rows, columns), hyper-latents as a file holds them

        Returns
        -------
        int32 (latents, rows, columns), in 1/32 step
        """
        out = np.empty(f.shape, np.int32)
        for i, part in enumerate(grid_of(plane, None)):
            window = (slice(None), *part.index())
            y32 = arithmetic.to_fixed(f[window], level.gain_float)
            key = None if quantizer.dither is None else slice_key(quantizer.dither, i)
            context = self.predictor.start(z, part, plane, level, key)
            for _ in self._chosen(y32, context, quantizer, 1, None):
                pass
            out[window] = context.v32
        return out

    # ---- one slice ----

    def _coded(
        self,
        y32: Int64,
        context: SliceContext,
        quantizer: Quantizer,
        first: Sequence[entropy.Segment],
        observe: Observer | None,
        lanes: int,
    ) -> list[bytes]:
        """Code a slice: segments of its steps, after those that come first."""
        context.v32.fill(0)
        segments = list(first)
        for chosen in self._chosen(y32, context, quantizer, lanes, observe):
            table = chosen.symbols.cls.astype(np.uint16) * self.layout.scales
            table += chosen.scale_index
            segments.append(entropy.Segment(chosen.symbols.k, table))
        parts = entropy.encode(segments, book_of(self.tables, quantizer.lattice), lanes)
        self._clock.mark("rans")
        return parts

    def _chosen(
        self,
        y32: Int64,
        context: SliceContext,
        quantizer: Quantizer,
        lanes: int,
        observe: Observer | None,
    ) -> Iterator[_Chosen]:
        """Quantize step by step, filling the context."""
        for k, step in enumerate(self.predictor.steps):
            position, mean32, index = self.predictor.predict(k, context)
            target = y32[step.first : step.last].ravel()[position]
            t32 = np.clip(target - mean32, -TARGET_LIMIT, TARGET_LIMIT).astype(np.int32)
            noise = context.noise(step, position)
            symbols = quantize(t32, index, lanes, quantizer, self.tables, noise, mean32)
            context.add(step, position, symbols.recon32)
            self._clock.mark("search")
            if observe:
                observe(t32, index, symbols.k, symbols.cls)
            yield _Chosen(step, position, index, symbols)


def hyper_symbols(h: Float32, level: Level) -> Int64:
    """Round hyper-latents, float32 (hyper, rows, columns) before the gain, as a file holds them."""
    z = np.floor(h * level.hyper_gain_float[:, None, None] + 0.5)
    symbols: Int64 = np.clip(z, -HYPER_LIMIT, HYPER_LIMIT).astype(np.int64)
    return symbols


def hyper_values(z: Int64, level: Level) -> Float32:
    """Hyper-latents before their gain that `hyper_symbols` makes these symbols of."""
    values: Float32 = z.astype(np.float32) / level.hyper_gain_float[:, None, None]
    return values


def hyper_segment(z: Int64, level: Level) -> entropy.Segment:
    """Return the symbols of segment 0."""
    k = (z - level.hyper_mean[:, None, None]).ravel().astype(np.int32)
    table = np.repeat(level.hyper_index, z[0].size).astype(np.uint16)
    return entropy.Segment(k, table)
