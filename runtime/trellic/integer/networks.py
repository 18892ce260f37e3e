"""Integer networks, evaluated plainly: the reference for every inference engine.

A network is a chain of layers ``clip(floor(acc * 2**-shift + 1/2), low, high)`` on integers (rule:
docs/format.md, "Integer networks"). Products are summed by float64 matrix multiplication, which is
exact below 2**53; engines do the same in float32, which the exporter proves to be exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from trellic.errors import BadBundle

Array = npt.NDArray[np.float64]
KINDS = ("pointwise", "depthwise", "shuffle", "conv")
NO_TABLE: npt.NDArray[np.int32] = np.empty(0, np.int32)


@dataclass(frozen=True)
class IntegerLayer:
    """One layer.

    Attributes
    ----------
    kind : "pointwise", "depthwise" and "conv" (odd kernel, zero padding) or "shuffle" (pixel
        shuffle by 2)
    weight : int8 (out, in) for pointwise, (channels, k, k) for depthwise, (out, in, k, k) for conv,
        empty for shuffle
    bias : int32 (out,)
    shift : uint8 (out,), at least 1
    low, high : clip range of the result
    table : int32 (high - low + 1,), replacements of the clipped results; empty if there are none
    """

    kind: str
    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    shift: npt.NDArray[np.uint8]
    low: int
    high: int
    table: npt.NDArray[np.int32] = field(default_factory=lambda: NO_TABLE)


@dataclass(frozen=True)
class IntegerNetwork:
    """A trunk of layers and one or more heads that all read the trunk's output."""

    trunk: tuple[IntegerLayer, ...]
    heads: tuple[IntegerLayer, ...] = ()

    def __call__(self, x: npt.ArrayLike) -> list[Array]:
        """Evaluate one picture.

        Parameters
        ----------
        x : (channels, height, width), integers

        Returns
        -------
        list of (channels, height, width) float64 with integer values: one per head, or the trunk's
        output if there are no heads
        """
        value = np.asarray(x, np.float64)
        for layer in self.trunk:
            value = evaluate(layer, value)
        return [evaluate(head, value) for head in self.heads] or [value]

    @property
    def channels_in(self) -> int:
        """Number of input channels."""
        return int(self.trunk[0].weight.shape[1])

    @property
    def reach(self) -> int:
        """Largest distance, in input positions, of an input that an output depends on.

        A kernel of side k sees ``(k - 1) / 2`` positions to each side, which are half as
        large after each shuffle.
        """
        reach, scale = 0.0, 1.0
        for layer in self.layers:  # counts heads in a row: never too little
            if layer.kind == "shuffle":
                scale /= 2
            elif layer.kind != "pointwise":
                reach += scale * (layer.weight.shape[-1] // 2)
        return math.ceil(reach)

    @property
    def layers(self) -> tuple[IntegerLayer, ...]:
        """All layers, trunk first."""
        return self.trunk + self.heads


def evaluate(layer: IntegerLayer, x: Array) -> Array:
    """Evaluate one layer on (channels, height, width)."""
    if layer.kind == "shuffle":
        return shuffle(x)
    acc = {"pointwise": _pointwise, "depthwise": _depthwise, "conv": _conv}[layer.kind](layer, x)
    scale = np.exp2(-layer.shift.astype(np.float64))[:, None, None]
    value = np.clip(np.floor(acc * scale + 0.5), layer.low, layer.high)
    if not layer.table.size:
        return value
    return layer.table[value.astype(np.int64) - layer.low].astype(np.float64)


def shuffle(x: Array) -> Array:
    """Pixel shuffle by 2: channel ``c*4 + dy*2 + dx`` goes to channel c, offset (dy, dx)."""
    channels, height, width = x.shape
    parts = x.reshape(channels // 4, 2, 2, height, width).transpose(0, 3, 1, 4, 2)
    return parts.reshape(channels // 4, 2 * height, 2 * width)


def _pointwise(layer: IntegerLayer, x: Array) -> Array:
    channels, height, width = x.shape
    acc = layer.weight.astype(np.float64) @ x.reshape(channels, height * width)
    return (acc + layer.bias[:, None]).reshape(-1, height, width)


def _depthwise(layer: IntegerLayer, x: Array) -> Array:
    size = layer.weight.shape[1]
    _, height, width = x.shape
    padded = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2])
    acc = np.zeros_like(x) + layer.bias[:, None, None]
    for dy in range(size):
        for dx in range(size):
            window = padded[:, dy : dy + height, dx : dx + width]
            acc += layer.weight[:, dy, dx, None, None].astype(np.float64) * window
    return acc


def _conv(layer: IntegerLayer, x: Array) -> Array:
    size = layer.weight.shape[2]
    channels, height, width = x.shape
    padded = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2])
    acc: Array = np.zeros((len(layer.weight), height * width), np.float64)
    acc += layer.bias[:, None]
    for dy in range(size):
        for dx in range(size):
            window = padded[:, dy : dy + height, dx : dx + width].reshape(channels, -1)
            acc += layer.weight[:, :, dy, dx].astype(np.float64) @ window
    return acc.reshape(-1, height, width)


