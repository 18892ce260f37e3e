"""CUDA kernels for memory in general."""

from __future__ import annotations

from typing import Any

from trellic.gpu.kernels.kernel import kernel
from trellic.gpu.toolkit import cuda


@kernel("void(int32[::1])")
def clear(array: Any) -> None:
    """Fill with zeros."""
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        array[i] = 0
