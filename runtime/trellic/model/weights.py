"""Constants of a graph: where their numbers lie in its ONNX file, and how to add to them.

Sizes do not change, so a file is changed in place without the package ``onnx``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.errors import BadAdapter
from trellic.model.protobuf import integers, spans

Float32 = npt.NDArray[np.float32]
TYPES: dict[int, type[np.floating[Any]]] = {1: np.float32, 10: np.float16}  # TensorProto.DataType


@dataclass(frozen=True)
class Constant:
    """One constant of a graph.

    Attributes
    ----------
    shape : as the graph has it
    dtype : float32 or float16
    offset : of its first number, in bytes of the file
    """

    shape: tuple[int, ...]
    dtype: type[np.floating[Any]]
    offset: int

    @property
    def size(self) -> int:
        """Count of its numbers."""
        return math.prod(self.shape)


def constants(graph: bytes) -> dict[str, Constant]:
    """Find the floating-point constants of an ONNX file that are stored as raw bytes, by name.

    Raises
    ------
    BadBundle
        When the file is not a protobuf message.
    """
    found = {}
    for number, inner in spans(graph):
        if number != 7 or not isinstance(inner, slice):  # ModelProto.graph
            continue
        body = graph[inner]
        for kind, place in spans(body):
            if kind == 5 and isinstance(place, slice):  # GraphProto.initializer
                name, constant = _constant(body[place], inner.start + place.start)
                if constant is not None:
                    found[name] = constant
    return found


def _constant(tensor: bytes, start: int) -> tuple[str, Constant | None]:
    """Read a TensorProto that begins at an offset of the file."""
    name, kind, raw = "", 0, None
    shape: list[int] = []
    for number, value in spans(tensor):
        if number == 1:
            shape += integers(tensor[value] if isinstance(value, slice) else value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and isinstance(value, slice):
            name = tensor[value].decode(errors="replace")
        elif number == 9 and isinstance(value, slice):
            raw = value
    dtype = TYPES.get(kind)
    if dtype is None or raw is None or min(shape, default=0) < 0:
        return name, None
    constant = Constant(tuple(shape), dtype, start + raw.start)
    fits = constant.size * np.dtype(dtype).itemsize == raw.stop - raw.start
    return name, constant if fits else None


def add(graph: bytes, changes: Mapping[str, Float32]) -> bytes:
    """Add to constants of an ONNX file; sums that are too large become the largest number.

    Parameters
    ----------
    graph : bytes of the file
    changes : by name of a constant, of its shape, finite

    Raises
    ------
    BadAdapter
        When there is no such constant.
    """
    known, out = constants(graph), bytearray(graph)
    for name, change in changes.items():
        constant = known.get(name)
        if constant is None or constant.shape != change.shape:
            raise BadAdapter(f"the graph has no constant {name!r} of shape {change.shape}")
        dtype = np.dtype(constant.dtype).newbyteorder("<")
        end = constant.offset + constant.size * dtype.itemsize
        before = np.frombuffer(graph, dtype, constant.size, constant.offset).astype(np.float64)
        most = float(np.finfo(constant.dtype).max)
        after = np.clip(before + change.ravel(), -most, most).astype(dtype)
        out[constant.offset : end] = after.tobytes()
    return bytes(out)