def to_arrays(name: str, network: IntegerNetwork) -> dict[str, npt.NDArray[np.generic]]:
    """Flatten a network to named arrays, for an ``.npz`` file."""
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    for part, layers in (("trunk", network.trunk), ("head", network.heads)):
        for i, layer in enumerate(layers):
            prefix = f"{name}.{part}.{i}."
            arrays[prefix + "kind"] = np.array([KINDS.index(layer.kind)], np.uint8)
            arrays[prefix + "weight"] = layer.weight
            arrays[prefix + "bias"] = layer.bias
            arrays[prefix + "shift"] = layer.shift
            arrays[prefix + "range"] = np.array([layer.low, layer.high], np.int32)
            if layer.table.size:
                arrays[prefix + "table"] = layer.table
    return arrays


def from_arrays(name: str, arrays: Mapping[str, npt.NDArray[np.generic]]) -> IntegerNetwork:
    """Read back what `to_arrays` made.

    Raises
    ------
    BadBundle
        When arrays are missing or their types, shapes or values are not those of a network.
    """
    try:
        trunk, heads = (tuple(_read_part(f"{name}.{part}.", arrays)) for part in ("trunk", "head"))
        if not trunk:
            raise BadBundle(f"integer network {name!r} is missing from the bundle")
        network = IntegerNetwork(trunk, heads)
        outputs(network)
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise BadBundle(f"integer network {name!r} is damaged ({error})") from error
    return network


def outputs(network: IntegerNetwork) -> list[int]:
    """Follow the channels through a network.

    Returns
    -------
    list of int, channels of each head, or of the trunk's output where there are no heads

    Raises
    ------
    ValueError
        When a layer does not fit the one before it.
    """
    if network.trunk[0].kind not in ("pointwise", "conv"):
        raise ValueError("its first layer is neither pointwise nor conv")
    channels = network.channels_in
    for i, layer in enumerate(network.trunk):
        channels = _channels_out(layer, channels, f"trunk layer {i}")
    heads = enumerate(network.heads)
    return [_channels_out(head, channels, f"head {i}") for i, head in heads] or [channels]


def _channels_out(layer: IntegerLayer, channels: int, where: str) -> int:
    shape = layer.weight.shape
    if layer.kind == "shuffle":
        fits, result = channels % 4 == 0, channels // 4
    elif layer.kind == "pointwise":
        fits, result = shape[1] == channels, shape[0]
    else:  # depthwise or conv: the kernel is a square of odd side
        reads, result = (shape[0], channels) if layer.kind == "depthwise" else (shape[1], shape[0])
        fits = reads == channels and shape[-1] == shape[-2] and shape[-1] % 2 == 1
    if not fits:
        raise ValueError(f"{where}, {layer.kind} {shape}, does not fit {channels} channels")
    return result


def _read_part(
    prefix: str, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> Iterable[IntegerLayer]:
    count = 0
    while f"{prefix}{count}.kind" in arrays:
        here = f"{prefix}{count}."
        kind = KINDS[int(arrays[here + "kind"][0])]
        limits = arrays[here + "range"]
        if limits.dtype.str[1:] != "i4" or limits.shape != (2,):
            raise ValueError(f"{here} has a range of {limits.dtype} {limits.shape}")
        low, high = (int(v) for v in limits)
        weight, bias, shift = (arrays[here + field] for field in ("weight", "bias", "shift"))
        table = arrays.get(here + "table", NO_TABLE)
        expected = {"pointwise": 2, "depthwise": 3, "shuffle": 1, "conv": 4}[kind]
        if [a.dtype.str[1:] for a in (weight, bias, shift)] != ["i1", "i4", "u1"]:
            raise ValueError(f"{here} has dtypes {weight.dtype}, {bias.dtype}, {shift.dtype}")
        if weight.ndim != expected or not bias.ndim == shift.ndim == 1 or low > high:
            raise ValueError(f"{here} has shapes {weight.shape}, {bias.shape}, {shift.shape}")
        if kind != "shuffle" and not len(weight) == len(bias) == len(shift) > 0:
            raise ValueError(f"{here} has {len(weight)} outputs, {len(bias)} biases")
        if kind != "shuffle" and (shift.min() < 1 or shift.max() > 30):
            raise ValueError(f"{here} has shifts outside 1..30")
        if table.dtype.str[1:] != "i4" or (table.size and table.shape != (high - low + 1,)):
            raise ValueError(f"{here} has a table of {table.dtype} {table.shape} for {low}..{high}")
        yield IntegerLayer(
            kind,
            weight.astype(np.int8),
            bias.astype(np.int32),
            shift.astype(np.uint8),
            low,
            high,
            table.astype(np.int32),
        )
        count += 1
