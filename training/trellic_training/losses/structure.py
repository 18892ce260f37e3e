"""What squared error does not see: structure and local contrast, at several scales.

Structure is SSIMULACRA 2 (J. Sneyers, Cloudinary, 2022, weights of April 2023; published with
libjxl as tools/ssimulacra2.cc, BSD licence), written so that it has gradients. It works in opponent
colours of the cube root of linear light. At each scale it measures the structural similarity (Wang
et al. 2004), and how much local contrast was added or lost. Each of these maps counts by its mean
and by its fourth-power mean, which large errors in few places dominate. Of the 108 published
weights, those under 0.01 are left out: they move the score by less than 0.01.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trellic_training.losses.constants import constant

SIGMA, TAPS = 1.5, 11
STABLE = 9e-4  # added to variances
SMALLEST = 8  # pixels a side of the last scale
BIAS = 0.0037930732552754493  # of the cube root, of JPEG XL's XYB
MIX = (
    (0.3, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
Six = tuple[float, float, float, float, float, float]
# At each scale, finest first, of each channel (0: red - green, 1: luminance, 2: blue - luminance)
# that counts there: weights of the means of what is unlike, added and lost, then of their
# fourth-power means. A sixth scale has no weight over 0.01.
WEIGHTS: tuple[dict[int, Six], ...] = (
    {1: (0, 0, 0, 7.466890328078848, 0, 17.445833984131262)},
    {
        0: (0, 0, 0, 1.1041726426657346, 0, 0),
        1: (0, 0, 0, 6.683678146179332, 0, 1.027889937768264),
    },
    {
        0: (0, 0, 0, 1.8422455520539298, 11.441172603757666, 0),
        1: (225.20515300849274, 0, 0, 19.213238186143016, 0, 0),
    },
    {
        0: (0, 0, 0, 1.8787594979546387, 10.94906990605142, 0),
        1: (176.39317598450694, 0, 0, 24.43300999870476, 0.28520802612117757, 0),
        2: (0, 0, 0, 8.826982764996862, 23.19243343998926, 0),
    },
    {
        0: (0, 0.9677937080626833, 0, 0, 0.9981766977854967, 0),
        1: (0, 0, 0, 34.77906344483772, 44.835625328877896, 0),
        2: (
            *(95.1080498811086, 0.9863978034400682, 0.9834382792465353),
            *(0, 171.2667255897307, 0.9807858872435379),
        ),
    },
)
# From the weighted sum to points: 10 (first t + second t^2 + third t^3)^POWER, t = SHARE sum.
SHARE, POWER = 0.9562382616834844, 0.6276336467831387
FIRST, SECOND, THIRD = 2.326765642916932, -0.020884521182843837, 6.248496625763138e-05
LEAST = 1e-3  # of the sum: the power's slope at 0 is infinite


def structural_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """100 less the SSIMULACRA 2 score of each picture, about 0 if equal: (N,).

    Scales with a side under 8 pixels do not count, as in the original. The edge is mirrored.

    Parameters
    ----------
    x_hat, x : (N, 3, H, W) in [-1/2, 1/2], sides at least 8; not rounded to 8 bits
    """
    a, b = linear(x_hat), linear(x)
    total = torch.zeros(len(x), device=x.device)
    for weights in WEIGHTS:
        if min(a.shape[2:]) < SMALLEST:
            break
        channels = constant(tuple(weights), x).long()
        maps = _maps(*(opponents(light).index_select(1, channels) for light in (a, b)))
        weight = constant(tuple(weights.values()), x)
        total = total + (_norms(maps) * weight).sum((1, 2))
        a, b = _halved(a), _halved(b)
    return _points(total)


def _points(total: Tensor) -> Tensor:
    t = (SHARE * total).clamp_min(LEAST)
    return 10 * (FIRST * t + SECOND * t**2 + THIRD * t**3) ** POWER


def _halved(light: Tensor) -> Tensor:
    """Half the size by means of 2x2; an odd last row or column is the mean of what is there."""
    return functional.avg_pool2d(light, 2, ceil_mode=True)


def linear(x: Tensor) -> Tensor:
    """Linear light of sRGB in [-1/2, 1/2]; a straight line below black."""
    x = x + 0.5
    return torch.where(x > 0.04045, ((x.clamp_min(0.04) + 0.055) / 1.055) ** 2.4, x / 12.92)


def opponents(light: Tensor) -> Tensor:
    """Red against green, luminance, blue against luminance; roughly in [0, 1]."""
    mix = constant(MIX, light)
    cones = torch.einsum("ij,njhw->nihw", mix, light).clamp_min(0) + BIAS
    root = cones ** (1 / 3) - BIAS ** (1 / 3)
    red, green, blue = root.unbind(1)
    luma = (red + green) / 2
    return torch.stack([7 * (red - green) + 0.42, luma + 0.01, blue - luma + 0.55], 1)


def _maps(a: Tensor, b: Tensor) -> Tensor:
    """Unlike, added and lost structure at each place: (N, C, 3, H, W), not negative."""
    mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b], 1)).chunk(5, 1)
    variance = (aa - mean_a**2) + (bb - mean_b**2) + STABLE
    covariance = 2 * (ab - mean_a * mean_b) + STABLE
    unlike = 1 - (1 - (mean_a - mean_b) ** 2) * covariance / variance
    contrast = (1 + (a - mean_a).abs()) / (1 + (b - mean_b).abs()) - 1
    return torch.stack([unlike, contrast, -contrast], 2).clamp_min(0)


def _norms(maps: Tensor) -> Tensor:
    """Means of maps, then their fourth-power means: (N, C, 6)."""
    fourth = (maps.pow(4).mean((3, 4)) + 1e-20) ** 0.25
    return torch.cat([maps.mean((3, 4)), fourth], 2)


def contrast_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """How far the deviation of each band in each neighbourhood is from the photo's: (N,).

    A lost texture lowers the deviation, whatever its phase. Bands are those of a Laplacian pyramid;
    neighbourhoods are 8x8 samples of a band.

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
