"""``pytest -p tests.cuda.driver.plugin``: tests of a GPU on the fake driver.

Memory of the fake device is the host's, so onnxruntime's CPU provider stands in for that of CUDA,
and PyTorch runs on the CPU.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from tests.cuda import driver


class _Torch:
    """PyTorch on the host as an engine of the device: it works when the stream gets there."""

    def __init__(self, graph: bytes) -> None:
        from trellic_export.torch_graph import TorchGraph

        self._graph = TorchGraph(graph)

    def __call__(self, inputs: Any, outputs: Any) -> None:
        tensors = {name: _tensor(array) for name, array in inputs.items()}
        driver.do(partial(self._run, tensors, [_tensor(array) for array in outputs]))

    def _run(self, tensors: Any, targets: Any) -> None:
        import torch

        with torch.inference_mode():
            for result, target in zip(self._graph(tensors), targets, strict=True):
                target.copy_(result)


def _tensor(array: Any) -> Any:
    """Return a tensor of the host over an array of the device, whose memory is the host's."""
    import torch

    from trellic.gpu.device import address

    size = int(array.size) * array.dtype.itemsize
    memory = (ctypes.c_char * size).from_address(address(array))
    return torch.from_numpy(np.frombuffer(memory, array.dtype).reshape(array.shape))


def captured(device: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Return what captures work on the driver, as PyTorch would on a GPU."""
    cuda = importlib.import_module("cuda.bindings.driver")
    stream = cuda.CUstream(device.stream_address)

    def checked(code: Any, *results: Any) -> Any:
        if int(code):
            raise RuntimeError(f"the driver says {code.name}")
        return results[0] if results else None

    def capture(work: Callable[[], None]) -> Callable[[], None]:
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        checked(*cuda.cuStreamBeginCapture(stream, mode))
        try:
            work()
        finally:
            ended = cuda.cuStreamEndCapture(stream)
        made = checked(*cuda.cuGraphInstantiate(checked(*ended), 0))
        return lambda: checked(*cuda.cuGraphLaunch(made, stream))

    return capture


@contextmanager
def stand_ins() -> Iterator[None]:
    """Let onnxruntime's CPU provider do what its CUDA provider would."""
    import onnxruntime

    from trellic.engines import ort as host
    from trellic.gpu import ort
    from trellic_export import torch_engine

    names = ["CUDAExecutionProvider", *onnxruntime.get_available_providers()]
    on_cpu = {name: ["CPUExecutionProvider"] for name in host.PROVIDERS}
    work = ort.OrtDeviceEngine.__call__

    def run(self: Any, inputs: Any, outputs: Any) -> None:
        driver.flush()  # an engine of CUDA would wait for its turn on the stream
        work(self, inputs, outputs)

    def on_host(device: Any, *, fused: bool = True) -> Any:
        return lambda _, graph, exact: _Torch(graph)

    with ExitStack() as changes:
        for change in (
            patch.object(onnxruntime, "get_available_providers", lambda: names),
            patch.object(host, "PROVIDERS", on_cpu),
            patch.object(host, "missing_for", lambda _: ""),
            patch.object(ort, "WHERE", "cpu"),
            patch.object(ort, "ON_CPU", True),
            patch.object(ort.OrtDeviceEngine, "__call__", run),
            patch.object(torch_engine, "engines_on", on_host),
            patch.object(torch_engine, "capture_on", captured),
        ):
            changes.enter_context(change)
        yield


@pytest.fixture(scope="session", autouse=True)
def _cpu_provider() -> Iterator[None]:
    with stand_ins():
        yield
