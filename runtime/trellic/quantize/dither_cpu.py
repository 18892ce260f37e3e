"""Subtractive dither compiled for CPUs: signatures and integers of `trellic.quantize.dither`."""

import numpy as np

from trellic.quantize.dither import FIRST_CLASS, HALF64, MULTIPLIERS, NOISE_SHIFT, Int8s, slice_key
from trellic.quantize.search_tables import Int32s, Uint8s, clamp_limit
from trellic.support.numba import njit

__all__ = ["classes", "noise", "quantize", "reconstruct", "slice_key"]

FACTORS = np.array(MULTIPLIERS, np.uint32)
LIMIT = clamp_limit(0, 1)


def noise(key: int, first: int, position: Int32s) -> Int8s:
    """See `trellic.quantize.dither.noise`."""
    out = np.empty(len(position), np.int8)
    _noise(np.uint32(key), np.uint32(first + key & 0xFFFFFFFF), position, out)
    return out


def classes(u: Int8s) -> Uint8s:
    """See `trellic.quantize.dither.classes`."""
    out = np.empty(len(u), np.uint8)
    _classes(u, out)
    return out


def quantize(t32: Int32s, u: Int8s) -> Int32s:
    """See `trellic.quantize.dither.quantize`."""
    out = np.empty(len(t32), np.int32)
    _quantize(t32, u, out)
    return out


def reconstruct(k: Int32s, u: Int8s) -> Int32s:
    """See `trellic.quantize.dither.reconstruct`."""
    out = np.empty(len(k), np.int32)
    _reconstruct(k, u, out)
    return out


@njit
def _mix(x: np.uint32) -> np.uint32:
    x ^= x >> np.uint32(16)
    x = np.uint32(x * FACTORS[0])
    x ^= x >> np.uint32(15)
    x = np.uint32(x * FACTORS[1])
    return np.uint32(x ^ x >> np.uint32(16))


@njit
def _noise(key: np.uint32, start: np.uint32, position: Int32s, out: Int8s) -> None:
    for i in range(len(position)):
        mixed = _mix(np.uint32(_mix(np.uint32(start + np.uint32(position[i]))) ^ key))
        out[i] = np.int32(mixed >> np.uint32(NOISE_SHIFT)) - HALF64


@njit
def _classes(u: Int8s, out: Uint8s) -> None:
    for i in range(len(u)):
        out[i] = FIRST_CLASS + ((np.int32(u[i]) + HALF64) >> 2)


@njit
def _quantize(t32: Int32s, u: Int8s, out: Int32s) -> None:
    for i in range(len(t32)):
        t = min(max(int(t32[i]), -LIMIT), LIMIT)
        out[i] = (2 * t + np.int32(u[i]) + HALF64) >> 6


@njit
def _reconstruct(k: Int32s, u: Int8s, out: Int32s) -> None:
    for i in range(len(k)):
        out[i] = 32 * k[i] - ((np.int32(u[i]) + 1) >> 1)
