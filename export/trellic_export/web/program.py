"""A decoder network as a short program for pages, which `js/program.js` runs.

A value is a map (channels, rows, columns) or a vector, which depends only on the quality. Every
graph ends in the same way, from the last pixel shuffle to bytes, which is one operation here.
Constants follow each other in one file: vectors in float32, then weights in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from trellic.errors import BadParameter
from trellic_export.halves import whole
from trellic_export.web.kernels import BLOCK

END = ("DepthToSpace", "Add", "Mul", "Clip", "Round", "Cast", "Transpose")
VECTORS = frozenset({"Clip", "Sub", "Mul", "Add", "Abs", "Relu", "MatMul", "Unsqueeze"})
HALF_MOST = float(np.finfo(np.float16).max)

Operation = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """Operations in order, and the constants that they name by kind and place."""

    operations: list[Operation]
    vectors: np.ndarray
    weights: np.ndarray

    @property
    def data(self) -> bytes:
        """Constants as the page loads them."""
        return self.vectors.astype("<f4").tobytes() + self.weights.astype("<f2").tobytes()

    @property
    def facts(self) -> dict[str, Any]:
        """The entry in ``model.json``."""
        return {"vectors": int(self.vectors.size), "operations": self.operations}


def compile_decoder(data: bytes, channels: int) -> Program:
    """Translate a decoder's graph.

    Parameters
    ----------
    data : ONNX
    channels : of the latents that it sees

    Raises
    ------
    BadParameter
        When the graph has operators that pages have no kernel for.
    """
    graph = onnx.load_from_string(whole(data)).graph
    return _Compiler(graph, channels).run()


@dataclass
class _Compiler:
    graph: onnx.GraphProto
    latents: int
    channels: dict[str, int] = field(default_factory=dict)  # of each map
    made: dict[str, Operation] = field(default_factory=dict)  # what makes each map
    operations: list[Operation] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.constants = {c.name: numpy_helper.to_array(c) for c in self.graph.initializer}
        self.channels["latents"] = self.latents
        names = [name for node in self.graph.node for name in node.input]
        self.uses = {name: names.count(name) for name in set(names)}

    def run(self) -> Program:
        nodes = list(self.graph.node)
        if tuple(node.op_type for node in nodes[-len(END) :]) != END:
            raise self._missing("the end of the graph is not the usual one")
        for node in nodes[: -len(END)]:
            if any(name in self.channels for name in node.input):
                self._map(node)
            elif node.op_type in VECTORS:
                self._vector(node)
            else:
                raise self._missing(f"operator {node.op_type}")
        self._image(nodes[-len(END) :])
        empty = [np.zeros(0, np.float32)]
        return Program(
            self.operations,
            np.concatenate(empty + self.vectors),
            np.concatenate(empty + self.weights),
        )

    # ---- maps ----

    def _map(self, node: onnx.NodeProto) -> None:
        ways: dict[str, Callable[[onnx.NodeProto, dict[str, Any]], None]] = {
            "Split": self._split,
            "Conv": self._conv,
            "LeakyRelu": self._leaky,
            "Relu": self._leaky,
            "Add": self._add,
            "Mul": self._scale,
            "DepthToSpace": self._shuffle,
        }
        if node.op_type not in ways:
            raise self._missing(f"operator {node.op_type}")
        ways[node.op_type](node, _attributes(node))

    def _emit(self, out: str, channels: int, **operation: Any) -> None:
        operation |= {"out": out, "channels": channels}
        self.operations.append(operation)
        self.channels[out] = channels
        self.made[out] = operation

    def _split(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        if attributes.get("axis") != 1 or len(node.input) != 2:
            raise self._missing("a Split of something else than channels")
        first = 0
        for out, size in zip(node.output, self.constants[node.input[1]].tolist(), strict=True):
            self._emit(out, size, op="take", x=node.input[0], first=first)
            first += size

    def _conv(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        name = node.input[0]
        weight = self.constants[node.input[1]]
        out, _, side, across = weight.shape
        groups = attributes.get("group", 1)
        half = side // 2
        usual = (
            side == across
            and side % 2 == 1
            and attributes.get("strides", [1, 1]) == [1, 1]
            and attributes.get("dilations", [1, 1]) == [1, 1]
            and attributes.get("pads", [0] * 4) == [half] * 4
            and groups in (1, self.channels[name])
        )
        if not usual:
            raise self._missing("a convolution with strides, groups or unusual borders")
        kind = "conv" if side > 1 else "pointwise"
        if groups > 1:
            kind = "depthwise"
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(out, np.float32)
        self._emit(
            node.output[0],
            out,
            op="conv",
            x=name,
            kind=kind,
            side=side,
            weights=self._weights(packed(weight, depthwise=groups > 1)),
            bias=self._constant(np.pad(bias, (0, -out % BLOCK))),
            slope=1.0,
            added=None,
        )

    def _leaky(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        (name,) = node.input
        slope = float(attributes.get("alpha", 0.01)) if node.op_type == "LeakyRelu" else 0.0
        if not self._fusable(name) or not 0 <= slope <= 1:
            raise self._missing(f"a {node.op_type} that follows no convolution")
        self._rename(name, node.output[0])["slope"] = slope

    def _add(self, node: onnx.NodeProto, _: dict[str, Any]) -> None:
        first, second = node.input
        if first not in self.channels or second not in self.channels:
            self._scale(node, {})
            return
        for name, other in ((first, second), (second, first)):
            if self._fusable(name) and self._is_before(other, name):
                self._rename(name, node.output[0])["added"] = other
                return
        raise self._missing("a sum of maps that follows no convolution")

    def _scale(self, node: onnx.NodeProto, _: dict[str, Any]) -> None:
        """Multiply or add a vector, each number of which is for one channel."""
        x, vector = sorted(node.input, key=lambda name: name not in self.channels)
        if vector in self.channels:
            raise self._missing("a product of maps")
        op = {"Mul": "times", "Add": "plus"}[node.op_type]
        self._emit(node.output[0], self.channels[x], op=op, x=x, vector=self._operand(vector))

    def _shuffle(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        block = attributes["blocksize"]
        if attributes.get("mode") != b"CRD":
            raise self._missing("DepthToSpace of mode DCR")
        channels = self.channels[node.input[0]] // block**2
        self._emit(node.output[0], channels, op="shuffle", x=node.input[0], block=block)

    def _image(self, nodes: list[onnx.NodeProto]) -> None:
        shuffle, plus, times, clip, *_ = nodes
        low, high = (self.constants[name].item() for name in clip.input[1:])
        if (low, high) != (0, 255) or self.channels[shuffle.input[0]] % 3:
            raise self._missing("the end of the graph is not the usual one")
        self.operations.append(
            {
                "op": "image",
                "x": shuffle.input[0],
                "block": _attributes(shuffle)["blocksize"],
                "plus": self.constants[plus.input[1]].item(),
                "times": self.constants[times.input[1]].item(),
            }
        )

    def _fusable(self, name: str) -> bool:
        """Whether a convolution makes this map, nothing else reads it, and nothing is fused yet."""
        made = self.made.get(name, {})
        plain = made.get("op") == "conv" and made["slope"] == 1 and made["added"] is None
        return plain and self.uses[name] == 1

    def _is_before(self, name: str, other: str) -> bool:
        order = ["latents", *(operation["out"] for operation in self.operations)]
        return order.index(name) < order.index(other)

    def _rename(self, name: str, out: str) -> Operation:
        operation = self.made.pop(name)
        operation["out"] = out
        self.channels[out] = self.channels.pop(name)
        self.made[out] = operation
        return operation

    # ---- vectors and constants ----

    def _vector(self, node: onnx.NodeProto) -> None:
        op = node.op_type
        names = node.input[:1] if op == "Unsqueeze" else node.input
        columns = self.constants[names[1]].shape[-1] if op == "MatMul" else 0
        operands = [self._operand(name) for name in names]
        operation = {"op": "vector", "does": op, "operands": operands, "out": node.output[0]}
        self.operations.append(operation | ({"columns": columns} if columns else {}))

    def _operand(self, name: str) -> str | dict[str, int]:
        """Name of a vector, or place of a constant."""
        if name not in self.constants:
            return name
        value = self.constants[name].astype(np.float32).reshape(-1)
        return {"at": self._constant(value), "count": value.size}

    def _constant(self, value: np.ndarray) -> int:
        """Keep a vector; return its place, a multiple of 4."""
        at = sum(part.size for part in self.vectors)
        self.vectors.append(np.pad(value.astype(np.float32), (0, -value.size % 4)))
        return at

    def _weights(self, value: np.ndarray) -> int:
        if np.abs(value).max(initial=0) > HALF_MOST:
            raise self._missing("weights that float16 does not hold")
        at = sum(part.size for part in self.weights)
        self.weights.append(value.reshape(-1))
        return at

    def _missing(self, what: str) -> BadParameter:
        return BadParameter(
            f"no kernels for web pages: {what} in a decoder",
            expected="convolutions, leaky ReLU, sums, pixel shuffles",
            remedy="choose other decoders with --web-decoders",
        )


def packed(weight: np.ndarray, *, depthwise: bool) -> np.ndarray:
    """Arrange weights as the kernels read them.

    Returns
    -------
    array (taps, channels) if `depthwise`, else (blocks, taps, channels in, 8); channels are padded
    to a multiple of 8 with zeros
    """
    out, channels, side, _ = weight.shape
    taps = weight.reshape(out, channels, side * side)
    if depthwise:
        return np.pad(taps[:, 0].T, ((0, 0), (0, -out % BLOCK)))
    taps = np.pad(taps, ((0, -out % BLOCK), (0, -channels % BLOCK), (0, 0)))
    blocks = taps.reshape(-1, BLOCK, taps.shape[1], side * side)
    return np.ascontiguousarray(blocks.transpose(0, 3, 2, 1))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
