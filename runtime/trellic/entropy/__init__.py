"""Entropy coder: integer frequency tables and interleaved rANS, specified in ``docs/format.md``.

`encode` and `Decoder` are the compiled ones of `trellic.entropy.cpu`. They are loaded, with numba,
when they are first used. `trellic.entropy.reference` has the same two in plain Python, and defines
every bit.
"""

from typing import TYPE_CHECKING, Any

from trellic.entropy.divided import Divided
from trellic.entropy.lanes import Segment, choose_lanes, max_compressed_size
from trellic.entropy.tables import Tables, quantized_pmf

if TYPE_CHECKING:
    from trellic.entropy.cpu import Decoder, encode

__all__ = [
    "Decoder",
    "Divided",
    "Segment",
    "Tables",
    "choose_lanes",
    "encode",
    "max_compressed_size",
    "quantized_pmf",
]


def __getattr__(name: str) -> Any:
    if name not in ("Decoder", "encode"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from trellic.entropy import cpu
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("numba", "llvmlite"):
            raise
        from trellic.errors import MissingExtra

        raise MissingExtra.of("numba", "cpu", "the entropy coder") from error
    return getattr(cpu, name)
