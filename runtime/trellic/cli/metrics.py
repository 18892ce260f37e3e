"""Distortion of 8-bit pictures: PSNR over all samples and MS-SSIM, with nothing but NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

# Weights of the five scales, finest first (Wang, Simoncelli, Bovik, "Multiscale structural
# similarity for image quality assessment", Asilomar 2003).
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW_TAPS = 11
WINDOW_SIGMA = 1.5  # pixels
STABILIZERS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)


def psnr(original: Pixels, decoded: Pixels) -> float:
    """Return the peak signal-to-noise ratio over all samples of all channels.

    Parameters
    ----------
    original, decoded
        Pictures of the same shape, uint8.

    Returns
    -------
    float
        ``10 log10(255^2 / MSE)`` in dB; infinity for identical pictures.

    Raises
    ------
    ValueError
        The shapes or types differ.
    """
    _check(original, decoded)
    difference = original.astype(np.int32) - decoded
    error = float(np.mean(np.square(difference), dtype=np.float64))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ms_ssim(original: Pixels, decoded: Pixels) -> float:
    """Return the multi-scale structural similarity, mean over the channels.

    The window is the separable 11-tap Gaussian applied where it fits, scales are halved by 2x2
    means, and negative contrast terms count as zero: the convention of the published learned-codec
    results.

    Parameters
    ----------
    original, decoded
        Pictures (H, W, 3) or (H, W) of uint8, both sides at least 161 pixels.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        The shapes or types differ, or the picture is too small for five scales.
    """
    _check(original, decoded)
    if min(original.shape[:2]) < (WINDOW_TAPS - 1) * 16 + 1:
        raise ValueError(f"MS-SSIM needs 161 pixels a side, got {original.shape[:2]}")
    planes = [np.atleast_3d(p).astype(np.float64) for p in (original, decoded)]
    channels = zip(*(np.moveaxis(p, 2, 0) for p in planes), strict=True)
    return float(np.mean([_ms_ssim_plane(x, y) for x, y in channels]))


def _ms_ssim_plane(x: Floats, y: Floats) -> float:
    result = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        similarity, contrast = _ssim(x, y)
        last = scale == len(SCALE_WEIGHTS) - 1
        result *= max(similarity if last else contrast, 0.0) ** weight
        if not last:
            x, y = _halve(x), _halve(y)
    return result


def _ssim(x: Floats, y: Floats) -> tuple[float, float]:
    """Return the mean SSIM and the mean of its contrast-structure factor."""
    c1, c2 = STABILIZERS
    mean_x, mean_y = _window(x), _window(y)
    variance_x = _window(x * x) - mean_x**2
    variance_y = _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float(np.mean(luminance * contrast)), float(np.mean(contrast))


def _window(plane: Floats) -> Floats:
    """Filter with the Gaussian window, keeping only positions where it fits."""
    offsets = np.arange(WINDOW_TAPS) - WINDOW_TAPS // 2
    taps = np.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    taps /= taps.sum()
    height, width = (side - WINDOW_TAPS + 1 for side in plane.shape)
    rows = sum(tap * plane[i : i + height] for i, tap in enumerate(taps))
    return np.asarray(sum(tap * rows[:, i : i + width] for i, tap in enumerate(taps)))


def _halve(plane: Floats) -> Floats:
    """Average 2x2 blocks; an odd side is first padded with zeros, at both ends."""
    padded = np.pad(plane, [(side % 2, side % 2) for side in plane.shape])
    height, width = (side // 2 for side in padded.shape)
    blocks = padded[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return np.asarray(blocks.mean(axis=(1, 3)))


def _check(original: Pixels, decoded: Pixels) -> None:
    if original.shape != decoded.shape:
        raise ValueError(f"pictures differ in shape: {original.shape} and {decoded.shape}")
    if original.dtype != np.uint8 or decoded.dtype != np.uint8:
        raise ValueError(f"expected uint8 pictures, got {original.dtype} and {decoded.dtype}")
