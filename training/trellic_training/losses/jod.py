"""CVVDP for still pictures, with gradients: how much worse a picture looks, in JOD.

ColorVideoVDP (R. Mantiuk, P. Hanji, M. Ashraf, Y. Asano, A. Chapiro, "ColorVideoVDP: a visual
difference predictor for image, video, and display distortions", ACM Trans. Graph. 43, 2024; MIT
licence), version 0.5.7, on its 4K display (200 cd/m2, 1000:1, 250 lux, 75.4 pixels a degree).
Written from the paper and the published constants, for pictures that do not move. Masking and
adaptation follow the original; sensitivities are those at the photo's own luminance.
"""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from trellic_training.losses.constants import constant

PEAK, BLACK, REFLECTED = 200.0, 0.2, 250 / math.pi * 0.005  # cd/m2
# Linear sRGB to luminance, red - green, violet - yellow.
OPPONENTS = (
    (0.23320122063159943, 0.7288307547569275, 0.08899587392807007),
    (0.12762075662612915, -0.08706812560558319, -0.03677739202976227),
    (-0.21482250094413757, -0.6262536644935608, 0.8514033555984497),
)
GAIN = (1.0, 1.45, 1.0)
CORRECTION = 10 ** (-0.2797423303127289 / 20)
MASK_P, MASK_C = 2.264355182647705, 10**-0.7954971194267273
MASK_Q = (1.302622675895691, 2.8885908126831055, 3.6807713508605957)
# What each channel (row) adds to the masking of each channel (column), as powers of two.
CROSS = (
    (-0.18950104713439941, -5.962151050567627, -4.31834602355957),
    (2.5655593872070312, 0.34406712651252747, -2.719646453857422),
    (3.8118371963500977, -1.0051705837249756, -0.5193376541137695),
)
MOST = 10**2.5642454624176025
BASE_WEIGHT = (0.0036334486212581396, 1.6627724170684814, 4.11874532699585)
STILL = 0.577918291091919
JOD_A, JOD_EXPONENT, LINE = 0.0439569391310215, 0.9302042722702026, 0.1
BLUR_SIGMA, BLUR_TAPS = 3.0, 13
DARKEST, STRONGEST = 0.01, 1000.0
SMALL = 1e-5
BANDS = 8  # beside the base band; fewer in pictures with a side under 512


def jod_lost(x_hat: Tensor, x: Tensor) -> Tensor:
    """How many JOD each picture is below 10, where no difference is visible: (N,).

    Parameters
    ----------
    x_hat, x : (N, 3, H, W) in [-1/2, 1/2], float32, sides at least 16
    """
    bands = min(BANDS, min(x.shape[2:]).bit_length() - 2)
    test, photo = _shown(x_hat), _shown(x)
    total = x.new_zeros(len(x), 3)
    for band in range(bands):
        coarse_test, coarse_photo = _reduced(test), _reduced(photo)
        test_contrast, _ = _contrast(test, coarse_test)
        photo_contrast, light = _contrast(photo, coarse_photo)
        seen = _sensitivity(light, band) * constant(GAIN, x).view(3, 1, 1) * (2 if band else 1)
        total = total + _power(
            _mean_square(_masked(test_contrast * seen, photo_contrast * seen)), 4
        )
        test, photo = coarse_test, coarse_photo
    total = total + _power(_base(test, photo) * constant(BASE_WEIGHT, x), 4)
    channels = _power(total, 0.25)
    return _points(_power(_power(channels, 4).sum(1), 0.25) * STILL)


def _power(x: Tensor, exponent: float | Tensor) -> Tensor:
    """Raise x to a power, with a finite slope at 0."""
    return (x + SMALL) ** exponent - SMALL**exponent


def _mean_square(x: Tensor) -> Tensor:
    """Square root of the mean square over places: (N, C)."""
    return _power(((x + SMALL) ** 2).mean((2, 3)) - SMALL**2, 0.5)


def _shown(x: Tensor) -> Tensor:
    """Return what the display shows, in opponent colours, cd/m2."""
    x = (x + 0.5).clamp(0, 1)
    light = torch.where(x > 0.04045, ((x.clamp_min(0.04) + 0.055) / 1.055) ** 2.4, x / 12.92)
    light = (PEAK - BLACK) * light + (BLACK + REFLECTED)
    return torch.einsum("ij,njhw->nihw", constant(OPPONENTS, light), light)


def _taps(x: Tensor) -> Tensor:
    return constant((0.05, 0.25, 0.4, 0.25, 0.05), x)


