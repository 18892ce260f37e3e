"""TensorRT without onnxruntime: engines built from a bundle's graphs, run on the device's arrays.

Written against the documentation of TensorRT 10 and 11; it has never been run. Networks are
strongly typed, as version 11 demands: precision is that of the ONNX graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trellic.engines.pool import find_decoder
from trellic.errors import EngineError, MissingExtra
from trellic.gpu import cache
from trellic.gpu.device import Device, DeviceArray, address, available, gpu_name
from trellic.model.bundle import Bundle

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]  # min, best, max
TYPICAL = (1088, 1920)  # pixels of the picture that an engine is tuned for
LARGEST = 4096  # pixels a side of the largest
MOST = 16  # pictures in one run
TIMING = "timing.cache"
PLAN = "engine.plan"


def library() -> Any:
    """Return the module ``tensorrt``.

    Raises
    ------
    MissingExtra
        When it is not installed.
    EngineError
        When there is no GPU for it.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise MissingExtra.of("tensorrt", "tensorrt", "TensorRT") from error
    if not available():
        raise EngineError(
            "TensorRT needs a GPU to build engines and to run them, and there is none",
            remedy="use --device cpu, or a machine with an NVIDIA GPU and its driver",
        )
    return tensorrt


def shapes_of(bundle: Bundle, name: str) -> Shapes:
    """Return the shapes that the engine of a graph accepts, and those it is tuned for.

    Parameters
    ----------
    name : "encoder", "hyper_encoder" or "decoder NAME"
    """
    layout = bundle.manifest.layout
    least = layout.stride * layout.cell
    sides = [(least, least), TYPICAL, (LARGEST, LARGEST)]
    counts = [1, 1, MOST]
    beside: Shapes = {}
    if name != "hyper_encoder" and _graph(bundle, name).sees_quality:
        beside = {"quality": ((1,), (1,), (MOST,))}
    if name == "encoder":
        three = [(n, *side, 3) for n, side in zip(counts, sides, strict=True)]
        return {"image": (three[0], three[1], three[2]), **beside}
    info = bundle.manifest.decoders.get(name.removeprefix("decoder "))
    channels = (info and info.channels) or layout.latents
    rows = [(height // layout.stride, width // layout.stride) for height, width in sides]
    planes = [(n, channels, *side) for n, side in zip(counts, rows, strict=True)]
    return {"latents": (planes[0], planes[1], planes[2]), **beside}


def build(graph: bytes, shapes: Shapes, timing: Path | None = None) -> bytes:
    """Build an engine.

    Parameters
    ----------
    graph : bytes of the ONNX file
    shapes : of each input: smallest, best, largest
    timing : file of the timing cache, read and written

    Raises
    ------
    MissingExtra, EngineError
        When TensorRT or a GPU is missing, or the graph cannot be built.
    """
    trt = library()
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise EngineError(f"TensorRT cannot read a graph: {parser.get_error(0)}")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, (smallest, best, largest) in shapes.items():
        profile.set_shape(name, smallest, best, largest)
    config.add_optimization_profile(profile)
    known = timing.read_bytes() if timing is not None and timing.is_file() else b""
    timings = config.create_timing_cache(known)
    config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError("TensorRT built no engine", remedy="its log on stderr says why")
    if timing is not None:
        timing.write_bytes(bytes(timings.serialize()))
    return bytes(plan)


def _strongly_typed(trt: Any) -> int:
    """Return the flag that versions before 11 need; later ones know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def engine_of(bundle: Bundle, name: str, graph: bytes, device: Device) -> TensorRtEngine:
    """Return the engine of a graph, from the cache or built now (which takes minutes).

    Parameters
    ----------
    name : "encoder", "hyper_encoder" or "decoder NAME"
    graph : its ONNX file, in the types that the engine is to compute in
    """
    trt = library()
    shapes = shapes_of(bundle, name)
    folder = cache.folder(bundle.manifest.stream_id, graph, shapes, "free", gpu_name())
    plan = folder / PLAN
    if not plan.is_file():
        made = build(graph, shapes, folder.parent / TIMING)
        part = plan.with_suffix(".part")
        part.write_bytes(made)
        part.replace(plan)
    return TensorRtEngine(trt, plan.read_bytes(), device)


def build_all(bundle: Bundle, device: Device) -> list[str]:
    """Build the engines of the encoder and of every decoder, of float16 too; return their names."""
    decoders = [f"decoder {name}" for name in sorted(bundle.manifest.decoders)]
    names = ["encoder", "hyper_encoder", *decoders]
    for name in names:
        graph = _graph(bundle, name)
        for precision in {"fp32", "fp16"} & set(graph.precisions):
            engine_of(bundle, name, bundle.graph(graph, precision), device)
    return names


def _graph(bundle: Bundle, name: str) -> Any:
    if name.startswith("decoder "):
        return find_decoder(bundle, name.removeprefix("decoder "))
    return getattr(bundle.manifest, name)


class TensorRtEngine:
    """A built engine, on arrays in the device's memory. Not for several threads at once."""

    def __init__(self, trt: Any, plan: bytes, device: Device) -> None:
        self._device = device
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(
                "TensorRT cannot read an engine", remedy="delete it; it will be made again"
            )
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        output = trt.TensorIOMode.OUTPUT
        self._outputs = [n for n in names if self._engine.get_tensor_mode(n) == output]
        self._inputs = [n for n in names if n not in self._outputs]

    def __call__(self, inputs: Mapping[str, DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Run the engine on the device's stream."""
        for name in self._inputs:
            array = inputs[name]
            if not self._context.set_input_shape(name, tuple(array.shape)):
                raise EngineError(f"the TensorRT engine takes no {name} of shape {array.shape}")
            self._context.set_tensor_address(name, address(array))
        for name, array in zip(self._outputs, outputs, strict=True):
            self._context.set_tensor_address(name, address(array))
        if not self._context.execute_async_v3(self._device.stream_address):
            raise EngineError("TensorRT failed to run an engine")
