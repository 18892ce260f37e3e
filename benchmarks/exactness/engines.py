"""Every way to run the integer networks that a machine may choose."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch.nn import functional

from trellic.integer import vectors
from trellic.integer.compiled import CompiledNetwork, runs_compiled
from trellic.integer.networks import IntegerLayer, IntegerNetwork

from .integers import evaluate

Integers = npt.NDArray[Any]
Evaluate = Callable[[npt.NDArray[np.float32]], list[Integers]]
Load = Callable[[IntegerNetwork, bytes], Evaluate]
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")
THREADS = (1, 2, 4)
LAYOUTS = {"NCHW": False, "NHWC": True}  # whether channels come last


@dataclass(frozen=True)
class Variant:
    """One engine with its settings.

    Attributes
    ----------
    name : for the report
    load : makes it for a network and its ONNX graph
    exact : whether its integers must be right; the others are only reported
    """

    name: str
    load: Load
    exact: bool = True


def cpu_variants() -> list[Variant]:
    """Return what runs on every machine; the first is the judge."""
    return [
        *(Variant(f"int64 {name}", _judge(last)) for name, last in LAYOUTS.items()),
        Variant("trellic, plain integers", lambda network, _: network),
        *_compiled_variants(),
        *_onnxruntime_variants("CPUExecutionProvider", THREADS),
        *_torch_variants("cpu", {"float32": torch.float32, "float64": torch.float64}),
        Variant("torch cpu float32 NCHW, without oneDNN", _without_onednn),
        *_torch_variants("cpu", {"bfloat16": torch.bfloat16}, exact=False),
    ]


def gpu_variants() -> list[Variant]:
    """Return what runs on this machine's GPU: nothing, without CUDA builds of the engines."""
    found: list[Variant] = []
    if torch.cuda.is_available():
        found += _torch_variants("cuda", {"float32": torch.float32, "float64": torch.float64})
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}
        found += _torch_variants("cuda", half, exact=False)
        found += _torch_variants("cuda", {"TF32": torch.float32}, exact=False, tf32=True)
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        found += _onnxruntime_variants("CUDAExecutionProvider", (1,), use_tf32="0")
        found += _onnxruntime_variants("CUDAExecutionProvider", (1,), use_tf32="1")
    return found


def _judge(last: bool) -> Load:
    return lambda network, _: lambda x: evaluate(network, x, channels_last=last)


def _compiled_variants() -> list[Variant]:
    """Return Trellic's own kernels, where the processor has what they need."""

    def load(network: IntegerNetwork, _: bytes) -> Evaluate:
        if not runs_compiled(network):  # the codec would not take it either
            return network
        engine = CompiledNetwork(network, 2)
        return lambda x: [y[0] for y in engine({"x": x[None]})]

    kind = vectors.found()
    return [Variant(f"trellic, {kind.name}", load)] if kind else []


# ---- onnxruntime ----


def _onnxruntime_variants(
    provider: str, threads: tuple[int, ...], **options: str
) -> Iterator[Variant]:
    short = provider.removesuffix("ExecutionProvider")
    tf32 = options.get("use_tf32") == "1"
    for level, count in product(LEVELS, threads):
        settings = f"{level}, threads: {count}" if short == "CPU" else level + ", TF32" * tf32
        load = _session(provider, level, count, options)
        yield Variant(f"onnxruntime {short} {settings}", load, exact=not tf32)


def _session(provider: str, level: str, threads: int, provider_options: dict[str, str]) -> Load:
    def load(network: IntegerNetwork, graph: bytes) -> Evaluate:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_{level}"
        )
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(
            graph, options, providers=[(provider, provider_options)]
        )
        if session.get_providers()[0] != provider:  # it falls back to the CPU by itself
            raise RuntimeError(f"onnxruntime does not run on {provider} here")
        return lambda x: [y[0] for y in session.run(None, {"x": x[None]})]

    return load


# ---- torch ----


def _torch_variants(
    device: str, dtypes: dict[str, torch.dtype], *, exact: bool = True, tf32: bool = False
) -> Iterator[Variant]:
    for (name, dtype), (layout, last) in product(dtypes.items(), LAYOUTS.items()):
        load = _torch(device, dtype, last=last, tf32=tf32)
        yield Variant(f"torch {device} {name} {layout}", load, exact)


def _torch(device: str, dtype: torch.dtype, *, last: bool, tf32: bool = False) -> Load:
    memory = torch.channels_last if last else torch.contiguous_format

    def load(network: IntegerNetwork, _: bytes) -> Evaluate:
        trunk = [_constants(layer, device, dtype) for layer in network.trunk]
        heads = [_constants(layer, device, dtype) for layer in network.heads]

        def run(x: npt.NDArray[np.float32]) -> list[Integers]:
            with torch.inference_mode(), _tf32(tf32):
                value = torch.from_numpy(x)[None].to(device, dtype).to(memory_format=memory)
                for layer in trunk:
                    value = layer(value)
                ends = [head(value) for head in heads] or [value]
                return [end[0].double().cpu().numpy() for end in ends]

        return run

    return load


def _constants(
    layer: IntegerLayer, device: str, dtype: torch.dtype
) -> Callable[[torch.Tensor], torch.Tensor]:
    if layer.kind == "shuffle":
        return lambda x: functional.pixel_shuffle(x, 2)
    depthwise = layer.kind == "depthwise"
    shapes = {"depthwise": np.s_[:, None], "conv": np.s_[:], "pointwise": np.s_[:, :, None, None]}
    array = layer.weight[shapes[layer.kind]]
    weight = torch.from_numpy(array.astype(np.float64)).to(device, dtype)
    bias = torch.from_numpy(layer.bias.astype(np.float64)).to(device, dtype)
    scale = torch.from_numpy(np.exp2(-layer.shift.astype(np.float64))).to(device, dtype)
    table = torch.from_numpy(layer.table.astype(np.float64)).to(device, dtype)
    padding, groups = weight.shape[2] // 2, len(weight) if depthwise else 1
    largest = torch.finfo(dtype).max  # of fp16 it is less than the range of a head
    low, high = max(layer.low, -largest), min(layer.high, largest)

    def run(x: torch.Tensor) -> torch.Tensor:
        acc = functional.conv2d(x, weight, bias, padding=padding, groups=groups)
        scaled = acc * scale[:, None, None] + 0.5
        value = scaled.floor().clamp(low, high)
        return table[value.long() - layer.low].to(dtype) if len(table) else value

    return run


def _without_onednn(network: IntegerNetwork, graph: bytes) -> Evaluate:
    inner = _torch("cpu", torch.float32, last=False)(network, graph)

    def run(x: npt.NDArray[np.float32]) -> list[Integers]:
        with warnings.catch_warnings(action="ignore"), torch.backends.mkldnn.flags(enabled=False):
            return inner(x)

    return run


@contextlib.contextmanager
def _tf32(allow: bool) -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = allow
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
