"""What squared error does not see: structure and local contrast, at several scales.

After SSIMULACRA 2 (Sneyers 2023): in opponent colours of the cube root of linear light, at each
scale the structural similarity (Wang et al. 2004), and how much local contrast was lost or added.
Its 108 trained weights are not used: each map counts by its mean and by its fourth-power mean,
which large errors in few places dominate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SIGMA, TAPS = 1.5, 11
STABLE = 9e-4  # added to variances
SCALES = 5
SMALLEST = 8  # pixels a side of the last scale
BIAS = 0.0037930733  # of the cube root, of JPEG XL's XYB
MIX = ((0.3, 0.622, 0.078), (0.23, 0.692, 0.078), (0.24342269, 0.20476744, 0.55180987))


def structural_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Structural and contrast error of each picture, 0 if equal: (N,).

    Parameters
    ----------
    x_hat, x : (N, 3, H, W) in [-1/2, 1/2], sides at least 16
    """
    a, b = linear(x_hat), linear(x)
    total = torch.zeros(len(x), device=x.device)
    scales = 0
    while scales < SCALES and min(a.shape[2:]) >= SMALLEST:
        total = total + _at_one_scale(opponents(a), opponents(b))
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
        scales += 1
    return total / scales


def linear(x: Tensor) -> Tensor:
    """Linear light of sRGB in [-1/2, 1/2]; below black it goes on as a line."""
    x = x + 0.5
    return torch.where(x > 0.04045, ((x.clamp_min(0.04) + 0.055) / 1.055) ** 2.4, x / 12.92)


def opponents(light: Tensor) -> Tensor:
    """Red against green, luminance, blue against luminance; roughly in [0, 1]."""
    mix = torch.tensor(MIX, device=light.device)
    cones = torch.einsum("ij,njhw->nihw", mix, light).clamp_min(0) + BIAS
    root = cones ** (1 / 3) - BIAS ** (1 / 3)
    red, green, blue = root.unbind(1)
    luma = (red + green) / 2
    return torch.stack([7 * (red - green) + 0.42, luma + 0.01, blue - luma + 0.55], 1)


def _at_one_scale(a: Tensor, b: Tensor) -> Tensor:
    mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b], 1)).chunk(5, 1)
    variance = (aa - mean_a**2) + (bb - mean_b**2) + STABLE
    covariance = 2 * (ab - mean_a * mean_b) + STABLE
    unlike = 1 - (1 - (mean_a - mean_b) ** 2) * covariance / variance
    contrast = (1 + (a - mean_a).abs()) / (1 + (b - mean_b).abs()) - 1
    return _counted(unlike.clamp_min(0)) + _counted(contrast.abs())


def _counted(error: Tensor) -> Tensor:
    """Mean over channels of the mean and of the fourth-power mean: (N,)."""
    fourth = (error.pow(4).mean((2, 3)) + 1e-12) ** 0.25
    return (error.mean((2, 3)) + fourth).mean(1)


def contrast_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """How far the deviation of each band in each neighbourhood is from the photo's: (N,).

    Where a texture is lost, its deviation is missing, wherever its waves lie. Bands are those of a
    Laplacian pyramid, neighbourhoods of 8x8 samples of a band.

    Parameters
    ----------
    x_hat, x : (N, 3, H, W), sides multiples of 64
    """
    total = torch.zeros(len(x), device=x.device)
    for _ in range(3):
        coarse, coarse_x = functional.avg_pool2d(x_hat, 2), functional.avg_pool2d(x, 2)
        band, band_x = (
            _deviation(whole - functional.interpolate(small, scale_factor=2.0, mode="bilinear"))
            for whole, small in ((x_hat, coarse), (x, coarse_x))
        )
        total = total + (band - band_x).abs().mean((1, 2, 3))
        x_hat, x = coarse, coarse_x
    return total


def _deviation(band: Tensor) -> Tensor:
    return (functional.avg_pool2d(band**2, 8, 4) + 1e-6).sqrt()


def blur(x: Tensor) -> Tensor:
    """Blur every channel by a Gaussian, the edge mirrored: (N, C, H, W)."""
    at = torch.arange(TAPS, device=x.device, dtype=x.dtype) - TAPS // 2
    taps = torch.exp(-(at**2) / (2 * SIGMA**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    half = min(TAPS // 2, x.shape[2] - 1, x.shape[3] - 1)
    taps = taps[..., TAPS // 2 - half : TAPS // 2 + half + 1]
    taps = taps / taps.sum(-1, keepdim=True)
    x = functional.pad(x, (half, half, half, half), mode="reflect")
    x = functional.conv2d(x, taps, groups=x.shape[1])
    return functional.conv2d(x, taps.mT, groups=x.shape[1])
