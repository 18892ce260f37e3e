"""Graphs of a bundle in PyTorch, operator by operator.

It knows the operators of Trellic's own models, but not those that only imported models have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

Tensors = dict[str, torch.Tensor]
Finish = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int, int], None]
Attributes = dict[str, Any]
Node = tuple[Callable[..., Any], list[str], list[str], Attributes]  # call, inputs, outputs
LAYER = ("Conv", "Mul", "Add", "Floor", "Clip")  # of an integer network
ONNX_UINT8 = 2


class TorchGraph:
    """An ONNX graph as a sequence of PyTorch calls.

    Parameters
    ----------
    graph : bytes of the ONNX file
    device : torch device
    dtype : of all floating-point arithmetic; with float16 convolutions have their channels last
    finish : for integer networks: does what follows a convolution in place, in one pass, see
        `trellic.gpu.exact.requantize`; None for the graph's own operators, one by one

    Attributes
    ----------
    operators : names of its operators, in order
    outputs : names of its outputs

    Raises
    ------
    NotImplementedError
        When the graph has another operator.
    """

    def __init__(
        self,
        graph: bytes,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        finish: Finish | None = None,
    ) -> None:
        model = onnx.load_from_string(graph).graph
        self._dtype, self._device = dtype, device
        self._format = torch.channels_last if dtype == torch.float16 else torch.contiguous_format
        self._constants = {c.name: self._constant(c) for c in model.initializer}
        self.operators = [node.op_type for node in model.node]
        self.outputs = [output.name for output in model.output]
        self._nodes = [
            (_operator(n.op_type), list(n.input), list(n.output), _attributes(n))
            for n in model.node
        ]
        if finish is not None:
            self._nodes = self._fused(model.node, finish)
        self._dead = _last_uses(self._nodes, {*self._constants, *self.outputs})

    def __call__(self, inputs: Tensors) -> list[torch.Tensor]:
        """Run the graph."""
        values: dict[str, Any] = {"": None, **self._constants}
        for name, tensor in inputs.items():
            values[name] = self._in_format(tensor) if tensor.is_floating_point() else tensor
        for (run, names, outputs, attributes), dead in zip(self._nodes, self._dead, strict=True):
            results = run(self._dtype, attributes, *[values[name] for name in names])
            many = results if isinstance(results, tuple) else (results,)
            values.update(zip(outputs, many, strict=True))
            del results, many  # or the names would keep the tensors
            for name in dead:
                del values[name]
        return [values[name] for name in self.outputs]

    def _constant(self, constant: Any) -> torch.Tensor:
        tensor = torch.from_numpy(numpy_helper.to_array(constant).copy())
        if not tensor.is_floating_point():
            return tensor  # sizes: the host needs them
        return self._in_format(tensor.to(self._device))

    def _in_format(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim != 4:
            return tensor.to(self._dtype)
        return tensor.to(self._dtype, memory_format=self._format)

    def _fused(self, nodes: Sequence[Any], finish: Finish) -> list[Node]:
        """Return the graph's nodes, each layer of an integer network as one."""
        found, at = [], 0
        while at < len(nodes):
            layer = self._layer(nodes[at : at + len(LAYER)], finish)
            found.append(self._nodes[at] if layer is None else layer)
            at += 1 if layer is None else len(LAYER)
        return found

    def _layer(self, nodes: Sequence[Any], finish: Finish) -> Node | None:
        """Return the one node of a layer; None where these are none."""
        if tuple(node.op_type for node in nodes) != LAYER:
            return None
        conv, mul, add, _, clip = nodes
        if any(a.output[0] not in b.input for a, b in itertools.pairwise(nodes)):
            return None
        (scale,), (half,) = (
            [self._constants[name] for name in node.input if name in self._constants]
            for node in (mul, add)
        )
        if half.item() != 0.5:
            return None
        x, weight, bias = conv.input
        low, high = (int(self._constants[name].item()) for name in clip.input[1:])
        rest = partial(_finished, finish, (self._constants[bias], scale.reshape(-1), low, high))
        return rest, [x, weight], list(clip.output), _attributes(conv)


