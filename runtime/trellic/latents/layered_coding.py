"""Layered pictures to the segments of a stream, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.bitstream import Header, Layering
from trellic.engines.exact import ExactNetwork
from trellic.entropy.tables import Tables
from trellic.errors import CorruptStream, StreamError
from trellic.geometry import Plane, Rectangle
from trellic.latents import cpu as arithmetic
from trellic.latents.decoder import before_the_gap, decode_hyper_latents
from trellic.latents.encoder import CodedLatents, hyper_segment, hyper_symbols
from trellic.latents.interval_slice import IntervalSlice
from trellic.latents.lanes import guess_lanes
from trellic.latents.layered import LayeredSlice
from trellic.latents.order import check_count, grid_of, in_file_order, numbers_of
from trellic.latents.predictor import Predictor
from trellic.latents.quantizer import Quantizer
from trellic.latents.weighed_slice import WeighedSlice
from trellic.model.channels import Layout
from trellic.model.quality import Level, LevelTables
from trellic.support.clock import Clock

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


def kind_of(layering: Layering) -> type[LayeredSlice]:
    """Return how layers take up what those below them say."""
    return IntervalSlice if layering.intervals else WeighedSlice


def levels_of(tables: LevelTables, qualities16: Sequence[int], trellis: int) -> list[Level]:
    """Return the levels of layers; all share the hyper-latents of the last."""
    *below, last = (tables.at(quality16, trellis) for quality16 in qualities16)
    hyper = {name: getattr(last, name) for name in ("hyper_mean", "hyper_index", "hyper_scale")}
    return [*(replace(level, **hyper) for level in below), last]


@dataclass(frozen=True)
class LayeredEncoder:
    """Codes latents in layers.

    Attributes
    ----------
    predictor : of all context steps
    tables : of the bundle
    layering : parts of a step, and how layers build on those below
    """

    predictor: Predictor
    tables: Tables
    layering: Layering

    def encode(
        self,
        f: Sequence[Float32],
        h: Float32,
        plane: Plane,
        levels: Sequence[Level],
        quantizer: Quantizer,
        slice_side: int | None = None,
    ) -> CodedLatents:
        """Code latents; segments are in file order, pass by pass.

        Parameters
        ----------
        f : for each layer, float32 (latents, rows, columns), outputs of g_a, before the gain
        h : float32 (hyper, rows / cell, columns / cell), before the gain
        levels : of the layers, rising
        quantizer : without dither
        slice_side : of a slice, in latents; that of the plane if left out
        """
        z = hyper_symbols(h, levels[-1])
        used: list[int] = []
        coded: list[list[bytes]] = []
        for i, part in enumerate(grid_of(plane, slice_side)):
            y32 = _targets(f, part, levels)
            first = [hyper_segment(z, levels[-1])] if i == 0 else []
            start = partial(self._way, z, part, plane, levels)
            lanes = guess_lanes(arithmetic.log_sum(y32[-1]), y32[-1].size)
            segments = [*first, *self._chosen(y32, start(), quantizer, lanes)]
            packed = self._packed(segments, lanes)
            right = entropy.choose_lanes(sum(map(len, packed)))
            if right < lanes:  # too many for so small a slice
                if quantizer.states:  # each lane has a trellis
                    segments = [*first, *self._chosen(y32, start(), quantizer, right)]
                packed = self._packed(segments, right)
            coded.append(packed)
            used.append(min(lanes, right))
        passes = self.layering.passes(len(self.predictor.steps))
        return CodedLatents(in_file_order(coded, passes), used)

    def quantize(
        self,
        f: Sequence[Float32],
        h: Float32,
        plane: Plane,
        levels: Sequence[Level],
        quantizer: Quantizer,
        passes: int,
        lanes: int = 1,
    ) -> Int32:
        """Return what a decoder has of a picture of one slice, cut after some passes.

        No bytes are written. Arguments are those of `encode`, but for layers that the passes do not
        reach, which are left out; each lane has a trellis of its own.

        Returns
        -------
        int32 (channels, rows, columns), in 1/32 step of the last of the levels
        """
        part = Rectangle(0, plane.latents[0], 0, plane.latents[1])
        y32, z = _targets(f, part, levels), hyper_symbols(h, levels[-1])
        way = self._way(z, part, plane, levels)
        for _ in islice(self._chosen(y32, way, quantizer, lanes), passes):
            pass
        return way.latents(len(levels) - 1)

    def _way(
        self, z: Int64, part: Rectangle, plane: Plane, levels: Sequence[Level]
    ) -> LayeredSlice:
        begin = kind_of(self.layering)
        return begin(self.predictor, z, part, plane, levels, self.layering.parts)

    def _packed(
        self, segments: Sequence[entropy.Segment | entropy.Divided], lanes: int
    ) -> list[bytes]:
        packed = entropy.encode(segments, self.tables, lanes)
        self.predictor.clock.mark("rans")
        return packed

    def _chosen(
        self, y32: Sequence[Int64], way: LayeredSlice, quantizer: Quantizer, lanes: int
    ) -> Iterator[entropy.Segment | entropy.Divided]:
        """Quantize pass by pass, adding each to the slice."""
        plain, last = replace(quantizer, mode="round"), self.layering.layers - 1
        for own in way.passes():
            narrowed_later = self.layering.intervals and own.layer < last
            how = plain if narrowed_later else quantizer
            segment = way.choose(own, y32[own.layer], how, lanes, self.tables)
            self.predictor.clock.mark("search")
            yield segment


def _targets(f: Sequence[Float32], part: Rectangle, levels: Sequence[Level]) -> list[Int64]:
    """Return the latents of a slice, for each layer, in 1/32 step."""
    window = (slice(None), *part.index())
    return [
        arithmetic.to_fixed(of[window], level.gain_float)
        for of, level in zip(f, levels, strict=True)
    ]


class LayeredDecoder:
    """Decodes latents that are coded in layers, as far as there are segments.

    Parameters
    ----------
    layout, tables : of the bundle
    networks : as of `Predictor`, all of them
    clock : told when a stage ends: "networks", "rans"
    """

    def __init__(
        self,
        layout: Layout,
        tables: Tables,
        networks: Mapping[str, ExactNetwork],
        clock: Clock | None = None,
    ) -> None:
        self.layout, self.tables = layout, tables
        self.predictor = Predictor(layout, networks, None, clock)

    def slices(
        self,
        header: Header,
        segments: Sequence[bytes | None],
        plane: Plane,
        levels: Sequence[Level],
        lost: set[int] | None = None,
        steps: int | None = None,
    ) -> Callable[[int], Int32]:
        """Decode the hyper-latents, and return a function that decodes the latents of a slice.

        Parameters
        ----------
        header : of the stream, layered
        segments : in file order; None for those of slices that are not needed
        levels : of the layers up to the one in whose steps latents are wanted (`reached`), rising;
            latents of slices that end below it are carried over
        lost : as of `LatentDecoder.slices`
        steps : return latents of so many context steps, the first ones, and 0 for all others, as
            `LatentDecoder` with so many steps does; None for all

        Returns
        -------
        function of a slice's number, to be called at most once for each: int32 (channels, rows,
        columns), in 1/32 step of the last of the levels

        Raises
        ------
        CorruptStream
            Here or in the function, when a segment does not decode.
        """
        if header.layering is None:
            raise ValueError("the stream has no layers")
        side = header.slice_side * plane.block
        grid, passes = grid_of(plane, side), header.passes
        check_count(len(segments), passes, len(grid))
        if segments[0] is None:
            raise CorruptStream("the hyper-latents are missing", remedy="fetch the file again")
        first = entropy.Decoder(segments[0], self.tables, header.lanes[0])
        z = decode_hyper_latents(first, segments[0], self.layout, plane, levels[-1])
        self.predictor.clock.mark("rans")
        parts, whole = header.layering.parts, passes == header.layering.passes(header.steps)
        begin = partial(kind_of(header.layering), self.predictor, z)

        def decode(i: int) -> Int32:
            numbers = numbers_of(i, passes, len(grid))
            own = [segments[number] for number in numbers]
            good = before_the_gap(own)
            if len(good) < len(own) and lost is None:
                raise CorruptStream("a segment is missing", remedy="fetch the file again")
            start = partial(begin, grid[i], plane, levels, parts)
            try:
                fresh = first
                if i and good:
                    fresh = entropy.Decoder(good[0], self.tables, header.lanes[i])
                way = self._decoded(fresh, good, start(), header.trellis)
                if whole and len(good) == passes:
                    fresh.finish()
            except StreamError:
                if lost is None:
                    raise
                good = []  # a CRC passed by chance; the bad segment is unknown: drop the slice
                way = start()
            if lost is not None:
                lost.update(numbers[len(good) :])
            return self._first(way.latents(len(levels) - 1), steps)

        return decode

    def _first(self, v32: Int32, steps: int | None) -> Int32:
        """Clear the latents of later steps: a decoder of the first ones never learned of them."""
        if steps is not None and steps < len(self.layout.steps):
            y, x = np.indices(v32.shape[1:])
            v32[self.layout.step_of[:, (y + x) & 1] >= steps] = 0
        return v32

    def _decoded(
        self, decoder: entropy.Decoder, segments: Sequence[bytes], way: LayeredSlice, states: int
    ) -> LayeredSlice:
        """Decode the first passes of a slice."""
        if segments:  # no pass begins without a segment
            passes = way.passes()
            for segment in segments:
                way.read(next(passes), segment, decoder, states, self.tables)
                self.predictor.clock.mark("rans")
        return way


def reached(header: Header, segments: Sequence[bytes | None]) -> int:
    """Return how many passes a slice has, of the one that has most."""
    there = [n for n, segment in enumerate(segments[1:]) if segment is not None]
    return 1 + (there[-1] // header.slices if there else 0)
