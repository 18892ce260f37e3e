"""Code a picture with each adapter, and choose among them, for `benchmarks.choice`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from benchmarks.codecs import Pixels
from benchmarks.metrics import psnr
from trellic import bitstream
from trellic.codec import Codec
from trellic.errors import TrellicWarning
from trellic.geometry import BLOCK, MIN_SLICE_SIDE, SIDE_MULTIPLE, Rectangle, blocks, slice_grid
from trellic.limits import ADAPTER_ID_BYTES
from trellic.scored import ssimulacra2

QUALITIES = (25, 50, 75)
STATES = 8  # of the trellis
SLICE = 32  # blocks a side of a slice at least: 512 pixels
MEASURES = ("ssimulacra2", "psnr")
Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coded:
    """A picture in a file.

    Attributes
    ----------
    size : bytes, of which adapters take one
    slices : bytes of each slice
    errors : sum of squared errors of each slice
    shown : the decoded picture
    """

    size: int
    slices: Floats
    errors: Floats
    shown: Pixels


def slice_side(width: int, height: int) -> int:
    """Return the least side from `SLICE` on that leaves no thin strip, in blocks."""
    for side in range(SLICE, 2 * SLICE, SIDE_MULTIPLE):
        ends = [length % side for length in blocks(width, height) if length > side]
        if not any(0 < end < MIN_SLICE_SIDE for end in ends):
            return side
    return SLICE


@contextmanager
def small_slices() -> Iterator[None]:
    """Make encoders use slices of about 512 pixels a side."""
    with (
        mock.patch("trellic.geometry.choose_slice_side", slice_side),
        mock.patch("trellic.pipeline.header.choose_slice_side", slice_side),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", TrellicWarning)  # the adapters are not installed
        yield


def areas(header: bitstream.Header) -> list[Rectangle]:
    """Return the areas of a file's slices, in pixels."""
    whole = Rectangle(0, header.height, 0, header.width)
    grid = slice_grid(*blocks(header.width, header.height), header.slice_side)
    return [area.finer(BLOCK).within(whole) for area in grid]


def coded(codec: Codec, pixels: Pixels, quality: float) -> tuple[Coded, list[Rectangle]]:
    """Code a picture, and tell what each slice takes."""
    data = codec.encode(pixels, quality=quality, trellis=STATES)
    shown, stream = codec.decode(data), bitstream.read(data)
    header, segments = stream.header, stream.segments
    parts = areas(header)
    lengths = [
        sum(len(segments[header.segment_index(step, i)]) for step in range(header.steps))
        for i in range(len(parts))
    ]
    squares = (shown.astype(np.float64) - pixels) ** 2
    errors = [squares[area.index()].sum() for area in parts]
    extra = 0 if header.adapter is None else ADAPTER_ID_BYTES + 1  # of 6 bytes, one stays
    return Coded(len(data) - extra, np.array(lengths, float), np.array(errors), shown), parts


def point(size: float, shown: Pixels, pixels: Pixels, quality: float) -> Row:
    """Return one point of a curve."""
    scores = {"ssimulacra2": ssimulacra2(pixels, shown), "psnr": psnr(pixels, shown)}
    return {"quality": quality, "bytes": size} | scores


def measured(codecs: Sequence[Codec], pixels: Pixels) -> Row:
    """Code a picture with each codec, the first of which has no adapter."""
    made: list[list[Coded]] = []
    with small_slices():
        for codec in codecs:
            results = [coded(codec, pixels, quality) for quality in QUALITIES]
            made.append([one for one, _ in results])
            parts = results[0][1]
    curves = [
        [
            point(one.size, one.shown, pixels, quality)
            for one, quality in zip(each, QUALITIES, strict=True)
        ]
        for each in made
    ]
    row: Row = {"slices": len(parts), "curves": curves}
    if len(parts) > 1:
        row |= by_slice(made, parts, pixels)
    return row


def by_slice(made: Sequence[Sequence[Coded]], parts: Sequence[Rectangle], pixels: Pixels) -> Row:
    """Choose a codec for each slice by bytes and squared error, and measure what is shown.

    What is not of a slice, such as hyper-latents, counts as the mean over the chosen codecs'.
    """
    plain = made[0]
    worth = prices([one.size for one in plain], [one.errors.sum() for one in plain])
    curve, chosen = [], []
    for i, quality in enumerate(QUALITIES):
        options = [each[i] for each in made]
        cost = np.array([one.slices + worth[i] * one.errors for one in options])
        best = cost.argmin(0)
        shown = plain[i].shown.copy()
        for area, which in zip(parts, best, strict=True):
            shown[area.index()] = options[which].shown[area.index()]
        rest = np.mean([options[which].size - options[which].slices.sum() for which in best])
        size = sum(options[which].slices[n] for n, which in enumerate(best)) + rest
        curve.append(point(float(size), shown, pixels, quality))
        chosen.append(best.tolist())
    return {"by_slice": curve, "chosen": chosen}


def prices(sizes: Sequence[float], errors: Sequence[float]) -> Floats:
    """Return what a unit of error is worth in bytes at each point of a curve.

    It is the slope of the curve, between logarithms of both.
    """
    logs = np.gradient(np.log(sizes), np.log(np.maximum(errors, 1e-9)))
    return -logs * np.asarray(sizes) / np.maximum(errors, 1e-9)
