"""onnxruntime as an engine."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from ..errors import EngineError, MissingExtra
from . import Arrays

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
CUDA_OPTIONS = {"use_tf32": "0"}  # TF32 drops mantissa bits that the exact graphs need


class OrtEngine:
    """A graph in an onnxruntime session.

    Parameters
    ----------
    graph : bytes of the ONNX file
    device : "cpu", "cuda" or "tensorrt"
    threads : int, or 0 for onnxruntime's own choice

    Raises
    ------
    EngineError
        When the graph cannot be loaded, or the device is not there.
    """

    def __init__(self, graph: bytes, device: str = "cpu", threads: int = 0) -> None:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors come as exceptions; its log would double them
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [
            (name, CUDA_OPTIONS if name == "CUDAExecutionProvider" else {})
            for name in PROVIDERS[device]
        ]
        try:
            self._session = ort.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise EngineError(f"onnxruntime cannot load a graph: {_first_line(error)}") from error

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Run the graph."""
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(None, dict(inputs))
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}") from error
        return outputs


def resolve_device(device: str) -> str:
    """Turn "auto" into what this machine has, and check that the rest is there.

    Raises
    ------
    EngineError
        When a device is asked for by name and onnxruntime has no provider for it.
    """
    available = _onnxruntime().get_available_providers()
    if device == "auto":
        return "cuda" if "CUDAExecutionProvider" in available else "cpu"
    if device not in PROVIDERS:
        raise EngineError(f"unknown device {device!r}", expected="auto, cpu, cuda or tensorrt")
    if PROVIDERS[device][0] not in available:
        raise EngineError(
            f"device {device!r} needs onnxruntime's {PROVIDERS[device][0]}, which is not there",
            remedy="install trellic[gpu] in place of trellic[cpu], on a machine with a GPU",
        )
    return device


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra.of("onnxruntime", "cpu", "running a model") from error
    return onnxruntime


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
