"""How close two pictures are: PSNR and SSIM, with nothing but NumPy."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_WINDOW = 7  # pixels a side
_LUMA = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601)
_STABILIZERS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Peak signal-to-noise ratio over all samples, in dB; infinite for equal pictures.

    Parameters
    ----------
    original, decoded : uint8 of the same shape
    """
    error = np.subtract(original, decoded, dtype=np.int16).astype(np.float32)
    mean = float(np.mean(np.square(error), dtype=np.float64))
    return math.inf if mean == 0 else 10 * math.log10(255**2 / mean)


def ssim(original: Pixels, decoded: Pixels) -> float:
    """Structural similarity of the luma, mean over all windows of 7x7 pixels.

    After Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", IEEE TIP 2004, with a flat window.

    Parameters
    ----------
    original, decoded : uint8 (H, W, 3) or (H, W), the same shape

    Returns
    -------
    float, at most 1; nan for a picture with a side under 7 pixels
    """
    x, y = _luma(original), _luma(decoded)
    if min(x.shape) < _WINDOW:
        return math.nan
    mean_x, mean_y = _mean(x), _mean(y)
    variance = _mean(x * x) - mean_x**2 + _mean(y * y) - mean_y**2
    covariance = _mean(x * y) - mean_x * mean_y
    c1, c2 = _STABILIZERS
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(above / ((mean_x**2 + mean_y**2 + c1) * (variance + c2))))


def _luma(pixels: Pixels) -> Floats:
    if pixels.ndim == 2:
        return pixels.astype(np.float64)
    luma: Floats = pixels @ np.array(_LUMA)
    return luma


def _mean(plane: Floats) -> Floats:
    """Mean of each window, where it fits."""
    for axis in (0, 1):
        total = np.cumsum(plane, axis)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
        size = total.shape[axis]
        after, before = np.arange(_WINDOW, size), np.arange(size - _WINDOW)
        plane = (total.take(after, axis) - total.take(before, axis)) / _WINDOW
    return plane
