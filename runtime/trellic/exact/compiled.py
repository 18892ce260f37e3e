"""Integer networks on bytes, compiled: an engine for processors with AVX-512 VNNI.

Values lie position by position, the channels of one beside each other, as bytes: those of layers
whose results may be negative with 128 added. Same integers as `networks.IntegerNetwork`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .._numba import njit
from . import vnni
from .networks import IntegerLayer, IntegerNetwork

OFFSET = 128  # added to values that may be negative
POSITIONS, OUTPUTS, DEPTH = vnni.POSITIONS, vnni.OUTPUTS, vnni.DEPTH
LEAST_BAND = 8  # rows
BLOCK = 8 * POSITIONS  # positions whose sums are kept at a time
TRANSPOSED = 64  # positions that are turned at a time
Bytes = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
dot_tile = vnni.dot_tile


def runs_compiled(network: IntegerNetwork) -> bool:
    """Whether `CompiledNetwork` can run a network on this processor."""
    inner, last = network.trunk[:-1], network.trunk[-1:]
    inner, ends = (inner + last, network.heads) if network.heads else (inner, last)
    return (
        vnni.available()
        and all(_fits(layer) and _in_bytes(layer) for layer in inner)
        and all(_fits(layer) and layer.kind == "pointwise" for layer in ends)
    )


def _fits(layer: IntegerLayer) -> bool:
    """Whether there is a kernel for a layer, and its sums fit 32 bits."""
    if layer.kind == "shuffle":
        return True
    weight = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1).sum(1)
    largest = 2 * OFFSET * weight + np.abs(layer.bias.astype(np.int64)) + (1 << layer.shift.max())
    known = layer.kind in ("pointwise", "depthwise") and not layer.table.size
    return known and int(largest.max()) < 1 << 31


def _in_bytes(layer: IntegerLayer) -> bool:
    return layer.low >= -OFFSET and layer.high < OFFSET


@dataclass(frozen=True)
class _Layer:
    """A layer, packed.

    Attributes
    ----------
    weight : pointwise int8 (outputs / 64, inputs / 4, 4, 16, 4); depthwise int16 (k * k, channels)
    bias : int32 (out,), with the rounding half and what takes the input's offset out again
    shift : int32 (out,)
    offset_in, offset_out : added to its inputs and to its results, so that they are bytes
    """

    kind: str
    weight: npt.NDArray[Any]
    bias: Int32
    shift: Int32
    low: int
    high: int
    offset_in: int
    offset_out: int


class CompiledNetwork:
    """An integer network as an engine: input "x", one output a head.

    Several threads take bands of rows each, with as many more around as these depend on.

    Parameters
    ----------
    network : one that `runs_compiled`
    threads : int, 0 for one a processor
    """

    def __init__(self, network: IntegerNetwork, threads: int = 1) -> None:
        inner, ends = network.trunk, network.heads
        if not ends:
            inner, ends = inner[:-1], inner[-1:]
        offset, self._inner = OFFSET, []
        for layer in inner:
            self._inner.append(_pack(layer, offset))
            offset = self._inner[-1].offset_out
        self._ends = [_pack(end, offset) for end in ends]
        self._scale = 2 ** sum(layer.kind == "shuffle" for layer in inner)
        self._reach, self._threads = network.reach, threads or os.cpu_count() or 1

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Float32]:
        """Evaluate: "x", (1, channels, h, w) integers in [-127, 127] as float32, to the same."""
        x = inputs["x"][0]
        bands = min(self._threads, x.shape[1] // max(LEAST_BAND, self._reach))
        if bands < 2:
            return [result[None] for result in self._run(x)]
        edges = [x.shape[1] * i // bands for i in range(bands + 1)]
        with ThreadPoolExecutor(bands) as pool:  # costs 0.1 ms; one that stays breaks in a fork
            parts = list(pool.map(partial(self._band, x), edges[:-1], edges[1:]))
        return [np.concatenate(part, 1)[None] for part in zip(*parts, strict=True)]

    def _band(self, x: Float32, first: int, last: int) -> list[Float32]:
        """Evaluate some input rows, from those and the rows around that they depend on."""
        above = min(first, self._reach)
        results = self._run(x[:, first - above : last + self._reach])
        return [y[:, above * self._scale : (above + last - first) * self._scale] for y in results]

    def _run(self, x: Float32) -> list[Float32]:
        channels, height, width = x.shape
        value = _rows(height * width, channels)
        _turn(np.ascontiguousarray(x, np.float32).reshape(channels, -1), value)
        for layer in self._inner:
            value, height, width = _evaluate(layer, value, height, width)
        results = []
        for end in self._ends:
            out = np.empty((len(end.bias), height * width), np.float32)
            _pointwise_end(value, end.weight, end.bias, end.shift, end.low, end.high, out)
            results.append(out.reshape(-1, height, width))
        return results


def _evaluate(layer: _Layer, x: Bytes, height: int, width: int) -> tuple[Bytes, int, int]:
    if layer.kind == "shuffle":
        out = _rows(4 * height * width, x.shape[1] // 4)
        _shuffle(x, height, width, out)
        return out, 2 * height, 2 * width
    out = _rows(height * width, len(layer.bias))
    packed = layer.weight, layer.bias, layer.shift, layer.low, layer.high
    if layer.kind == "pointwise":
        _pointwise(x, *packed, layer.offset_out, out)
    else:
        _depthwise(x, height, width, layer.offset_in, *packed, layer.offset_out, out)
    return out, height, width


def _rows(positions: int, channels: int) -> Bytes:
    """Room for the bytes of some positions and channels, rounded up to whole tiles.

    What nobody writes may hold anything: it is multiplied by zeros, or its sums are not used.
    """
    return np.empty((-(-positions // POSITIONS) * POSITIONS, _padded(channels)), np.uint8)


def _padded(channels: int) -> int:
    return -(-channels // DEPTH) * DEPTH


def _pack(layer: IntegerLayer, offset_in: int) -> _Layer:
    """Bring a layer into the form that the kernels read."""
    offset_out = OFFSET if layer.low < 0 else 0
    none = np.empty(0, np.int32)
    if layer.kind == "shuffle":
        return _Layer("shuffle", none, none, none, 0, 0, offset_in, offset_in)
    shift = layer.shift.astype(np.int32)
    bias = layer.bias.astype(np.int64) + (np.int64(1) << (layer.shift.astype(np.int64) - 1))
    weight: npt.NDArray[Any]
    if layer.kind == "depthwise":
        weight = np.ascontiguousarray(layer.weight.reshape(len(shift), -1).T.astype(np.int16))
    else:
        bias = bias - offset_in * layer.weight.astype(np.int64).sum(1)
        weight = _tiles(layer.weight)
    limits = layer.low, layer.high
    return _Layer(layer.kind, weight, bias.astype(np.int32), shift, *limits, offset_in, offset_out)


def _tiles(weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Order the weights (out, in) as `vnni.dot_tile` reads them, with zeros to whole tiles."""
    outputs, inputs = weight.shape
    full = np.zeros((-(-outputs // OUTPUTS) * OUTPUTS, _padded(inputs)), np.int8)
    full[:outputs, :inputs] = weight
    parts = full.reshape(-1, vnni.VECTORS, vnni.LANES, full.shape[1] // DEPTH, DEPTH)
    return np.ascontiguousarray(parts.transpose(0, 3, 1, 2, 4))


@njit
def _turn(x: Float32, out: Bytes) -> None:
    """Channel by channel to position by position."""
    channels, count = x.shape
    for start in range(0, count, TRANSPOSED):
        stop = min(start + TRANSPOSED, count)
        for c in range(channels):
            for i in range(start, stop):
                out[i, c] = np.uint8(np.int32(x[c, i]) + OFFSET)


@njit
def _shuffle(x: Bytes, height: int, width: int, out: Bytes) -> None:
    channels = x.shape[1] // 4
    for y in range(height):
        for column in range(width):
            source = y * width + column
            for dy in range(2):
                for dx in range(2):
                    target = (2 * y + dy) * 2 * width + 2 * column + dx
                    for c in range(channels):
                        out[target, c] = x[source, 4 * c + 2 * dy + dx]


@njit
def _sums(x: Bytes, weight: Any, group: int, start: int, stop: int, out: Int32) -> None:
    """Make the sums of products of some positions and the 64 outputs of a group: int32 (48, 64)."""
    inputs = x.shape[1]
    weights = weight.ctypes.data + group * inputs * OUTPUTS
    for p in range(start, stop, POSITIONS):
        rows = x.ctypes.data + p * inputs
        sums = out.ctypes.data + (p - start) * OUTPUTS * 4
        dot_tile(rows, inputs, weights, inputs // DEPTH, sums)


@njit
def _pointwise(
    x: Bytes,
    weight: Any,
    bias: Int32,
    shift: Int32,
    low: int,
    high: int,
    offset: int,
    out: Bytes,
) -> None:
    least, most, added = np.int32(low), np.int32(high), np.int32(offset)
    sums = np.empty((BLOCK, OUTPUTS), np.int32)
    for start in range(0, len(x), BLOCK):
        stop = min(start + BLOCK, len(x))
        for group in range(len(weight)):
            _sums(x, weight, group, start, stop, sums)
            first = group * OUTPUTS
            count = min(OUTPUTS, len(bias) - first)
            b, s = bias[first : first + count], shift[first : first + count]
            for p in range(start, stop):
                for c in range(count):
                    value = min(max((sums[p - start, c] + b[c]) >> s[c], least), most)
                    out[p, first + c] = value + added


@njit
def _pointwise_end(
    x: Bytes, weight: Any, bias: Int32, shift: Int32, low: int, high: int, out: Float32
) -> None:
    """Like `_pointwise`, to channel by channel."""
    least, most = np.int32(low), np.int32(high)
    sums = np.empty((BLOCK, OUTPUTS), np.int32)
    channels, count = out.shape
    for start in range(0, len(x), BLOCK):
        stop = min(start + BLOCK, len(x))
        for group in range(len(weight)):
            _sums(x, weight, group, start, stop, sums)
            for c in range(group * OUTPUTS, min((group + 1) * OUTPUTS, channels)):
                b, s = bias[c], shift[c]
                for p in range(start, min(stop, count)):
                    value = (sums[p - start, c - group * OUTPUTS] + b) >> s
                    out[c, p] = min(max(value, least), most)


@njit
def _depthwise(
    x: Bytes,
    height: int,
    width: int,
    offset_in: int,
    weight: Any,
    bias: Int32,
    shift: Int32,
    low: int,
    high: int,
    offset: int,
    out: Bytes,
) -> None:
    taps, channels = weight.shape
    side = round(math.sqrt(taps))
    half = side // 2
    least, most = np.int32(low), np.int32(high)
    added, taken = np.int32(offset), np.int32(offset_in)
    sums = np.empty(channels, np.int32)
    for y in range(height):
        for column in range(width):
            for c in range(channels):
                sums[c] = bias[c]
            for dy in range(max(-half, -y), min(half, height - 1 - y) + 1):
                for dx in range(max(-half, -column), min(half, width - 1 - column) + 1):
                    near = x[(y + dy) * width + column + dx]
                    kernel = weight[(dy + half) * side + dx + half]
                    for c in range(channels):
                        sums[c] += np.int32(kernel[c]) * (np.int32(near[c]) - taken)
            for c in range(channels):
                value = min(max(sums[c] >> shift[c], least), most)
                out[y * width + column, c] = value + added
