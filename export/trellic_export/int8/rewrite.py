"""Write a graph again with some of its chains in 8 bits.

Onnxruntime turns this form into its fast kernels on CPUs (checked in the graph that it optimizes):
channels last, activations uint8 with one scale, weights int8 with a scale for each channel. Within
a chain, Q/DQ around Conv becomes QLinearConv. The last layer of a chain is a MatMul with a float32
result, so that sums of residual branches are never rounded. All operators are standard, so engines
without 8-bit kernels compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trellic_export.builder import GraphBuilder
from trellic_export.int8.flow import Chain, Flow, Layer, attributes_of, channel_peaks
from trellic_export.int8.ranges import Range

Layout = Literal["nchw", "nhwc"]
PERMUTATIONS: dict[Layout, list[int]] = {"nchw": [0, 3, 1, 2], "nhwc": [0, 2, 3, 1]}
OTHER: dict[Layout, Layout] = {"nchw": "nhwc", "nhwc": "nchw"}
LARGEST = 127  # of an int8 weight: symmetric


def rewrite(flow: Flow, chosen: list[int], ranges: Mapping[str, Range]) -> bytes:
    """Return the graph with the chosen chains in 8 bits.

    Parameters
    ----------
    flow : the graph
    chosen : numbers of chains
    ranges : of the values of these chains
    """
    return _Writer(flow, [flow.chains[i] for i in chosen], ranges).graph()


class _Writer:
    """Writes the new graph; keeps each value in the layouts that were needed so far."""

    def __init__(self, flow: Flow, chains: list[Chain], ranges: Mapping[str, Range]) -> None:
        self.flow, self.ranges, self.build = flow, ranges, GraphBuilder()
        self.starts = {chain[0].acc: chain for chain in chains}
        self.done = {name for chain in chains for layer in chain for name in (layer.acc, layer.out)}
        self.values: dict[str, dict[Layout, str]] = {
            value.name: {"nchw": value.name} for value in flow.inputs
        }
        self.rounded: dict[str, dict[Layout, str]] = {}

    def graph(self) -> bytes:
        for node in self.flow.nodes:
            first = node.output[0]
            if first in self.starts:
                self._chain(self.starts[first])
            elif first in self.done:
                continue
            elif node.op_type == "Add" and self._any_last(node):
                names = [self._value(name, "nhwc") for name in node.input]
                self.values[first] = {"nhwc": self.build.add("Add", *names)}
            elif first.endswith("_equal"):
                self._equal(node)
            else:
                self._copy(node)
        for output in self.flow.outputs:
            self.build.rename(self._value(output.name, "nchw"), output.name)
        return self.build.finish(self.flow.inputs, self.flow.outputs)

    # ---- nodes that stay ----

    def _copy(self, node: Any) -> None:
        names = [self._value(name, "nchw") for name in node.input]
        attributes = attributes_of(node)
        if len(node.output) == 1:
            made = [self.build.add(node.op_type, *names, **attributes)]
        else:
            sizes = self.flow.constants[node.input[1]]  # of Split, the only such operator of ours
            made = self.build.split(names[0], [int(size) for size in sizes])
        for name, value in zip(node.output, made, strict=True):
            self.values[name] = {"nchw": value}

    def _any_last(self, node: Any) -> bool:
        """Whether an Add can stay in channels last, because an operand is in it already."""
        none_constant = not any(name in self.flow.constants for name in node.input)
        return none_constant and any("nhwc" in self.values[name] for name in node.input)

    def _equal(self, node: Any) -> None:
        """Multiply by the constant of `equalize`, channels last."""
        source, factor = node.input
        scale = self.build.constant(self.flow.constants[factor].reshape(-1))
        self.values[node.output[0]] = {
            "nhwc": self.build.add("Mul", self._value(source, "nhwc"), scale)
        }

    # ---- values ----

    def _value(self, name: str, layout: Layout) -> str:
        if name in self.flow.constants:
            return self.build.constant(self.flow.constants[name])
        return self._in_layout(self.values[name], layout)

    def _in_layout(self, known: dict[Layout, str], layout: Layout) -> str:
        if layout not in known:
            source = known[OTHER[layout]]
            known[layout] = self.build.add("Transpose", source, perm=PERMUTATIONS[layout])
        return known[layout]

    def _eight(self, name: str, layout: Layout) -> str:
        """Return a value that went through 8 bits."""
        if name not in self.rounded:
            at: Layout = "nhwc" if "nhwc" in self.values[name] else "nchw"
            rounded = self._round(self._value(name, at), name)
            self.rounded[name] = {at: rounded}
        return self._in_layout(self.rounded[name], layout)

    def _round(self, value: str, name: str) -> str:
        found = self.ranges[name]
        step, zero = self.build.constant(found.step), self.build.constant(found.zero)
        codes = self.build.add("QuantizeLinear", value, step, zero)
        return self.build.add("DequantizeLinear", codes, step, zero)

    # ---- chains ----

    def _chain(self, chain: Chain) -> None:
        for layer in chain[:-1]:
            self._within(layer)
        self._last(chain[-1])

    def _within(self, layer: Layer) -> None:
        weight, scale = self._weight(self.flow.constants[layer.weight], 0)
        unit = (self.ranges[layer.source].step * scale).astype(np.float32)
        codes = np.rint(self.flow.constants[layer.bias] / unit).astype(np.int32)
        bias = self._dequantized(codes, unit, 0)
        source = self._eight(layer.source, "nchw")
        value = self.build.add("Conv", source, weight, bias, **layer.attributes)
        value = self._round(value, layer.acc)
        if layer.slope != 1:
            value = self.build.add("LeakyRelu", value, alpha=layer.slope)
            value = self._round(value, layer.out)
        self.rounded[layer.out] = {"nchw": value}

    def _last(self, layer: Layer) -> None:
        matrix = np.ascontiguousarray(self.flow.constants[layer.weight][:, :, 0, 0].T)
        weight, _ = self._weight(matrix, 1)
        value = self.build.add("MatMul", self._eight(layer.source, "nhwc"), weight)
        bias = self.build.constant(self.flow.constants[layer.bias])
        self.values[layer.acc] = {"nhwc": self.build.add("Add", value, bias)}

    def _weight(self, weight: npt.NDArray[Any], axis: int) -> tuple[str, npt.NDArray[np.float32]]:
        scale = (channel_peaks(weight, axis) / LARGEST).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        codes = np.rint(weight / scale.reshape(shape)).clip(-LARGEST, LARGEST).astype(np.int8)
        return self._dequantized(codes, scale, axis), scale

    def _dequantized(
        self, codes: npt.NDArray[Any], scale: npt.NDArray[np.float32], axis: int
    ) -> str:
        zero = self.build.constant(np.zeros(len(scale), codes.dtype))
        return self.build.add(
            "DequantizeLinear",
            self.build.constant(codes),
            self.build.constant(scale),
            zero,
            axis=axis,
        )
