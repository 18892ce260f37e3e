"""Subtractive dither on a GPU: the same integers as `trellic.quantize.dither`.

The batches of `trellic.gpu` do not dither yet and refuse it. These are the kernels that would: one
thread a latent, no state. Products are taken in 64 bits and cut, which the compiler turns into
32-bit ones and the simulator computes without a warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from trellic.constants import MAX_SEED
from trellic.gpu.device import default_device
from trellic.gpu.kernels import kernel as _cuda
from trellic.gpu.kernels.kernel import kernel
from trellic.limits import STEP32
from trellic.quantize.dither import FIRST_CLASS, HALF64, MULTIPLIERS, NOISE_SHIFT, Int8s, slice_key
from trellic.quantize.search_tables import Int32s, Uint8s, clamp_limit

__all__ = ["noise", "quantize", "reconstruct", "slice_key"]

FIRST_FACTOR, SECOND_FACTOR = MULTIPLIERS
LIMIT = clamp_limit(0, 1)


def _mix(x: Any) -> Any:
    """Scramble 32 bits held in 64."""
    x = x ^ x >> np.uint64(16)
    x = x * np.uint64(FIRST_FACTOR) & np.uint64(MAX_SEED)
    x = x ^ x >> np.uint64(15)
    x = x * np.uint64(SECOND_FACTOR) & np.uint64(MAX_SEED)
    return x ^ x >> np.uint64(16)


mix = _cuda.device(_mix)


@kernel("void(uint32, uint32, int32[::1], int8[::1], uint8[::1])")
def dither_noise(key: Any, first: Any, position: Any, u: Any, cls: Any) -> None:
    """Fill in noise and classes of latents of a slice; `first` is the number of position 0."""
    start = np.uint64(first) + np.uint64(key)
    for i in range(cuda.grid(1), position.size, cuda.gridsize(1)):
        number = start + np.uint64(position[i]) & np.uint64(MAX_SEED)
        mixed = mix(mix(number) ^ np.uint64(key))
        value = np.int32(mixed >> np.uint64(NOISE_SHIFT)) - np.int32(HALF64)
        u[i] = value
        cls[i] = np.int32(FIRST_CLASS) + ((value + np.int32(HALF64)) >> np.int32(2))


@kernel("void(int32[::1], int8[::1], int32[::1])")
def dither_quantize(t32: Any, u: Any, k: Any) -> None:
    """Round latents with their noise."""
    for i in range(cuda.grid(1), t32.size, cuda.gridsize(1)):
        t = min(max(np.int32(t32[i]), np.int32(-LIMIT)), np.int32(LIMIT))
        k[i] = (np.int32(2) * t + np.int32(u[i]) + np.int32(HALF64)) >> np.int32(6)


@kernel("void(int32[::1], int8[::1], int32[::1])")
def dither_reconstruct(k: Any, u: Any, recon32: Any) -> None:
    """Take the noise off again."""
    for i in range(cuda.grid(1), k.size, cuda.gridsize(1)):
        half = (np.int32(u[i]) + np.int32(1)) >> np.int32(1)
        recon32[i] = np.int32(STEP32) * k[i] - half


# ---- with the reference's signatures ----


def noise(key: int, first: int, position: Int32s) -> tuple[Int8s, Uint8s]:
    """Return noise and classes; see `trellic.quantize.dither`."""
    device, n = default_device(), len(position)
    u, cls = device.empty("u", n, np.int8), device.empty("cls", n, np.uint8)
    on_device = device.upload("position", position)
    dither_noise(*device.spread(n), device.stream, key, first & MAX_SEED, on_device, u, cls)
    return device.fetch(u), device.fetch(cls)


def quantize(t32: Int32s, u: Int8s) -> Int32s:
    """Return indices; see `trellic.quantize.dither.quantize`."""
    device, n = default_device(), len(t32)
    k = device.empty("k", n, np.int32)
    given = device.upload("t32", t32), device.upload("u", u)
    dither_quantize(*device.spread(n), device.stream, *given, k)
    return device.fetch(k)


def reconstruct(k: Int32s, u: Int8s) -> Int32s:
    """Return reconstructions in 1/32 step; see `trellic.quantize.dither.reconstruct`."""
    device, n = default_device(), len(k)
    recon32 = device.empty("recon32", n, np.int32)
    given = device.upload("k", k), device.upload("u", u)
    dither_reconstruct(*device.spread(n), device.stream, *given, recon32)
    return device.fetch(recon32)
