"""TensorRT without onnxruntime: engines built from a bundle's graphs.

This was written from the documentation of TensorRT 10.1 to 11, and has never been run. Networks are
strongly typed, as version 11 requires, so the ONNX graph decides the precision.

An engine has one profile or two, each with the largest input that it takes. The memory that an
engine works in is sized by the profile it runs in, so pictures of usual size don't pay for the
largest (see `trellic.gpu.tensorrt_engine`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from trellic.engines.pool import find_decoder
from trellic.errors import BadParameter, EngineError, MissingExtra
from trellic.gpu import cache
from trellic.gpu.device import Device, available, gpu_name
from trellic.gpu.tensorrt_engine import TensorRtEngine
from trellic.model.bundle import Bundle
from trellic.model.channels import Layout
from trellic.support.files import write_atomically

Shape = tuple[int, ...]
Shapes = dict[str, tuple[Shape, Shape, Shape]]  # of each input: smallest, best, largest
USUAL: Final = 1920  # pixels a side of the first profile, if larger pictures are allowed
BEST: Final = (1088, 1920)  # pixels of the picture that a profile is tuned for, if it takes that
TIMING: Final = "timing.cache"
PLAN: Final = "engine.plan"
LEAST_VERSION: Final = (10, 1)  # the first that takes memory for one profile


class Target(NamedTuple):
    """The largest input of engines."""

    side: int = 4096  # pixels a side of the largest picture
    batch: int = 1  # pictures of usual size in one run; larger batches run in several


def check_target(target: Target, layout: Layout) -> Target:
    """Return a target whose side is a multiple of what the model needs.

    Raises
    ------
    BadParameter
        When it is too small for any picture.
    """
    unit = layout.stride * layout.cell
    if target.side < unit or target.side > 1 << 16 or not 1 <= target.batch <= 1024:
        raise BadParameter(
            f"TensorRT engines for {target.batch} pictures of {target.side} pixels a side",
            expected=f"1 to 1024 pictures, {unit} to 65536 pixels",
        )
    return Target(-(-target.side // unit) * unit, target.batch)


def library() -> Any:
    """Return the module ``tensorrt``.

    Raises
    ------
    MissingExtra
        When it is not installed.
    EngineError
        When it is too old, or there is no GPU for it.
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
    found = tuple(int(part) for part in str(tensorrt.__version__).split(".")[:2])
    if found < LEAST_VERSION:
        raise EngineError(
            f"TensorRT {tensorrt.__version__}", expected="version 10.1 or newer", remedy="update it"
        )
    return tensorrt


def profiles_of(bundle: Bundle, name: str, target: Target) -> list[Shapes]:
    """Return the shapes of an engine's profiles, the one of the smaller inputs first.

    Parameters
    ----------
    name : "encoder", "hyper_encoder" or "decoder NAME"
    target : from `check_target`
    """
    unit = bundle.manifest.layout.stride * bundle.manifest.layout.cell
    if target.side <= USUAL:
        return [_shapes(bundle, name, unit, target)]
    usual = -(-USUAL // unit) * unit
    ranges = [(unit, Target(usual, target.batch)), (unit, Target(target.side, 1))]
    return [_shapes(bundle, name, least, most) for least, most in ranges]


def _shapes(bundle: Bundle, name: str, least: int, most: Target) -> Shapes:
    layout = bundle.manifest.layout
    unit = layout.stride * layout.cell
    best = [min(-(-side // unit) * unit, most.side) for side in BEST]
    counts, sides = (1, 1, most.batch), ([least] * 2, best, [most.side] * 2)
    shapes: Shapes = {}
    if name != "hyper_encoder" and graph_of(bundle, name).sees_quality:
        shapes["quality"] = ((1,), (1,), (most.batch,))
    if name == "encoder":
        three = [(n, *side, 3) for n, side in zip(counts, sides, strict=True)]
        return {"image": (three[0], three[1], three[2]), **shapes}
    info = bundle.manifest.decoders.get(name.removeprefix("decoder "))
    channels = (info and info.channels) or layout.latents
    planes = [
        (n, channels, *(pixels // layout.stride for pixels in side))
        for n, side in zip(counts, sides, strict=True)
    ]
    return {"latents": (planes[0], planes[1], planes[2]), **shapes}


def build(graph: bytes, profiles: list[Shapes], timing: Path | None = None) -> bytes:
    """Build an engine.

    Parameters
    ----------
    graph : bytes of the ONNX file
    profiles : from `profiles_of`
    timing : file of the timing cache, read and written; a cache of another version of TensorRT or
        of another GPU is replaced

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
        faults = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise EngineError(f"TensorRT cannot read a graph: {'; '.join(faults)}")
    config = builder.create_builder_config()
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, best, largest) in shapes.items():
            profile.set_shape(name, smallest, best, largest)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the shapes {shapes}")
    timings = _timings(config, timing)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError("TensorRT built no engine", remedy="its log on stderr says why")
    if timing is not None:
        write_atomically(timing, bytes(timings.serialize()))
    return bytes(plan)


def _timings(config: Any, timing: Path | None) -> Any:
    """Return the timing cache of a build: that of the file, if it was made here, or a new one."""
    known = timing.read_bytes() if timing is not None and timing.is_file() else b""
    for content in dict.fromkeys((known, b"")):
        timings = config.create_timing_cache(content)
        if timings is not None and config.set_timing_cache(timings, ignore_mismatch=False):
            return timings
    raise EngineError("TensorRT takes no timing cache, not even an empty one")


def _strongly_typed(trt: Any) -> int:
    """Return the flag that versions before 11 need; later versions always have it set."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def plan_of(bundle: Bundle, name: str, graph: bytes, target: Target) -> bytes:
    """Return a built engine, from the cache or built now (which takes minutes).

    Parameters
    ----------
    name : "encoder", "hyper_encoder" or "decoder NAME"
    graph : its ONNX file, in the types that the engine is to compute in
    target : the largest input
    """
    profiles = profiles_of(bundle, name, check_target(target, bundle.manifest.layout))
    folder = cache.folder(bundle.manifest.stream_id, graph, profiles, "free", gpu_name())
    plan = folder / PLAN
    if not plan.is_file():
        write_atomically(plan, build(graph, profiles, folder.parent / TIMING))
    return plan.read_bytes()


def engine_of(
    bundle: Bundle, name: str, graph: bytes, device: Device, target: Target | None = None
) -> TensorRtEngine:
    """Return the engine of a graph, as `plan_of` does, ready to run."""
    return TensorRtEngine(library(), plan_of(bundle, name, graph, target or Target()), device)


def graph_of(bundle: Bundle, name: str) -> Any:
    """Return the manifest's entry of "encoder", "hyper_encoder" or "decoder NAME"."""
    if name.startswith("decoder "):
        return find_decoder(bundle, name.removeprefix("decoder "))
    return getattr(bundle.manifest, name)
