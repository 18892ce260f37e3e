"""Segments of a stream to the latents of a picture.

::

    segment 0 -> z -> h_s -> features
    each slice, each step k:  features, latents so far -> context k -> mean, scale index
                              rANS -> k -> v = mean + reconstruction
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from trellic import entropy
from trellic.engines.exact import ExactNetwork
from trellic.entropy.tables import Tables
from trellic.errors import CorruptStream, StreamError
from trellic.geometry import Plane
from trellic.latents.order import check_count, grid_of, numbers_of
from trellic.latents.predictor import Predicted, Predictor, SliceContext
from trellic.latents.quantizer import AROUND_MEANS, Lattice, Noise, book_of
from trellic.model.channels import Layout
from trellic.model.quality import Level
from trellic.quantize import dither_cpu as dithering
from trellic.quantize import still_cpu as still_lattice
from trellic.quantize.cpu import reconstruct
from trellic.quantize.trellis import next_state
from trellic.support.clock import Clock

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]


class LatentDecoder:
    """Decodes latent planes with the integer networks and tables of one model.

    Parameters
    ----------
    layout, tables : of the bundle
    networks : as of `Predictor`
    steps : number of first context steps to decode; None for all. Latents are then the first
        `channels`, and segments, in file order, end with those of the last step
    clock : notes the end of stages: "networks" (h_s and contexts), "rans"
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
        self._clock, self._steps = self.predictor.clock, len(self.predictor.steps)
        self.channels = self.predictor.channels

    def decode(
        self,
        segments: Sequence[bytes | None],
        lanes: Sequence[int],
        plane: Plane,
        level: Level,
        states: int,
        slice_side: int | None = None,
        lost: set[int] | None = None,
        lattice: Lattice = AROUND_MEANS,
    ) -> Int32:
        """Decode all latents: int32 (channels, rows, columns), in 1/32 step.

        Parameters and errors are those of `slices`.
        """
        decoded = self.slices(segments, lanes, plane, level, states, slice_side, lost, lattice)
        v32 = np.empty((self.channels, *plane.latents), np.int32)
        for i, part in enumerate(grid_of(plane, slice_side)):
            v32[(slice(None), *part.index())] = decoded(i)
        return v32

    def slices(
        self,
        segments: Sequence[bytes | None],
        lanes: Sequence[int],
        plane: Plane,
        level: Level,
        states: int,
        slice_side: int | None = None,
        lost: set[int] | None = None,
        lattice: Lattice = AROUND_MEANS,
    ) -> Callable[[int], Int32]:
        """Decode the hyper-latents, and return a function that decodes the latents of a slice.

        Parameters
        ----------
        segments : in file order; None for those of slices that are not needed
        lanes : lanes of each slice
        states : of the trellis, 0 for scalar quantization
        slice_side : of a slice, in latents; by default that of the plane
        lost : if given, segments may be None. The numbers of segments that are None, that follow
            such a segment in their slice, or that do not decode are added; their latents become
            their means
        lattice : of a scalar stream

        Returns
        -------
        function of a slice's number, to be called at most once for each: int32 (channels, rows,
        columns), in 1/32 step

        Raises
        ------
        CorruptStream
            Here or in the function, when a segment does not decode, a slice's last segment does not
            reach the end state, or symbols are out of range.
        """
        grid = grid_of(plane, slice_side)
        check_count(len(segments), self._steps, len(grid))
        book = book_of(self.tables, lattice)
        if segments[0] is None:
            raise CorruptStream("the hyper-latents are missing", remedy="fetch the file again")
        first = entropy.Decoder(segments[0], book, lanes[0])  # it continues with slice 0
        z = decode_hyper_latents(first, segments[0], self.layout, plane, level)
        self._clock.mark("rans")

        def decode(i: int) -> Int32:
            numbers = numbers_of(i, self._steps, len(grid))
            own = [segments[number] for number in numbers]
            good = before_the_gap(own)
            if len(good) < len(own) and lost is None:
                raise CorruptStream("a segment is missing", remedy="fetch the file again")
            seed = lattice.dither
            key = None if seed is None else dithering.slice_key(seed, i)
            start = partial(self.predictor.start, z, grid[i], plane, level, key)
            try:
                fresh = entropy.Decoder(good[0], book, lanes[i]) if i and good else first
                v32 = self._decode_slice(fresh, good, start(), states, lattice.still)
            except StreamError:
                if lost is None:
                    raise
                good = []  # a CRC passed by chance; the bad segment is unknown: drop the slice
                v32 = self._decode_slice(first, good, start(), states, lattice.still)
            if lost is not None:
                lost.update(numbers[len(good) :])
            return v32

        return decode

    def hyper_latents(
        self,
        segments: Sequence[bytes | None],
        lanes: Sequence[int],
        plane: Plane,
        level: Level,
        lattice: Lattice = AROUND_MEANS,
    ) -> Int64:
        """Decode hyper-latents alone: int64 (hyper, rows, columns); parameters as of `slices`."""
        if segments[0] is None:
            raise CorruptStream("the hyper-latents are missing", remedy="fetch the file again")
        first = entropy.Decoder(segments[0], book_of(self.tables, lattice), lanes[0])
        z = decode_hyper_latents(first, segments[0], self.layout, plane, level)
        self._clock.mark("rans")
        return z

    def _decode_slice(
        self,
        decoder: entropy.Decoder,
        segments: Sequence[bytes],
        context: SliceContext,
        states: int,
        still: bool,
    ) -> Int32:
        """Decode the first steps of a slice; latents of steps without a segment are their means.

        The lanes reach their end state only after all steps.
        """
        for k, step in enumerate(self.predictor.steps):
            predicted = self.predictor.predict(k, context)
            if k >= len(segments):
                continue
            noise = context.noise(step, predicted.position)
            how = predicted, states, noise, still
            recon32 = self._decode_step(decoder, segments[k], *how)
            self._clock.mark("rans")
            context.add(step, predicted.position, recon32)
        if len(segments) == len(self.layout.steps):
            decoder.finish()
        return context.v32

    def _decode_step(
        self,
        decoder: entropy.Decoder,
        segment: bytes,
        predicted: Predicted,
        states: int,
        noise: Noise | None,
        still: bool,
    ) -> Int32:
        """Decode a segment to the values that are added to its means."""
        index = predicted.scale_index
        if noise is not None:
            return dithering.reconstruct(
                decoder.known(segment, index, dithering.classes(noise)), noise
            )
        if still:
            offset = still_lattice.offsets(predicted.mean32)
            k = decoder.known(segment, index, still_lattice.classes(offset))
            return still_lattice.reconstruct(k, offset)
        return decode_symbols(decoder, segment, index, states, self.tables)[1]


def decode_hyper_latents(
    decoder: entropy.Decoder, segment: bytes, layout: Layout, plane: Plane, level: Level
) -> Int64:
    """Decode segment 0 to int64 (hyper, rows, columns)."""
    count = np.prod(plane.hyper)
    index = np.repeat(level.hyper_index, count).astype(np.uint8)
    k = decoder.scalar(segment, index)
    z: Int64 = (k + np.repeat(level.hyper_mean, count)).astype(np.int64)
    return z.reshape(layout.hyper, *plane.hyper)


def decode_symbols(
    decoder: entropy.Decoder, segment: bytes, index: Uint8, states: int, tables: Tables
) -> tuple[Int32, Int32]:
    """Decode a segment without dither to its indices, and to the values added to its means."""
    if states:
        symbols, cls = decoder.trellis(segment, index, next_state(states))
    else:
        symbols = decoder.scalar(segment, index)
        cls = np.zeros(len(symbols), np.uint8)
    return symbols, reconstruct(symbols, cls, index, tables)


def before_the_gap(segments: Sequence[bytes | None]) -> list[bytes]:
    """Return the segments before the first that is missing."""
    there: list[bytes] = []
    for segment in segments:
        if segment is None:
            break
        there.append(segment)
    return there