def _finished(
    finish: Finish, told: Any, dtype: torch.dtype, attributes: Attributes, x: Any, weight: Any
) -> Any:
    y = _conv(dtype, attributes, x, weight).contiguous()
    finish(y, *told)
    return y


def _attributes(node: Any) -> Attributes:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _last_uses(nodes: Sequence[Node], kept: set[str]) -> list[list[str]]:
    """Return for each node the tensors that nothing after it reads, its own outputs included."""
    seen, dead = {"", *kept}, []
    for _, inputs, outputs, _ in reversed(nodes):
        names = dict.fromkeys([*outputs, *inputs])
        dead.append([name for name in names if name not in seen])
        seen.update(names)
    return dead[::-1]


def _conv(_: torch.dtype, attributes: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    pads = attributes.get("pads", [0, 0, 0, 0])
    if pads[:2] != pads[2:]:
        raise NotImplementedError(f"padding {pads}")
    return functional.conv2d(
        x, weight, bias, attributes.get("strides", [1, 1]), pads[:2], groups=attributes["group"]
    )


def _cast(dtype: torch.dtype, attributes: Attributes, x: Any) -> Any:
    return x.to(torch.uint8 if attributes["to"] == ONNX_UINT8 else dtype)


def _depth_to_space(_: torch.dtype, attributes: Attributes, x: Any) -> Any:
    if attributes.get("mode", b"DCR") != b"CRD":
        raise NotImplementedError("DepthToSpace of another mode than CRD")
    return functional.pixel_shuffle(x, attributes["blocksize"])


def _pad(_: torch.dtype, __: Attributes, x: Any, margins: Any) -> Any:
    sides = margins.tolist()  # before each axis, then behind each; torch has the last axis first
    pairs = zip(sides[: x.ndim][::-1], sides[x.ndim :][::-1], strict=True)
    return functional.pad(x, [side for pair in pairs for side in pair])


def _slice(_: torch.dtype, __: Attributes, x: Any, starts: Any, ends: Any, axes: Any) -> Any:
    index = [slice(None)] * x.ndim
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        index[axis] = slice(start, end)
    return x[tuple(index)]


def _unsqueeze(_: torch.dtype, __: Attributes, x: Any, axes: Any) -> Any:
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": lambda _, a, x: torch.abs(x),
    "Add": lambda _, a, x, y: x + y,
    "Cast": _cast,
    "Clip": lambda _, a, x, low=None, high=None: torch.clamp(x, low, high),
    "Concat": lambda _, a, *parts: torch.cat(parts, a["axis"]),
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Exp": lambda _, a, x: torch.exp(x),
    "GlobalAveragePool": lambda _, a, x: x.mean((2, 3), keepdim=True),
    "Floor": lambda _, a, x: torch.floor(x),
    "LeakyRelu": lambda _, a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda _, a, x, y: x @ y,
    "Max": lambda _, a, *parts: reduce(torch.maximum, parts),
    "Mul": lambda _, a, x, y: x * y,
    "Neg": lambda _, a, x: -x,
    "Pad": _pad,
    "Reciprocal": lambda _, a, x: torch.reciprocal(x),
    "Relu": lambda _, a, x: functional.relu(x),
    "Round": lambda _, a, x: torch.round(x),
    "Slice": _slice,
    "Split": lambda _, a, x, sizes: torch.split(x, sizes.tolist(), a["axis"]),
    "Sub": lambda _, a, x, y: x - y,
    "Sum": lambda _, a, *parts: reduce(torch.add, parts),
    "Tanh": lambda _, a, x: torch.tanh(x),
    "Transpose": lambda _, a, x: x.permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
}


def _operator(name: str) -> Callable[..., Any]:
    if name not in _OPERATORS:
        raise NotImplementedError(f"the operator {name}")
    return _OPERATORS[name]
