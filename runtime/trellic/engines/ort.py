"""onnxruntime as an engine."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType
from typing import Any

import numpy.typing as npt

from trellic.engines import Arrays
from trellic.engines.cuda import fault_of_provider, torch_serves
from trellic.errors import EngineError, MissingExtra

PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "tensorrt": ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
}
CUDA_OPTIONS = {
    "use_tf32": "0",  # TF32 drops mantissa bits that the exact graphs need
    # The default searches at every shape, and may find Winograd or FFT, which are not exact.
    "cudnn_conv_algo_search": "DEFAULT",
    "arena_extend_strategy": "kSameAsRequested",  # not twice what was needed before
}


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
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors come as exceptions; its log would repeat them
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [
            (name, CUDA_OPTIONS if name == "CUDAExecutionProvider" else {})
            for name in PROVIDERS[device]
        ]
        try:
            self._session = ort.InferenceSession(graph, options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise EngineError(f"onnxruntime cannot load a graph: {first_line(error)}") from error
        self._inputs = [put.name for put in self._session.get_inputs()]

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Run the graph."""
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(
                None, {name: inputs[name] for name in self._inputs}
            )
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error
        return outputs


def resolve_device(device: str) -> str:
    """Turn "auto" into a device of this machine, and check that other devices exist.

    Raises
    ------
    EngineError
        When a device is named and onnxruntime has no provider for it.
    """
    if device == "auto":
        return "cpu" if missing_for("cuda") else "cuda"  # PyTorch serves only if "cuda" is named
    if device not in PROVIDERS:
        raise EngineError(f"unknown device {device!r}", expected="auto, cpu, cuda or tensorrt")
    missing = missing_for(device)
    if missing and not (device == "cuda" and torch_stands_in()):
        raise EngineError(f"device {device!r} cannot be used here: {missing}")
    return device


def missing_for(device: str) -> str:
    """Return in a few words what is missing for a device; empty if nothing is."""
    provider = PROVIDERS[device][0]
    if provider not in onnxruntime().get_available_providers():
        extra = "tensorrt" if device == "tensorrt" else "gpu"
        return (
            f"onnxruntime has no {provider} "
            f"(install trellic[{extra}] in place of trellic[cpu], on a machine with a GPU)"
        )
    if device == "cpu":
        return ""
    return missing_gpu() or fault_of_provider(onnxruntime(), device)


def torch_stands_in() -> bool:
    """Whether PyTorch can use a GPU here for which onnxruntime has no provider."""
    return bool(missing_for("cuda")) and not missing_gpu() and torch_serves()


def host_of(device: str) -> str:
    """Return where single graphs run for a device: on the CPU if PyTorch serves the GPU."""
    return device if not missing_for(device) else "cpu"


def missing_gpu() -> str:
    """Return why no GPU can be used; empty if one can."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no GPU"
    return ""


def onnxruntime() -> ModuleType:
    """Return the module, or raise MissingExtra; its telemetry is off (see `trellic.support.quiet`).

    If the program loaded onnxruntime before ``trellic``, its telemetry ends only here.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise MissingExtra.of("onnxruntime", "cpu", "running a model") from error
    found: ModuleType = module
    found.disable_telemetry_events()
    return found


def first_line(error: Exception) -> str:
    """Return the first line of a message, because onnxruntime writes many."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
