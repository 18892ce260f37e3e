"""CUDA kernels of pixels: padding before the encoder network, cropping after the decoder network.

Everything else that happens to pixels (scaling, layout, rounding) is in the networks' graphs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from trellic.gpu.kernels.kernel import kernel
from trellic.gpu.toolkit import cuda

# Columns of the table of pictures.
HEIGHT: Final = 0
WIDTH: Final = 1
CHANNELS: Final = 2  # 1 or 3
PIXEL_AT: Final = 3
PADDED_HEIGHT: Final = 4
PADDED_WIDTH: Final = 5
PADDED_AT: Final = 6
PIXEL_COLUMNS: Final = 7


@kernel("void(int64[:, ::1], uint8[::1], uint8[::1])")
def pad_pixels(pictures: Any, pixels: Any, padded: Any) -> None:
    """Repeat the last row and column, and a grey channel three times; block (x, y): picture x."""
    row = cuda.blockIdx.x
    height, width = pictures[row, HEIGHT], pictures[row, WIDTH]
    channels, across = pictures[row, CHANNELS], np.uint32(3 * pictures[row, PADDED_WIDTH])
    source, target = pictures[row, PIXEL_AT], pictures[row, PADDED_AT]
    total = pictures[row, PADDED_HEIGHT] * across
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(place, total, cuda.blockDim.x * cuda.gridDim.y):
        y = min(np.int64(np.uint32(i) // across), height - 1)
        inside = np.uint32(np.uint32(i) % across)
        x = min(np.int64(inside // np.uint32(3)), width - 1)
        channel = np.int64(inside % np.uint32(3)) if channels == 3 else 0
        padded[target + i] = pixels[source + (y * width + x) * channels + channel]


@kernel("void(int64[:, ::1], uint8[::1], uint8[::1])")
def crop_pixels(pictures: Any, padded: Any, pixels: Any) -> None:
    """Cut the padding off; a grey picture is the mean of three channels, rounded."""
    row = cuda.blockIdx.x
    height, width = pictures[row, HEIGHT], pictures[row, WIDTH]
    channels = pictures[row, CHANNELS]
    source, target = pictures[row, PADDED_AT], pictures[row, PIXEL_AT]
    across = np.uint32(width * channels)
    place = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    for i in range(place, height * across, cuda.blockDim.x * cuda.gridDim.y):
        y = np.int64(np.uint32(i) // across)
        inside = np.int64(np.uint32(i) % across)
        at = source + y * 3 * pictures[row, PADDED_WIDTH]
        if channels == 3:
            pixels[target + i] = padded[at + inside]
        else:
            at += 3 * inside
            total = np.int32(padded[at]) + np.int32(padded[at + 1]) + np.int32(padded[at + 2])
            pixels[target + i] = (2 * total + 3) // 6