def _reduced(x: Tensor) -> Tensor:
    """Return the next level of a Gaussian pyramid (Burt and Adelson 1983); edges are mirrored."""
    for _ in range(2):
        first, last = x[..., :2, :].flip(2), x[..., -2:, :].flip(2)
        x = torch.cat([first, x, last], 2)
        taps = _taps(x).view(1, 1, 5, 1).expand(x.shape[1], -1, -1, -1)
        x = functional.conv2d(x, taps, stride=(2, 1), groups=x.shape[1]).mT
    return x


def _expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Bring a level to the size of the finer one; the edge sample is repeated."""
    for side in shape:
        padded = torch.cat([x[..., :1, :], x, x[..., -1:, :]], 2)
        middle, before, after = padded[..., 1:-1, :], padded[..., :-2, :], padded[..., 2:, :]
        even, odd = 0.8 * middle + 0.1 * (before + after), 0.5 * (middle + after)
        x = torch.stack([even, odd], 3).flatten(2, 3)[..., :side, :].mT
    return x


def _contrast(fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast of each sample to the luminance around it, and that luminance (N, 1, H, W)."""
    around = _expanded(coarse, tuple(fine.shape[2:]))
    light = around[:, :1].clamp_min(DARKEST)
    return ((fine - around) / light).clamp_max(STRONGEST), light


@cache
def _table() -> tuple[list[float], list[tuple[tuple[float, ...], ...]]]:
    """log10 of luminances, equally spaced; log10 of sensitivities [band][channel][luminance]."""
    known = json.loads(Path(__file__).with_name("jod_csf.json").read_text(encoding="utf-8"))
    bands = [tuple(map(tuple, band)) for band in known["log10_sensitivity"]]
    return known["log10_luminance"], bands


@torch.no_grad()
def _sensitivity(light: Tensor, band: int) -> Tensor:
    """How well a contrast of each channel is seen at each luminance: (N, 3, H, W)."""
    luminances, bands = _table()
    low, high = luminances[0], luminances[-1]
    last = len(luminances) - 1
    at = ((light.log10() - low) * (last / (high - low))).clamp(0, last)
    left = at.floor().clamp_max(last - 1)
    table, index = constant(bands[band], light), left[:, 0].long()
    value = table[:, index].transpose(0, 1)
    rise = table.diff(dim=1)[:, index].transpose(0, 1)
    return CORRECTION * 10 ** (value + rise * (at - left))


def _masked(test: Tensor, photo: Tensor) -> Tensor:
    """Differences of visible contrasts, lower where both pictures have contrast: (N, 3, H, W)."""
    shared = torch.minimum(test.abs(), photo.abs())
    if min(shared.shape[2:]) > BLUR_TAPS // 2:
        shared = _blurred(shared)
    each = _power(shared * MASK_C, constant(MASK_Q, shared).view(3, 1, 1))
    mask = torch.einsum("ij,nihw->njhw", 2 ** constant(CROSS, shared), each)
    error = _power((test - photo).abs(), MASK_P) / (1 + mask)
    return MOST * error / (MOST + error)


def _blurred(x: Tensor) -> Tensor:
    at = torch.arange(BLUR_TAPS, device=x.device, dtype=x.dtype) - BLUR_TAPS // 2
    taps = torch.exp(-(at**2) / (2 * BLUR_SIGMA**2))
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    x = functional.pad(x, (BLUR_TAPS // 2,) * 4, mode="reflect")
    x = functional.conv2d(x, taps, groups=x.shape[1])
    return functional.conv2d(x, taps.mT, groups=x.shape[1])


def _base(test: Tensor, photo: Tensor) -> Tensor:
    """Compare what is left of the pyramid, by the mean luminance of each picture: (N, 3)."""
    levels = [x[:, :1].clamp_min(DARKEST).mean((2, 3), keepdim=True) for x in (test, photo)]
    seen = _sensitivity(levels[1], BANDS)
    contrasts = [
        (x / level).clamp_max(STRONGEST) for x, level in zip((test, photo), levels, strict=True)
    ]
    return _mean_square((contrasts[0] - contrasts[1]).abs() * seen)


def _points(error: Tensor) -> Tensor:
    """JOD lost; a line near 0, where the power has no slope."""
    line = JOD_A * LINE ** (JOD_EXPONENT - 1) * error
    return torch.where(error > LINE, JOD_A * error.clamp_min(LINE) ** JOD_EXPONENT, line)
