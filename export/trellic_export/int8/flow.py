"""An ONNX graph as a flow of values, and the chains of layers in it that can become 8-bit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Kind = Literal["pointwise", "depthwise"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution and the leaky ReLU behind it, if there is one.

    Attributes
    ----------
    kind : "pointwise" (1x1) or "depthwise"
    source, acc, out : names of the values: input, sum, and sum behind the activation
    weight, bias : names of the constants
    slope : of the activation below 0; 1 where there is none
    attributes : of the Conv node
    """

    kind: Kind
    source: str
    acc: str
    out: str
    weight: str
    bias: str
    slope: float
    attributes: dict[str, Any]


Chain = tuple[Layer, ...]


class Flow:
    """Nodes, constants, and the users of each value.

    Attributes
    ----------
    nodes : in order of execution
    constants : by name
    users : of each value
    inputs, outputs : of the graph
    chains : consecutive layers between which nothing else reads; each ends in a pointwise layer
        without activation, whose sums stay in float32
    """

    def __init__(self, data: bytes) -> None:
        graph = onnx.load_from_string(data).graph
        self.nodes = list(graph.node)
        self.inputs, self.outputs = list(graph.input), list(graph.output)
        self.constants: dict[str, npt.NDArray[Any]] = {
            constant.name: numpy_helper.to_array(constant).copy() for constant in graph.initializer
        }
        self.users: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.users[name].append(node)
        self.chains = self._chains()

    def layer(self, node: onnx.NodeProto) -> Layer | None:
        """Return the layer that starts with a node, if it is of a kind that can go to 8 bits."""
        attributes = attributes_of(node)
        if node.op_type != "Conv" or len(node.input) != 3 or node.input[1] not in self.constants:
            return None
        weight = self.constants[node.input[1]]
        plain = set(attributes["strides"]) == {1}
        kind: Kind
        if plain and attributes["group"] == 1 and weight.shape[2:] == (1, 1):
            kind = "pointwise"
        elif plain and attributes["group"] == len(weight) > 1 == weight.shape[1]:
            kind = "depthwise"
        else:
            return None
        acc = out = node.output[0]
        slope, users = 1.0, self.users[acc]
        if len(users) == 1 and users[0].op_type == "LeakyRelu":
            out, slope = users[0].output[0], float(attributes_of(users[0])["alpha"])
        source, weights, bias = node.input
        return Layer(kind, source, acc, out, weights, bias, slope, attributes)

    def _chains(self) -> list[Chain]:
        found: list[Chain] = []
        taken: set[str] = set()
        for node in self.nodes:
            layer = self.layer(node)
            if layer is None or layer.acc in taken:
                continue
            chain = self._follow(layer)
            while chain and (chain[-1].kind != "pointwise" or chain[-1].slope != 1):
                chain.pop()
            taken |= {layer.acc for layer in chain}
            if chain:
                found.append(tuple(chain))
        return found

    def _follow(self, layer: Layer) -> list[Layer]:
        chain = [layer]
        while len(self.users[chain[-1].out]) == 1:
            after = self.layer(self.users[chain[-1].out][0])
            if after is None:
                break
            chain.append(after)
        return chain

    @property
    def convolutions(self) -> list[onnx.NodeProto]:
        """Nodes that multiply by weights."""
        return [node for node in self.nodes if node.op_type in ("Conv", "ConvTranspose")]

    def weights(self, layer: Layer | onnx.NodeProto) -> int:
        """Count the weights of a layer or convolution."""
        name = layer.weight if isinstance(layer, Layer) else layer.input[1]
        return self.constants[name].size


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node, by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def channel_peaks(weight: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float64]:
    """Largest magnitude along each index of an axis, and never 0."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peaks: npt.NDArray[np.float64] = np.maximum(np.abs(weight).max(others), 1e-9)
    return peaks
