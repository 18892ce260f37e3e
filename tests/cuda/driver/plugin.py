"""``pytest -p tests.cuda.driver.plugin``: tests of a GPU on the fake driver.

Memory of the fake device is the host's, so onnxruntime's CPU provider stands in for that of CUDA,
and PyTorch runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from tests.cuda import driver


class _Torch:
    """PyTorch on the host behind the calls of an engine, for what it does on a GPU."""

    def __init__(self, graph: bytes) -> None:
        from trellic_export.torch_engine import TorchGraph

        self._graph = TorchGraph(graph)

    def __call__(self, inputs: Any) -> list[Any]:
        import torch

        with torch.inference_mode():
            tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
            return [one.numpy() for one in self._graph(tensors)]


@contextmanager
def stand_ins() -> Iterator[None]:
    """Let onnxruntime's CPU provider do what its CUDA provider would."""
    import onnxruntime

    from trellic.engines import ort as host
    from trellic.gpu import ort
    from trellic.gpu.engines import HostEngine
    from trellic_export import torch_engine

    names = ["CUDAExecutionProvider", *onnxruntime.get_available_providers()]
    on_cpu = {name: ["CPUExecutionProvider"] for name in host.PROVIDERS}
    work = ort.OrtDeviceEngine.__call__

    def run(self: Any, inputs: Any, outputs: Any) -> None:
        driver.flush()  # an engine of CUDA would wait for its turn on the stream
        work(self, inputs, outputs)

    def on_host(device: Any, *, fused: bool = True) -> Any:
        return lambda _, graph, exact: HostEngine(device, _Torch(graph))

    with ExitStack() as changes:
        for change in (
            patch.object(onnxruntime, "get_available_providers", lambda: names),
            patch.object(host, "PROVIDERS", on_cpu),
            patch.object(host, "missing_for", lambda _: ""),
            patch.object(ort, "WHERE", "cpu"),
            patch.object(ort, "ON_CPU", True),
            patch.object(ort.OrtDeviceEngine, "__call__", run),
            patch.object(torch_engine, "engines_on", on_host),
        ):
            changes.enter_context(change)
        yield


@pytest.fixture(scope="session", autouse=True)
def _cpu_provider() -> Iterator[None]:
    with stand_ins():
        yield
