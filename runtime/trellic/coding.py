"""Latents of a picture to segments of a stream, and back: the one place that knows their order.

::

    h -> z -> segment 0          z -> h_s -> features
    each slice, each step k:     features, latents so far -> context k -> mean, scale index
                                 encode: t = y - mean -> search -> k     decode: rANS -> k
                                 v = mean + reconstruction
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from . import entropy
from .bitstream import DEFAULT_SLICE_SIDE, Rectangle, slice_grid
from .engines.exact import ExactNetwork
from .entropy.tables import Tables
from .errors import CorruptStream, StreamError
from .exact import cpu as latents
from .exact.levels import Level
from .layout import Layout, Plane, Step
from .quantize.cpu import reconstruct, search
from .quantize.reference import round_to_step
from .quantize.trellis import next_state

Int32 = npt.NDArray[np.int32]
Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Mode = Literal["search", "round"]
Observer = Callable[[Int32, Uint8, Int32, Uint8], None]

STEP32 = 32  # fixed-point units in one scalar step
SYMBOL_LIMIT = 32767  # of an index magnitude
HYPER_LIMIT = 1 << 14  # of a hyper-latent, before its mean is taken off


@dataclass(frozen=True)
class Quantizer:
    """How latents are quantized: number of trellis states (0 is scalar), cost weight, mode."""

    states: int
    lam: int
    mode: Mode = "search"


@dataclass(frozen=True)
class CodedLatents:
    """Segments in file order, lanes of each slice, and the number of payload bytes."""

    segments: list[bytes]
    lanes: list[int]


class LatentCoder:
    """Codes latent planes with the integer networks and tables of one model.

    Parameters
    ----------
    layout, tables : of the bundle
    networks : "h_s" and "context_k"
    """

    def __init__(
        self, layout: Layout, tables: Tables, networks: Mapping[str, ExactNetwork]
    ) -> None:
        self.layout, self.tables, self.networks = layout, tables, networks
        self.steps = layout.steps
        self._member = [layout.step_of == k for k in range(len(self.steps))]

    def encode(
        self,
        f: Float32,
        h: Float32,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
        *,
        lanes: Sequence[int] | None = None,
        slice_side: int = DEFAULT_SLICE_SIDE,
        observe: Observer | None = None,
    ) -> CodedLatents:
        """Code latents.

        Parameters
        ----------
        f : float32 (latents, rows, columns), outputs of g_a, before the gain
        h : float32 (hyper, rows / 4, columns / 4), outputs of h_a, before the gain
        lanes : lanes of each slice; guessed, then set by the size of each slice, if left out
        slice_side : of a slice, in latents
        observe : is shown (t32, scale_index, k, class) of each segment of latents; a slice whose
            lanes were guessed wrongly is shown twice

        Returns
        -------
        CodedLatents
        """
        y32 = np.floor(f * (level.gain_float * STEP32)[:, None, None] + 0.5).astype(np.int64)
        z = _hyper_symbols(h, level)
        hyper = self._hyper_segment(z, level)
        features = self._features(z, level)
        grid = slice_grid(*plane.latents, slice_side)
        guess = list(lanes) if lanes else [_guess_lanes(y32, part) for part in grid]
        coded: list[list[bytes]] = []
        for i, part in enumerate(grid):
            first = [hyper] if i == 0 else []
            for last in (bool(lanes), True):  # a wrong guess of the lanes is mended once
                rest = self._slice(y32, features, part, plane, level, quantizer, guess[i], observe)
                parts = entropy.encode([*first, *rest], self.tables, guess[i])
                right = entropy.choose_lanes(sum(map(len, parts)))
                if last or right == guess[i]:
                    break
                guess[i] = right
            coded.append(parts)
        return CodedLatents(_step_major(coded, len(self.steps)), guess)

    def decode(
        self,
        segments: Sequence[bytes | None],
        lanes: Sequence[int],
        plane: Plane,
        level: Level,
        states: int,
        slice_side: int = DEFAULT_SLICE_SIDE,
        lost: set[int] | None = None,
    ) -> Int32:
        """Decode all latents.

        Parameters
        ----------
        segments : in file order
        lanes : lanes of each slice
        states : of the trellis, 0 for scalar quantization
        slice_side : of a slice, in latents
        lost : if given, segments may be None, and the numbers of those that are, that follow such
            a one in their slice or that do not decode are added: their latents are their means

        Returns
        -------
        int32 (latents, rows, columns), in 1/32 step

        Raises
        ------
        CorruptStream
            When a segment does not decode to an end state, or its symbols leave their range.
        """
        grid = slice_grid(*plane.latents, slice_side)
        if len(segments) != 1 + len(self.steps) * len(grid):
            raise CorruptStream(
                f"the stream has {len(segments)} segments",
                expected=f"{1 + len(self.steps) * len(grid)} for its size and model",
            )
        first, k = self._hyper_latents(segments[0], lanes[0], plane, level)
        mean = np.repeat(level.hyper_mean, np.prod(plane.hyper))
        z = (k + mean).astype(np.int64).reshape(self.layout.hyper, *plane.hyper)
        features = self._features(z, level)
        v32 = np.zeros((self.layout.latents, *plane.latents), np.int32)
        for i, part in enumerate(grid):
            numbers = [1 + s * len(grid) + i for s in range(len(self.steps))]
            window = np.s_[:, part.top : part.bottom, part.left : part.right]
            run = partial(
                self._decode_slice,
                features=np.ascontiguousarray(features[window]),
                part=part,
                plane=plane,
                level=level,
                states=states,
            )
            fresh = partial(entropy.Decoder, tables=self.tables, lanes=lanes[i])
            start = fresh if i else lambda _: first
            own = [segments[number] for number in numbers]
            v32[window], good = _run(run, start, own, forgive=lost is not None)
            if lost is not None:
                lost.update(numbers[good:])
        return v32

    # ---- hyper-latents ----

    def _hyper_index(self, plane: Plane, level: Level) -> Uint8:
        return np.repeat(level.hyper_index, np.prod(plane.hyper)).astype(np.uint8)

    def _hyper_latents(
        self, segment: bytes | None, lanes: int, plane: Plane, level: Level
    ) -> tuple[entropy.Decoder, Int32]:
        """Decode segment 0; its decoder goes on with slice 0."""
        if segment is None:
            raise CorruptStream("the hyper-latents are missing", remedy="fetch the file again")
        decoder = entropy.Decoder(segment, self.tables, lanes)
        return decoder, decoder.scalar(segment, self._hyper_index(plane, level))

    def _hyper_segment(self, z: npt.NDArray[np.int64], level: Level) -> entropy.Segment:
        k = (z - level.hyper_mean[:, None, None]).ravel().astype(np.int32)
        table = np.repeat(level.hyper_index, z[0].size).astype(np.uint16)
        return entropy.Segment(k, table)

    def _features(self, z: npt.NDArray[np.int64], level: Level) -> Float32:
        scaled = (z * level.hyper_scale[:, None, None] + (1 << 15)) >> 16
        plane = np.full((1, *z.shape[1:]), level.plane, np.float32)
        x = np.concatenate([np.clip(scaled, -127, 127).astype(np.float32), plane])
        return self.networks["h_s"](x)[0].astype(np.float32, copy=False)

    # ---- one slice ----

    def _slice(
        self,
        y32: npt.NDArray[np.int64],
        features: Float32,
        part: Rectangle,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
        lanes: int,
        observe: Observer | None,
    ) -> list[entropy.Segment]:
        window = np.s_[:, part.top : part.bottom, part.left : part.right]
        y32, features = y32[window], np.ascontiguousarray(features[window])
        v32 = np.zeros(y32.shape, np.int32)
        segments = []
        for k, step in enumerate(self.steps):
            position, mean32, index = self._predict(k, step, features, v32, part, plane, level)
            target = y32[step.first : step.last].ravel()[position]
            t32 = np.clip(target - mean32, -(1 << 20), 1 << 20).astype(np.int32)
            symbols, cls = self._quantize(t32, index, lanes, quantizer)
            self._fill(v32, step, position, symbols, cls, index)
            table = cls.astype(np.uint16) * self.layout.scales + index
            segments.append(entropy.Segment(symbols, table))
            if observe:
                observe(t32, index, symbols, cls)
        return segments

    def _quantize(
        self, t32: Int32, index: Uint8, lanes: int, quantizer: Quantizer
    ) -> tuple[Int32, Uint8]:
        if quantizer.mode == "round":
            k = round_to_step(t32)
            return k, np.zeros(len(k), np.uint8)
        return search(t32, index, lanes, quantizer.states, self.tables, quantizer.lam)

    def _decode_slice(
        self,
        decoder: entropy.Decoder | None,
        segments: Sequence[bytes],
        features: Float32,
        part: Rectangle,
        plane: Plane,
        level: Level,
        states: int,
    ) -> Int32:
        """Decode the first steps of a slice; latents of steps without a segment are their means."""
        v32 = np.zeros((self.layout.latents, *features.shape[1:]), np.int32)
        for k, step in enumerate(self.steps):
            position, _, index = self._predict(k, step, features, v32, part, plane, level)
            if decoder is None or k >= len(segments):
                continue
            if states:
                symbols, cls = decoder.trellis(segments[k], index, next_state(states))
            else:
                symbols = decoder.scalar(segments[k], index)
                cls = np.zeros(len(symbols), np.uint8)
            self._fill(v32, step, position, symbols, cls, index)
        return v32

    def _predict(
        self,
        k: int,
        step: Step,
        features: Float32,
        v32: Int32,
        part: Rectangle,
        plane: Plane,
        level: Level,
    ) -> tuple[Int32, Int32, Uint8]:
        """Means and scale indices of one step; the means are filled into ``v32``."""
        x = features
        if step.context:
            scale = level.context_scale[: step.context]
            x = np.concatenate([features, latents.context_input(v32[: step.context], scale)])
        mu, log_scale = self.networks[f"context_{k}"](x)
        coded = slice(step.first, step.last)
        rows, columns = plane.coded
        limits = (rows - part.top, columns - part.left, self.layout.skip_index, self.layout.scales)
        return latents.predict(
            np.ascontiguousarray(mu, np.float32),
            np.ascontiguousarray(log_scale, np.float32),
            np.ascontiguousarray(self._member[k][coded]),
            level.gain[coded],
            level.scale_shift[coded],
            limits,
            v32[coded],
        )

    def _fill(
        self, v32: Int32, step: Step, position: Int32, k: Int32, cls: Uint8, index: Uint8
    ) -> None:
        coded = v32[step.first : step.last].reshape(-1)  # a view: the slice is contiguous
        coded[position] += reconstruct(k, cls, index, self.tables)


def _run(
    run: Callable[[entropy.Decoder | None, Sequence[bytes]], Int32],
    start: Callable[[bytes], entropy.Decoder],
    segments: Sequence[bytes | None],
    forgive: bool,
) -> tuple[Int32, int]:
    """Decode a slice, or if ``forgive`` the steps before its first missing segment; count them."""
    good = _before_the_gap(segments)
    if len(good) < len(segments) and not forgive:
        raise CorruptStream("a segment is missing", remedy="fetch the file again")
    try:
        decoder = start(good[0]) if good else None
        v32 = run(decoder, good)
        if decoder is not None and len(good) == len(segments):
            decoder.finish()
    except StreamError:
        if not forgive:
            raise
        return run(None, []), 0  # some segment's check held by chance, and none tells which
    return v32, len(good)


def _before_the_gap(segments: Sequence[bytes | None]) -> list[bytes]:
    there: list[bytes] = []
    for segment in segments:
        if segment is None:
            break
        there.append(segment)
    return there


def _hyper_symbols(h: Float32, level: Level) -> npt.NDArray[np.int64]:
    z = np.floor(h * level.hyper_gain_float[:, None, None] + 0.5)
    symbols: npt.NDArray[np.int64] = np.clip(z, -HYPER_LIMIT, HYPER_LIMIT).astype(np.int64)
    return symbols


def _guess_lanes(y32: npt.NDArray[np.int64], part: Rectangle) -> int:
    """Lanes for a slice before its size is known: about a bit for each doubling of a latent."""
    window = np.abs(y32[:, part.top : part.bottom, part.left : part.right])
    return entropy.choose_lanes(int(np.log2(1 + window / STEP32).sum() / 8))


def _step_major(coded: list[list[bytes]], steps: int) -> list[bytes]:
    """Order segments as the file does: z, then step 0 of every slice, then step 1, ..."""
    hyper, *first = coded[0]
    rows = [first, *coded[1:]]
    return [hyper] + [row[k] for k in range(steps) for row in rows]
