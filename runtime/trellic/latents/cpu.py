"""Latents of one slice and context step, compiled: same signatures and integers as `reference`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trellic.latents.reference import Float32, Int32, Int64
from trellic.limits import LATENT_LIMIT, LOG_BIAS, LOG_BITS, MEAN_LIMIT, STEP32
from trellic.support.numba import njit

CHUNK = 1024  # latents whose logarithms are taken at a time


def to_fixed(f: Float32, gain: Float32) -> Int64:
    """See `reference.to_fixed`."""
    f = np.ascontiguousarray(f, np.float32)
    out = np.empty(f.shape, np.int64)
    _to_fixed(f.reshape(len(f), -1), gain * np.float32(STEP32), out.reshape(len(f), -1))
    return out


def log_sum(y32: Int64) -> int:
    """See `reference.log_sum`."""
    return int(_log_sum(np.ascontiguousarray(y32, np.int64).ravel()))


def context_input(v32: Int32, context_scale: Int64, out: Float32) -> None:
    """See `reference.context_input`; ``out`` is contiguous."""
    _context_input(v32.reshape(len(v32), -1), context_scale, out.reshape(len(v32), -1))


def predict(
    mu: Float32,
    scale: Float32,
    member: npt.NDArray[np.bool_],
    gain: Int64,
    scale_shift: Int64,
    limits: tuple[int, int, int, int],
    v32: Int32,
) -> tuple[Int32, Int32, npt.NDArray[np.uint8]]:
    """See `reference.predict`."""
    position = np.empty(mu.size, np.int32)
    mean32 = np.empty(mu.size, np.int32)
    index = np.empty(mu.size, np.uint8)
    bounds = np.array(limits, np.int64)
    n = int(_predict(mu, scale, member, gain, scale_shift, bounds, v32, position, mean32, index))
    return position[:n].copy(), mean32[:n].copy(), index[:n].copy()


@njit
def _to_fixed(f: Float32, gain: Float32, out: Int64) -> None:
    half = np.float32(0.5)
    for c in range(f.shape[0]):
        for i in range(f.shape[1]):
            out[c, i] = np.int64(np.floor(f[c, i] * gain[c] + half))


@njit
def _log_sum(y32: Int64) -> Any:
    whole = np.empty(CHUNK, np.float32)
    bits = whole.view(np.int32)
    total = np.int64(0)
    for start in range(0, len(y32), CHUNK):
        count = min(CHUNK, len(y32) - start)
        for i in range(count):
            whole[i] = min(abs(y32[start + i]), LATENT_LIMIT) + STEP32
        for i in range(count):
            total += (bits[i] >> (23 - LOG_BITS)) - LOG_BIAS
    return total


@njit
def _context_input(v32: Int32, context_scale: Int64, out: Float32) -> None:
    for c in range(v32.shape[0]):
        m = context_scale[c]
        for i in range(v32.shape[1]):
            value = (v32[c, i] * m + 32768) >> 16
            out[c, i] = min(max(value, -127), 127)


@njit
def _predict(
    mu: Float32,
    scale: Float32,
    member: Any,
    gain: Int64,
    shift: Int64,
    limits: Int64,
    v32: Int32,
    position: Int32,
    mean32: Int32,
    index: Any,
) -> Any:
    rows, columns, skip = limits[0], limits[1], limits[2]
    channels, height, width = mu.shape
    limit, last = float(MEAN_LIMIT), float(limits[3] - 1)
    means, indices = np.empty(width, np.int32), np.empty(width, np.uint8)
    n = np.uint64(0)
    for c in range(channels):
        even, odd = member[c, 0], member[c, 1]
        if not even and not odd:
            continue
        stride = 1 if even and odd else 2
        # float64 holds all of these integers, and processors have vectors for it
        times, added = float(gain[c]), float(shift[c] + 64)
        for y in range(height):
            for x in range(width):
                mean = np.floor((np.float64(mu[c, y, x]) * times + 32768.0) * 2.0**-16)
                mean = -limit if mean < -limit else mean
                means[x] = np.int32(limit if mean > limit else mean)
            for x in range(width):
                i = np.floor((np.float64(scale[c, y, x]) * 16.0 + added) * 2.0**-7)
                i = 0.0 if i < 0.0 else i
                indices[x] = np.int32(last if i > last else i)
            start = 0 if stride == 1 else (y & 1 if even else 1 - (y & 1))
            row, base = v32[c, y], (c * height + y) * width
            for j in range((width - start + stride - 1) // stride):
                row[start + j * stride] = means[start + j * stride]
            end = min(width, columns) if y < rows else 0
            for j in range((end - start + stride - 1) // stride):
                x = start + j * stride
                position[n] = base + x
                mean32[n] = means[x]
                index[n] = indices[x]
                n += np.uint64(indices[x] >= skip)  # no branch, which could not be predicted
    return n


@njit
def fill(v32: Int32, position: Int32, recon32: Int32) -> None:
    """Add reconstructions to means: ``v32[position] += recon32``, all flat, no position twice."""
    for i in range(len(position)):
        v32[position[i]] += recon32[i]
