"""OpenVINO as an engine: the float transforms in bfloat16, on processors that multiply it."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.engines import Arrays
from trellic.engines.ort import first_line
from trellic.errors import EngineError, MissingExtra
from trellic.support.quiet import hidden

SETTINGS: dict[str, Any] = {
    "INFERENCE_PRECISION_HINT": "bf16",
    "NUM_STREAMS": 1,
    "ENABLE_CPU_PINNING": False,  # a codec shares its machine with other work
}
LAYER = "Convolution"
LAYERS = LAYER, "GroupConvolution"
ENDS = "Parameter", "Constant", "Result"


class OpenVinoEngine:
    """A graph in OpenVINO's CPU plugin: layers in bfloat16, sums in float32.

    Parameters
    ----------
    graph : bytes of the ONNX file
    threads : int, or 0 for OpenVINO's own choice

    Raises
    ------
    MissingExtra
        When OpenVINO is not installed.
    EngineError
        When the graph cannot be loaded.
    """

    def __init__(self, graph: bytes, threads: int = 0) -> None:
        try:
            core = openvino().Core()
            settings = SETTINGS | {"INFERENCE_NUM_THREADS": threads}
            model = _with_precise_parts(core, core.read_model(graph))
            self._compiled = core.compile_model(model, "CPU", settings)
        except MissingExtra:
            raise
        except Exception as error:  # OpenVINO's exceptions share no base class of their own
            raise EngineError(f"OpenVINO cannot load a graph: {first_line(error)}") from error
        self._inputs = [put.get_any_name() for put in self._compiled.inputs]
        self._idle: deque[Any] = deque()  # a request serves one call at a time

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Run the graph."""
        try:
            request = self._request()
            results = request.infer(
                {name: inputs[name] for name in self._inputs}, share_inputs=True
            )
        except Exception as error:
            raise EngineError(f"OpenVINO failed: {first_line(error)}") from error
        self._idle.append(request)
        return [results[output] for output in self._compiled.outputs]

    def _request(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()


def _with_precise_parts(core: Any, model: Any) -> Any:
    """Keep some parts of a graph that sees the quality in float32, where bfloat16 loses most.

    These are the interpolation of scales and shifts, the sums with them (small shifts of large
    values), and the layer that reads latents or pixels (most of the signal in a few channels). They
    cost little in float32. Other layers still pass on their results in bfloat16.
    """
    if all("quality" not in put.get_names() for put in model.inputs):
        return model
    nodes = [n for n in model.get_ordered_ops() if n.get_type_name() not in ENDS]
    first = next((n for n in nodes if n.get_type_name() == LAYER), None)
    for node in nodes:
        if node is first or node.get_type_name() not in LAYERS:
            node.get_rt_info()["precise_0"] = True  # a name that OpenVINO understands on reading
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino().save_model(model, path, compress_to_fp16=False)
        weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
        return core.read_model(path.read_text(), openvino().Tensor(weights))


def missing_for_bf16() -> str:
    """Return in a few words why OpenVINO cannot compute in bfloat16 here; empty if it can."""
    module = openvino()
    try:
        capabilities = module.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except Exception as error:  # such as a build without its plugin for CPUs
        return f"OpenVINO has no CPU here: {first_line(error)}"
    return "" if "BF16" in capabilities else "this processor has no bfloat16 products"


def has_bf16() -> bool:
    """Whether OpenVINO is installed and computes in bfloat16 here."""
    try:
        return not missing_for_bf16()
    except MissingExtra:
        return False


def openvino() -> Any:
    """Return the module, which cannot send statistics, or raise MissingExtra."""
    try:
        with hidden("openvino_telemetry"):
            import openvino as module
    except ImportError as error:
        raise MissingExtra.of("openvino", "openvino", "precision 'bf16'") from error
    return module
