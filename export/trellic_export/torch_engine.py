"""Graphs of a bundle in PyTorch, on arrays in a GPU's memory.

Deployed machines use onnxruntime or TensorRT; this engine is for machines that have PyTorch only,
for its speed there as a comparison, and to prove exact networks on one more backend. It knows the
operators of our own models, not those that only imported models have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

Tensors = dict[str, torch.Tensor]
Attributes = dict[str, Any]
ONNX_UINT8 = 2


class TorchGraph:
    """An ONNX graph as a sequence of PyTorch calls.

    Parameters
    ----------
    graph : bytes of the ONNX file
    device : torch device
    dtype : of all floating-point arithmetic

    Raises
    ------
    NotImplementedError
        When the graph has another operator.
    """

    def __init__(
        self, graph: bytes, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        model = onnx.load_from_string(graph).graph
        self._dtype, self._device = dtype, device
        self._constants = {c.name: self._constant(c) for c in model.initializer}
        self._nodes = [
            (
                _operator(node.op_type),
                list(node.input),
                list(node.output),
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in model.node
        ]
        self.outputs = [output.name for output in model.output]
        self._dead = _last_uses(model, {*self._constants, *self.outputs})

    def __call__(self, inputs: Tensors) -> list[torch.Tensor]:
        """Run the graph."""
        values: dict[str, Any] = {"": None, **self._constants}
        for name, tensor in inputs.items():
            values[name] = tensor.to(self._dtype) if tensor.is_floating_point() else tensor
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
        return tensor.to(self._device, self._dtype)


def _last_uses(model: Any, kept: set[str]) -> list[list[str]]:
    """Return for each node the tensors that nothing after it reads, its own outputs included."""
    seen, dead = {"", *kept}, []
    for node in reversed(model.node):
        names = dict.fromkeys([*node.output, *node.input])
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
    "GlobalAveragePool": lambda _, a, x: x.mean((2, 3), keepdim=True),
    "Floor": lambda _, a, x: torch.floor(x),
    "LeakyRelu": lambda _, a, x: functional.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda _, a, x, y: x @ y,
    "Mul": lambda _, a, x, y: x * y,
    "Relu": lambda _, a, x: functional.relu(x),
    "Round": lambda _, a, x: torch.round(x),
    "Split": lambda _, a, x, sizes: torch.split(x, sizes.tolist(), a["axis"]),
    "Sub": lambda _, a, x, y: x - y,
    "Transpose": lambda _, a, x: x.permute(*a["perm"]),
    "Unsqueeze": _unsqueeze,
}


def _operator(name: str) -> Callable[..., Any]:
    if name not in _OPERATORS:
        raise NotImplementedError(f"the operator {name}")
    return _OPERATORS[name]


class TorchDeviceEngine:
    """A graph on a GPU, on the arrays and the stream of a `trellic.gpu.device.Device`.

    Parameters
    ----------
    graph : bytes of the ONNX file
    stream : address of the CUDA stream to work on
    exact : float32 with TF32 off; otherwise float16
    graphs : replay a CUDA graph where a call has the shapes and addresses of one before
    """

    def __init__(self, graph: bytes, stream: int, *, exact: bool, graphs: bool = True) -> None:
        self._exact = exact
        dtype = torch.float32 if exact else torch.float16
        self._graph = TorchGraph(graph, "cuda", dtype)
        self._stream = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        self._graphs = graphs
        self._captured: dict[Any, torch.cuda.CUDAGraph | None] = {}

    def __call__(self, inputs: Mapping[str, Any], outputs: Sequence[Any]) -> None:
        """Run the graph."""
        key = tuple(
            (a.__cuda_array_interface__["data"][0], tuple(a.shape))
            for a in (*inputs.values(), *outputs)
        )
        with torch.inference_mode(), torch.cuda.stream(self._stream), self._precision():
            captured = self._captured.get(key)
            if captured is not None:
                captured.replay()
                return
            tensors = {name: torch.as_tensor(a, device="cuda") for name, a in inputs.items()}
            targets = [torch.as_tensor(a, device="cuda") for a in outputs]
            if self._graphs and key in self._captured:
                captured = self._captured[key] = torch.cuda.CUDAGraph()
                with torch.cuda.graph(captured, stream=self._stream):
                    self._run(tensors, targets)
                captured.replay()
            else:  # the first call chooses algorithms, which cannot be captured
                self._captured[key] = None
                self._run(tensors, targets)

    def _run(self, tensors: Tensors, targets: Sequence[torch.Tensor]) -> None:
        for result, target in zip(self._graph(tensors), targets, strict=True):
            target.copy_(result)

    @contextlib.contextmanager
    def _precision(self) -> Iterator[None]:
        matmul = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = not self._exact
        try:
            with torch.backends.cudnn.flags(
                enabled=True, benchmark=not self._exact, allow_tf32=not self._exact
            ):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = matmul
