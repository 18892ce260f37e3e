"""CUDA kernel that finishes a layer of an integer network whose sums another library has made."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trellic.gpu.kernels.kernel import kernel, product
from trellic.gpu.toolkit import cuda


@kernel("void(float32[::1], float32[::1], float32[::1], int32, int32, int32)")
def requantize(x: Any, bias: Any, scale: Any, size: Any, low: Any, high: Any) -> None:
    """Make ``clip(floor((x + bias) * scale + 1/2), low, high)`` of sums, in place.

    Blocks (n, y) work for plane n, in strides. Sums and bias are integers below 2^22 and `scale` is
    2^-1 or a smaller power of two, so float32 holds every value between exactly.

    Parameters
    ----------
    x : (pictures, channels, height, width), flat
    bias, scale : of each channel
    size : of a plane
    low, high : clip range
    """
    plane = cuda.blockIdx.x
    c = plane % bias.size
    own_bias, own_scale = bias[c], scale[c]
    at = np.int64(plane) * size
    start = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(start, size, cuda.blockDim.x * cuda.gridDim.y):
        value = product(np.float32(x[at + i] + own_bias), own_scale)
        value = np.float32(math.floor(np.float32(value + np.float32(0.5))))
        x[at + i] = min(max(value, np.float32(low)), np.float32(high))
