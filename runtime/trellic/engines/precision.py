"""The precision of the float transforms: on CPUs bfloat16 or 8 bits, on GPUs float16."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal, get_args

from trellic.engines.openvino import has_bf16, missing_for_bf16
from trellic.errors import BadParameter, EngineError
from trellic.model.bundle import Bundle

Precision = Literal["fp32", "bf16", "int8", "fp16"]
PRECISIONS = ("auto", *get_args(Precision))
CPU_FACTS = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni"}  # dot products of uint8 and int8 that do not saturate


def choose(precision: str, bundle: Bundle, device: str) -> Precision:
    """Return the precision that engines use.

    Parameters
    ----------
    precision : "fp32", "bf16", "int8" (CPUs) and "fp16" (GPUs) are used as named. "auto" takes the
        fastest on this machine: bf16 if OpenVINO is installed and the CPU multiplies it, else int8
        if the CPU has VNNI and the bundle has such graphs, else fp32. On a GPU it is always fp32
    device : "cpu", "cuda" or "tensorrt"

    Raises
    ------
    BadParameter
        When the precision is unknown, or is "bf16" or "int8" on a GPU, or "fp16" on a CPU.
    EngineError
        When the bundle has no graphs for "int8" or "fp16", the CPU saturates with "int8", or it has
        no "bf16".
    MissingExtra
        When the precision is "bf16" and OpenVINO is not installed.
    """
    if precision not in PRECISIONS:
        raise BadParameter(f"precision {precision!r}", expected=", ".join(PRECISIONS))
    if precision == "auto":
        return _fastest(bundle) if device == "cpu" else "fp32"
    if precision == "fp32":
        return "fp32"
    if (precision == "fp16") != (device != "cpu"):
        wanted = "'cuda' or 'tensorrt'" if precision == "fp16" else "'cpu'"
        raise BadParameter(
            f"precision {precision!r} on device {device!r}", expected=f"device {wanted}"
        )
    if precision == "bf16":
        if missing := missing_for_bf16():
            raise EngineError(missing, remedy="take the precision 'auto' or 'fp32'")
        return "bf16"
    if not has(bundle, precision):
        raise EngineError(
            f"model {bundle.manifest.name!r} has no {precision} graphs",
            remedy=(
                "take the precision 'auto' or 'fp32', or add them with: "
                f"trellic export BUNDLE OUT --{precision}"
            ),
        )
    if precision == "fp16":
        return "fp16"
    if saturates():
        raise EngineError(
            "this processor has no VNNI: its 8-bit products saturate, and pictures suffer",
            remedy="take the precision 'auto' or 'fp32'",
        )
    return "int8"


def _fastest(bundle: Bundle) -> Precision:
    if has_bf16():
        return "bf16"
    return "int8" if has_vnni() and has(bundle, "int8") else "fp32"


def has(bundle: Bundle, precision: str) -> bool:
    """Whether any graph of a bundle has a variant in a precision."""
    manifest = bundle.manifest
    graphs = [manifest.encoder, *(info.graph for info in manifest.decoders.values())]
    return any(precision in graph.variants for graph in graphs)


def has_vnni() -> bool:
    """Whether this is an x86 processor with VNNI; False if the system does not say."""
    return bool(_flags() & VNNI)


def saturates() -> bool:
    """Whether this is known to be an x86 processor without VNNI."""
    return "sse2" in _flags() and not has_vnni()


@functools.cache
def _flags() -> frozenset[str]:
    try:
        lines = CPU_FACTS.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(next(flags, []))
