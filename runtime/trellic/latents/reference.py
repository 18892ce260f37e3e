"""Latents of one slice and context step, in plain NumPy: the reference for `cpu`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.limits import LATENT_LIMIT, LOG_BIAS, LOG_BITS, MEAN_LIMIT, STEP32

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]


def to_fixed(f: Float32, gain: Float32) -> Int64:
    """Multiply outputs of g_a by their gains.

    Parameters
    ----------
    f : float32 (channels, h, w)
    gain : float32 (channels,)

    Returns
    -------
    int64 (channels, h, w), in 1/32 step
    """
    y32: Int64 = np.floor(f * (gain * STEP32)[:, None, None] + 0.5).astype(np.int64)
    return y32


def log_sum(y32: Int64) -> int:
    """Estimate the 1/256 bits of latents: one bit for each doubling of ``1 + |y|``.

    It uses exact integers, so that a GPU has the same estimate: the bits of a float32 are its
    logarithm, linear between powers of two.
    """
    whole = (np.minimum(np.abs(y32), LATENT_LIMIT) + STEP32).astype(np.float32)
    logs = (whole.view(np.int32) >> (23 - LOG_BITS)) - LOG_BIAS
    return int(logs.sum(dtype=np.int64))


def context_input(v32: Int32, context_scale: Int64, out: Float32) -> None:
    """Turn decoded latents into activations of a context network.

    Parameters
    ----------
    v32 : int32 (channels, h, w), latents in 1/32 step, 0 where not decoded yet
    context_scale : int64 (channels,)
    out : float32 (channels, h, w), changed in place to integers in [-127, 127]
    """
    scaled: Int64 = (v32.astype(np.int64) * context_scale[:, None, None] + (1 << 15)) >> 16
    out[:] = np.clip(scaled, -127, 127)


def predict(
    mu: Float32,
    scale: Float32,
    member: npt.NDArray[np.bool_],
    gain: Int64,
    scale_shift: Int64,
    limits: tuple[int, int, int, int],
    v32: Int32,
) -> tuple[Int32, Int32, npt.NDArray[np.uint8]]:
    """Means and scale indices of the latents of one step; fills in the means.

    Parameters
    ----------
    mu, scale : float32 (channels, h, w), integer outputs of the context network
    member : bool (channels, 2), whether a (channel, parity) belongs to the step
    gain, scale_shift : int64 (channels,)
    limits : (rows, columns, skip_index, scales); latents beyond ``rows`` or ``columns``, or whose
        scale index is below ``skip_index``, are not coded
    v32 : int32 (channels, h, w), changed in place: set to the mean wherever the step has a latent

    Returns
    -------
    position : int32 (n,), index into the flattened ``v32`` of each coded latent, ascending
    mean32 : int32 (n,); scale_index : uint8 (n,)
    """
    rows, columns, skip, scales = limits
    _, height, width = mu.shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    mask = member[:, (y + x) & 1]
    mean = (mu.astype(np.int64) * gain[:, None, None] + (1 << 15)) >> 16
    mean = np.clip(mean, -MEAN_LIMIT, MEAN_LIMIT)
    index = (scale.astype(np.int64) * 16 + scale_shift[:, None, None] + 64) >> 7
    index = np.clip(index, 0, scales - 1)
    v32[mask] = mean[mask]
    coded = mask & (index >= skip) & (y < rows) & (x < columns)
    position = np.flatnonzero(coded).astype(np.int32)
    return position, mean[coded].astype(np.int32), index[coded].astype(np.uint8)


def fill(v32: Int32, position: Int32, recon32: Int32) -> None:
    """Add reconstructions to means: ``v32[position] += recon32``, all flat, no position twice."""
    v32[position] += recon32
