"""In which precision the free transforms run: float32, or a part of their layers in 8 bits."""

from __future__ import annotations

import functools
from pathlib import Path

from ..bundle import Bundle
from ..errors import BadParameter, EngineError

PRECISIONS = ("auto", "fp32", "int8")
CPU_FACTS = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni"}  # dot products of uint8 and int8 that do not saturate


def use_int8(precision: str, bundle: Bundle, device: str) -> bool:
    """Whether engines take the 8-bit variants of a bundle's graphs.

    Parameters
    ----------
    precision : "int8" insists on them; "auto" takes them on a CPU that is known to be faster so
    device : "cpu", "cuda" or "tensorrt"

    Raises
    ------
    BadParameter
        When the precision is unknown, or "int8" is asked of a GPU.
    EngineError
        When "int8" is asked of a bundle without such graphs, or of a CPU that saturates.
    """
    if precision not in PRECISIONS:
        raise BadParameter(f"precision {precision!r}", expected=", ".join(PRECISIONS))
    if precision != "int8":
        return precision == "auto" and device == "cpu" and has_vnni()
    if device != "cpu":
        raise BadParameter(f"precision 'int8' on device {device!r}", expected="device 'cpu'")
    manifest = bundle.manifest
    graphs = [manifest.encoder, *(info.graph for info in manifest.decoders.values())]
    if not any(graph.int8 for graph in graphs):
        raise EngineError(
            f"model {manifest.name!r} has no int8 graphs",
            remedy="leave the precision at 'auto', or add them with: trellic export --int8",
        )
    if saturates():
        raise EngineError(
            "this processor has no VNNI: its 8-bit products saturate, and pictures suffer",
            remedy="leave the precision at 'auto'",
        )
    return True


def has_vnni() -> bool:
    """Whether this is an x86 processor with VNNI; False where the system does not say."""
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
