"""Layers of integer networks whose convolution another library does: the rest, in one launch."""

from __future__ import annotations

from typing import Final

from trellic.gpu.device import ROWS, THREADS, Device
from trellic.gpu.given import DeviceArray
from trellic.gpu.kernels import exact as kernels

MOST_ROWS: Final = ROWS  # blocks that share a plane


def requantize(
    device: Device, x: DeviceArray, bias: DeviceArray, scale: DeviceArray, low: int, high: int
) -> None:
    """Make integers of a layer's sums, as `trellic.integer.networks.evaluate` does, in place.

    Parameters
    ----------
    x : float32 (pictures, channels, height, width), C contiguous: sums without bias
    bias, scale : float32 (channels,); `scale` is a power of two, 1/2 at most
    low, high : clip range of the result
    """
    count, channels, height, width = x.shape
    size = height * width
    blocks = count * channels, min(-(-size // THREADS), MOST_ROWS)
    kernels.requantize(
        *(blocks, THREADS, device.stream), x.reshape(-1), bias, scale, size, low, high
    )
