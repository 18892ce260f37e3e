"""onnxruntime on arrays in the device's memory, which are bound without copies to the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trellic.engines.ort import first_line, onnxruntime
from trellic.errors import EngineError
from trellic.gpu.device import Device, address
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels.kernel import SIMULATED

ON_CPU = SIMULATED  # arrays are the host's
WHERE = "cpu" if ON_CPU else "cuda"


class OrtDeviceEngine:
    """A graph in an onnxruntime session that works on the device's stream.

    Parameters
    ----------
    graph : bytes of the ONNX file
    device
    exact : float32 in the CUDA provider, TF32 off, whatever the rest uses
    provider : "cuda" or "tensorrt"; exact graphs always use "cuda"
    cache : folder for engines of the TensorRT provider

    Raises
    ------
    EngineError
        When the graph cannot be loaded.

    Notes
    -----
    In numba's simulator the same bindings are made on the CPU provider.
    """

    def __init__(
        self,
        graph: bytes,
        device: Device,
        *,
        exact: bool,
        provider: str = "cuda",
        cache: str = "",
    ) -> None:
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        if not ON_CPU:  # a node that falls back to the CPU would copy silently
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            self._session = ort.InferenceSession(
                graph, options, providers=_providers(device, exact, provider, cache)
            )
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise EngineError(f"onnxruntime cannot load a graph: {first_line(error)}") from error
        self._inputs = [put.name for put in self._session.get_inputs()]
        self._names = [output.name for output in self._session.get_outputs()]
        self._run_options = ort.RunOptions

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the graph."""
        binding = self._session.io_binding()
        bound = {name: inputs[name] for name in self._inputs}
        for name, array in bound.items():
            binding.bind_input(name, WHERE, 0, array.dtype, tuple(array.shape), address(array))
        for name, array in zip(self._names, outputs, strict=True):
            binding.bind_output(name, WHERE, 0, array.dtype, tuple(array.shape), address(array))
        try:
            self._session.run_with_iobinding(binding, self._options())
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error

    def _options(self) -> Any:
        """Run on our stream without waiting."""
        options = self._run_options()
        if not ON_CPU:
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options


def _providers(
    device: Device, exact: bool, provider: str, cache: str
) -> list[tuple[str, dict[str, str]]]:
    if ON_CPU:
        return [("CPUExecutionProvider", {})]
    stream = str(device.stream_address)
    cuda_options = {
        "use_tf32": "0" if exact else "1",
        "user_compute_stream": stream,
        # The default searches at every shape, and may find Winograd or FFT, which are not exact.
        "cudnn_conv_algo_search": "DEFAULT" if exact else "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",  # not twice what was needed before
    }
    found = [("CUDAExecutionProvider", cuda_options)]
    if provider == "tensorrt" and not exact:
        options = {"user_compute_stream": stream}
        if cache:
            options |= {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": cache,
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": cache,
            }
        found.insert(0, ("TensorrtExecutionProvider", options))
    return found
