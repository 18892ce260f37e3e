"""Integer networks on bytes, compiled: an engine for processors with AVX-512 VNNI or AVX2.

Values are bytes, those of layers whose results may be negative with 128 added. Four channels are a
word, and the words of a plane lie position by position, as `vectors` reads them. The integers are
the same as those of `networks.IntegerNetwork`.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.errors import EngineError
from trellic.integer import kernels, vectors
from trellic.integer.kernels import OFFSET, TILE, WORD, Float32, Int32, Words
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic.support.cores import usable_cores

LEAST_BAND = 8  # rows at least for each thread
LINE = 16  # words of a line of cache
Weight = npt.NDArray[np.integer[Any]]


def runs_compiled(network: IntegerNetwork) -> bool:
    """Whether `CompiledNetwork` can run a network on this processor.

    Its inputs have to be bytes too: see `gives_bytes`.
    """
    inner, ends = _split(network)
    return (
        vectors.found() is not None
        and all(_fits(layer) and _in_bytes(layer) for layer in inner)
        and all(_fits(layer) and layer.kind == "pointwise" for layer in ends)
    )


def gives_bytes(network: IntegerNetwork) -> bool:
    """Whether all outputs of a network are in [-128, 127], as inputs of another have to be."""
    return all(_in_bytes(layer) for layer in network.heads or network.trunk[-1:])


def _split(
    network: IntegerNetwork,
) -> tuple[tuple[IntegerLayer, ...], tuple[IntegerLayer, ...]]:
    """Separate the layers whose results are outputs from the others."""
    if network.heads:
        return network.trunk, network.heads
    return network.trunk[:-1], network.trunk[-1:]


def _fits(layer: IntegerLayer) -> bool:
    """Whether there is a kernel for a layer, and its sums fit 32 bits."""
    if layer.kind == "shuffle":
        return True
    weight = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1).sum(1)
    rest = np.abs(layer.bias.astype(np.int64)) + (1 << int(layer.shift.max()))
    known = layer.kind in ("pointwise", "depthwise") and not layer.table.size
    return known and int((2 * OFFSET * weight + rest).max()) < 1 << 31


def _in_bytes(layer: IntegerLayer) -> bool:
    return layer.low >= -OFFSET and layer.high < OFFSET


@dataclass(frozen=True)
class _Layer:
    """A layer, packed.

    Attributes
    ----------
    side : of its kernel
    weight : (results / 4, steps, 4, 4), as `vectors.packed` makes it; a step is a word of inputs
        of a pointwise layer, or a tap of a depthwise one
    bias : int32 (results,), with the half for rounding, and without the effect of the input's
        offset
    shift : int32 (results,)
    offset_in, offset_out : added to its inputs and to its results, so that they are bytes
    """

    kind: str
    side: int
    weight: Weight
    bias: Int32
    shift: Int32
    low: int
    high: int
    offset_in: int
    offset_out: int


class CompiledNetwork:
    """An integer network as an engine: input "x", one output for each head.

    Each thread computes a band of rows, from the rows that it depends on.

    Parameters
    ----------
    network : one that `runs_compiled`
    threads : int, 0 for one per processor

    Raises
    ------
    EngineError
        When the network is another one.
    """

    def __init__(self, network: IntegerNetwork, threads: int = 1) -> None:
        if not runs_compiled(network):
            raise EngineError("an integer network does not run in bytes on this processor")
        inner, ends = _split(network)
        offset, self._inner = OFFSET, []
        for layer in inner:
            self._inner.append(_pack(layer, offset))
            offset = self._inner[-1].offset_out
        self._ends = [(len(end.weight), _pack(end, offset)) for end in ends]
        self._scale = 2 ** sum(layer.kind == "shuffle" for layer in inner)
        self._reach, self._threads = network.reach, threads or usable_cores()

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[Float32]:
        """Evaluate: "x", (1, channels, h, w) integers in [-128, 127] as float32, to float32."""
        try:
            return self._in_bands(inputs["x"][0])
        except Exception as error:  # of numba, threads or memory
            raise EngineError(f"an integer network failed: {error}") from error

    def _in_bands(self, x: Float32) -> list[Float32]:
        bands = min(self._threads, x.shape[1] // max(LEAST_BAND, self._reach))
        if bands < 2:
            return [result[None] for result in self._run(x)]
        edges = [x.shape[1] * i // bands for i in range(bands + 1)]
        with ThreadPoolExecutor(bands) as pool:  # costs 0.1 ms; a permanent one breaks in a fork
            parts = list(pool.map(partial(self._band, x), edges[:-1], edges[1:]))
        return [np.concatenate(part, 1)[None] for part in zip(*parts, strict=True)]

    def _band(self, x: Float32, first: int, last: int) -> list[Float32]:
        """Evaluate some input rows, from them and the rows around them."""
        above = min(first, self._reach)
        results = self._run(x[:, first - above : last + self._reach])
        return [y[:, above * self._scale : (above + last - first) * self._scale] for y in results]

    def _run(self, x: Float32) -> list[Float32]:
        channels, height, width = x.shape
        value = _planes(channels, height * width)
        kernels.turn(np.ascontiguousarray(x, np.float32).reshape(channels, -1), value)
        for layer in self._inner:
            value, height, width = _evaluate(layer, value, height, width)
        results = []
        for count, end in self._ends:
            out = np.empty((len(end.bias), max(height * width, TILE)), np.float32)
            kernels.pointwise_end(value, height * width, *_arguments(end), out)
            results.append(out[:count, : height * width].reshape(count, height, width))
        return results


def _evaluate(layer: _Layer, x: Words, height: int, width: int) -> tuple[Words, int, int]:
    if layer.kind == "shuffle":
        out = _planes(len(x), 4 * height * width)
        kernels.shuffle(x, height, width, out)
        return out, 2 * height, 2 * width
    out = _planes(len(layer.bias), height * width)
    added: Any = np.int32(layer.offset_out)
    if layer.kind == "pointwise":
        kernels.pointwise(x, height * width, *_arguments(layer), added, out)
    else:
        fill = np.uint32(layer.offset_in * 0x01010101)  # the same byte four times
        kernels.depthwise(x, height, width, layer.side, fill, *_arguments(layer), added, out)
    return out, height, width


def _arguments(layer: _Layer) -> tuple[Weight, Int32, Int32, Any, Any]:
    return layer.weight, layer.bias, layer.shift, np.int32(layer.low), np.int32(layer.high)


def _planes(channels: int, positions: int) -> Words:
    """Room for the words of some channels and positions, at least of a tile.

    Words that nobody writes may hold anything, because they are multiplied by zeros, or their sums
    are not used. Planes are an odd number of lines apart, so that the cache has room for many at
    once.
    """
    lines = -(-max(positions, TILE) // LINE) | 1
    return np.empty((-(-channels // WORD), lines * LINE), np.uint32)


def _pack(layer: IntegerLayer, offset_in: int) -> _Layer:
    """Bring a layer into the form that the kernels read."""
    if layer.kind == "shuffle":
        none = np.empty(0, np.int32)
        return _Layer("shuffle", 1, np.empty(0, np.int8), none, none, 0, 0, offset_in, offset_in)
    count = len(layer.weight)
    flat = layer.weight.reshape(count, -1).astype(np.int64)
    bias = layer.bias.astype(np.int64) + (np.int64(1) << (layer.shift.astype(np.int64) - 1))
    pack = _by_tap if layer.kind == "depthwise" else _by_word
    more = (0, -count % WORD)
    return _Layer(
        layer.kind,
        layer.weight.shape[-1] if layer.kind == "depthwise" else 1,
        pack(np.pad(flat.astype(np.int8), (more, (0, 0)))),
        np.pad((bias - offset_in * flat.sum(1)).astype(np.int32), more),
        np.pad(layer.shift.astype(np.int32), more),
        layer.low,
        layer.high,
        offset_in,
        OFFSET if layer.low < 0 else 0,
    )


def _by_word(weight: npt.NDArray[np.int8]) -> Weight:
    """Order (results, inputs) by four results, then by four inputs."""
    full = np.pad(weight, ((0, 0), (0, -weight.shape[1] % WORD)))
    parts = full.reshape(-1, WORD, full.shape[1] // WORD, WORD)
    return vectors.packed(parts.transpose(0, 2, 1, 3))


def _by_tap(weight: npt.NDArray[np.int8]) -> Weight:
    """Order (channels, taps) by four channels, then by taps; each channel reads only itself."""
    parts = weight.reshape(-1, WORD, weight.shape[1]).transpose(0, 2, 1)
    return vectors.packed(parts[..., None] * np.eye(WORD, dtype=np.int8))
