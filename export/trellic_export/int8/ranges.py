"""The range that the 8 bits of a value span: the one of least squared error, from histograms.

The sums before a leaky ReLU are measured behind it. Values below 0 count little there, so the range
may cut them. Ranges from extremes or percentiles have several times the error
(docs/experiments/int8.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from trellic.engines import Arrays
from trellic.engines.ort import OrtEngine
from trellic_export.int8.flow import Chain, Layer

BINS = 2048
SHARES = np.linspace(0.1, 1, 10)  # of the lowest and the highest value that was seen
LEVELS = 255  # steps between the smallest and the largest 8-bit number
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """Values that 8 bits span, 0 among them."""

    low: float
    high: float

    @property
    def step(self) -> np.float32:
        """Difference of the values of two neighbouring 8-bit numbers."""
        return np.float32(max((self.high - self.low) / LEVELS, 1e-12))

    @property
    def zero(self) -> np.uint8:
        """The number that stands for 0."""
        return np.uint8(np.clip(np.rint(-self.low / self.step), 0, LEVELS))

    def rounded(self, values: Floats) -> Floats:
        """Return values after rounding to 8 bits."""
        zero, step = float(self.zero), float(self.step)
        codes = np.clip(np.rint(values / step) + zero, 0, LEVELS)
        return np.asarray((codes - zero) * step, np.float64)


@dataclass
class Seen:
    """Statistics of one value: extremes, a histogram between them, channel peaks, positions."""

    low: float = 0.0
    high: float = 0.0
    peaks: Floats | float = 0.0
    counts: Floats | float = 0.0
    positions: int = 0

    def extend(self, value: npt.NDArray[np.float32]) -> None:
        """First pass: extremes and peaks of an array (n, channels, h, w)."""
        self.low, self.high = min(self.low, value.min()), max(self.high, value.max())
        self.peaks = np.maximum(self.peaks, np.abs(value).max((0, 2, 3)))
        self.positions += value[:, 0].size

    def count(self, value: npt.NDArray[np.float32]) -> None:
        """Second pass: the histogram."""
        edges = (self.low, max(self.high, self.low + 1e-9))
        self.counts = self.counts + np.histogram(value, BINS, edges)[0]

    def range(self, slope: float = 1.0) -> Range:
        """Range of least squared error behind an activation of a slope below 0."""
        centres = self.low + (np.arange(BINS) + 0.5) / BINS * (self.high - self.low)
        candidates = [Range(self.low * a, self.high * b) for a in SHARES for b in SHARES]
        target = leaky(centres, slope)

        def error(candidate: Range) -> float:
            return float(
                np.sum(self.counts * (leaky(candidate.rounded(centres), slope) - target) ** 2)
            )

        return min(candidates, key=error)


def leaky(values: Floats, slope: float) -> Floats:
    """Apply a leaky ReLU."""
    return np.where(values < 0, slope * values, values)


def observe(data: bytes, names: Iterable[str], samples: Sequence[Arrays]) -> dict[str, Seen]:
    """Run a graph on samples and look at some of its values."""
    wanted = sorted(set(names))
    engine = _probe(data, wanted)
    seen = {name: Seen() for name in wanted}
    for look in (Seen.extend, Seen.count):
        for sample in samples:
            for name, value in zip(wanted, engine(sample), strict=True):
                look(seen[name], value)
    return seen


def chain_values(chains: Iterable[Chain]) -> set[str]:
    """Names of the values that chains read and make."""
    return {n for chain in chains for layer in chain for n in (layer.source, layer.acc, layer.out)}


def ranges(seen: dict[str, Seen], chains: Iterable[Chain]) -> dict[str, Range]:
    """Ranges of the values that become 8-bit: inputs of chains, and their sums except the last."""
    found: dict[str, Range] = {}
    for chain in chains:
        found[chain[0].source] = seen[chain[0].source].range()
        for layer in chain[:-1]:
            found |= _of_layer(seen, layer)
    return found


def _of_layer(seen: dict[str, Seen], layer: Layer) -> dict[str, Range]:
    acc = seen[layer.acc].range(layer.slope)
    return {layer.acc: acc, layer.out: Range(layer.slope * acc.low, acc.high)}


def _probe(data: bytes, names: Sequence[str]) -> OrtEngine:
    model = onnx.load_from_string(data)
    del model.graph.output[:]
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    return OrtEngine(model.SerializeToString())
