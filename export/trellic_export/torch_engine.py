"""Graphs of a bundle in PyTorch, on arrays in a GPU's memory.

Deployed machines use onnxruntime or TensorRT. This engine is for machines that have only PyTorch,
for comparisons of speed there, and to prove exact networks on one more backend. It knows the
operators of Trellic's own models, but not those that only imported models have.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

if TYPE_CHECKING:
    from trellic.gpu.device import Device
    from trellic.gpu.engines import Loader

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
        self.operators = [node.op_type for node in model.node]
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
    pool : memory that all engines of the stream share (``torch.cuda.graph_pool_handle()``), because
        their CUDA graphs never run at the same time; None for a pool of its own
    """

    def __init__(self, graph: bytes, stream: int, *, exact: bool, pool: Any = None) -> None:
        self._exact, self._pool = exact, pool
        dtype = torch.float32 if exact else torch.float16
        self._graph = TorchGraph(graph, "cuda", dtype)
        self._stream = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        self._replays = Replays(self._captured)

    def __call__(self, inputs: Mapping[str, Any], outputs: Sequence[Any]) -> None:
        """Run the graph."""
        key = tuple(
            (a.__cuda_array_interface__["data"][0], tuple(a.shape))
            for a in (*inputs.values(), *outputs)
        )
        with torch.inference_mode(), torch.cuda.stream(self._stream), precision(exact=self._exact):
            tensors = {name: torch.as_tensor(a, device="cuda") for name, a in inputs.items()}
            targets = [torch.as_tensor(a, device="cuda") for a in outputs]
            self._replays(key, partial(self._run, tensors, targets))

    def _run(self, tensors: Tensors, targets: Sequence[torch.Tensor]) -> None:
        for result, target in zip(self._graph(tensors), targets, strict=True):
            target.copy_(result)

    def _captured(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph


def engines_on(device: Device) -> Loader:
    """Return a function that makes engines for a device, for `trellic.gpu.codec.GpuCodec.load`."""
    pool = torch.cuda.graph_pool_handle()

    def engine(_: str, graph: bytes, exact: bool) -> TorchDeviceEngine:
        return TorchDeviceEngine(graph, device.stream_address, exact=exact, pool=pool)

    return engine


class Replays:
    """Work that runs plainly the first time, is captured the second, and is replayed from then on.

    The first call chooses algorithms, which cannot be captured. A capture that fails raises and
    leaves nothing behind, so the next call tries again.

    Parameters
    ----------
    capture : turns work into an object with `replay`, without doing the work
    most : captures that are kept; other work runs plainly
    """

    def __init__(self, capture: Callable[[Callable[[], None]], Any], most: int = 64) -> None:
        self._capture, self._most = capture, most
        self._seen: set[Any] = set()
        self._made: dict[Any, Any] = {}

    def __call__(self, key: Any, work: Callable[[], None]) -> None:
        """Do work, which is the same whenever the key is."""
        if key not in self._made and (key not in self._seen or len(self._made) >= self._most):
            work()
            self._seen.add(key)
            return
        if key not in self._made:
            self._made[key] = self._without_collection(work)
        self._made[key].replay()

    def _without_collection(self, work: Callable[[], None]) -> Any:
        """Capture without garbage collection, which might free what a stream still uses."""
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._capture(work)
        finally:
            if collecting:
                gc.enable()


@contextlib.contextmanager
def precision(*, exact: bool) -> Iterator[None]:
    """Allow TF32 and the choice of algorithms by trial, or neither, inside the block."""
    cudnn: Any = torch.backends.cudnn  # typed without its parts
    kind = "ieee" if exact else "tf32"
    wanted: list[tuple[Any, str, Any]] = [
        (cudnn, "benchmark", not exact),
        (cudnn.conv, "fp32_precision", kind),
        (torch.backends.cuda.matmul, "fp32_precision", kind),
    ]
    before = [getattr(owner, name) for owner, name, _ in wanted]
    try:
        for owner, name, value in wanted:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(wanted, before, strict=True):
            setattr(owner, name, value)
