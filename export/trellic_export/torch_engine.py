"""Graphs of a bundle in PyTorch, on arrays in a GPU's memory.

Deployed machines use onnxruntime or TensorRT. This engine is for machines that have only PyTorch,
for comparisons of speed there, and to prove exact networks on one more backend.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from trellic_export.torch_graph import Finish, Tensors, TorchGraph

if TYPE_CHECKING:
    from trellic.gpu.device import Device
    from trellic.gpu.engines import Loader
    from trellic.gpu.replays import Capture


class TorchDeviceEngine:
    """A graph on a GPU, on the arrays and the stream of a `trellic.gpu.device.Device`.

    Parameters
    ----------
    graph : bytes of the ONNX file
    stream : address of the CUDA stream to work on
    exact : float32 with TF32 off; otherwise float16
    pool : memory that all engines of the stream share (``torch.cuda.graph_pool_handle()``), because
        their CUDA graphs never run at the same time; None for a pool of its own
    finish : of `TorchGraph`, for exact graphs
    """

    def __init__(
        self,
        graph: bytes,
        stream: int,
        *,
        exact: bool,
        pool: Any = None,
        finish: Finish | None = None,
    ) -> None:
        self._exact, self._pool = exact, pool
        dtype = torch.float32 if exact else torch.float16
        self._graph = TorchGraph(graph, "cuda", dtype, finish if exact else None)
        self._stream = torch.cuda.ExternalStream(stream)  # type: ignore[no-untyped-call]
        self._replays = Replays(self._captured)

    def __call__(self, inputs: Mapping[str, Any], outputs: Sequence[Any]) -> None:
        """Run the graph."""
        key = tuple(map(_place, (*inputs.values(), *outputs)))
        with torch.cuda.stream(self._stream):
            whole = torch.cuda.is_current_stream_capturing()  # a part of a larger graph
            if not whole and self._replays.again(key):
                return
            with torch.inference_mode(), precision(exact=self._exact):
                tensors = {name: torch.as_tensor(a, device="cuda") for name, a in inputs.items()}
                targets = [torch.as_tensor(a, device="cuda") for a in outputs]
                work = partial(self._run, tensors, targets)
                if whole:
                    work()
                else:
                    self._replays.do(key, work)

    def _run(self, tensors: Tensors, targets: Sequence[torch.Tensor]) -> None:
        for result, target in zip(self._graph(tensors), targets, strict=True):
            target.copy_(result)

    def _captured(self, work: Callable[[], None]) -> torch.cuda.CUDAGraph:
        return _graph_of(work, self._stream, self._pool)


def _graph_of(work: Callable[[], None], stream: Any, pool: Any) -> torch.cuda.CUDAGraph:
    """Capture work on a stream; what other threads do meanwhile is no error."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph


def _place(array: Any) -> tuple[Any, ...]:
    """Return where an array lies and its shape."""
    return array.__cuda_array_interface__["data"][0], tuple(array.shape)


def engines_on(device: Device, *, fused: bool = True) -> Loader:
    """Return a function that makes engines for a device, for `trellic.gpu.codec.GpuCodec.load`.

    Parameters
    ----------
    fused : whether layers of exact networks are finished by one kernel, not by five operators
    """
    pool = torch.cuda.graph_pool_handle()
    finish = finish_on(device) if fused else None

    def engine(_: str, graph: bytes, exact: bool) -> TorchDeviceEngine:
        return TorchDeviceEngine(
            graph, device.stream_address, exact=exact, pool=pool, finish=finish
        )

    return engine


def capture_on(device: Device) -> Capture:
    """Return what captures whole decodes on a device, for `trellic.gpu.codec.GpuCodec.load`.

    Their networks run plainly, since a graph cannot be replayed while another is captured; all such
    graphs share one pool of memory, because they never run at the same time.
    """
    stream = torch.cuda.ExternalStream(device.stream_address)  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        with torch.cuda.stream(stream), _without_collection():
            graph = _graph_of(work, stream, pool)

        def replay() -> None:
            with torch.cuda.stream(stream):
                graph.replay()

        return replay

    return capture


def finish_on(device: Device) -> Finish:
    """Return what finishes layers of integer networks on a device, on tensors in its memory."""
    from trellic.gpu.exact import requantize
    from trellic.gpu.toolkit import cuda

    def finish(
        y: torch.Tensor, bias: torch.Tensor, scale: torch.Tensor, low: int, high: int
    ) -> None:
        sums, of_bias, of_scale = (cuda.as_cuda_array(t, sync=False) for t in (y, bias, scale))
        requantize(device, sums, of_bias, of_scale, low, high)

    return finish


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

    def again(self, key: Any) -> bool:
        """Do the work of a key if it has been captured; return whether it has."""
        made = self._made.get(key)
        if made is not None:
            made.replay()
        return made is not None

    def do(self, key: Any, work: Callable[[], None]) -> None:
        """Do work, which is the same whenever the key is, and has not been captured."""
        if key not in self._seen or len(self._made) >= self._most:
            work()
            self._seen.add(key)
            return
        with _without_collection():
            self._made[key] = self._capture(work)
        self._made[key].replay()


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Keep from garbage collection, which might free what a stream still uses, in a capture."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
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
