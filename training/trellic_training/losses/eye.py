"""A distortion that mixes several measures, each weighted in bits per point.

The weights come from a curve that a model of this kind has reached: where one more bit per pixel
buys n points of a measure, a point is worth 1/n bits per pixel. Squared error needs no curve,
because its weight against bits is ``lmbda``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor, nn
from torch.nn import functional

from trellic.constants import COLOURS
from trellic_training.losses.constants import constant
from trellic_training.losses.jod import jod_lost
from trellic_training.losses.reference import ReferenceCurve
from trellic_training.losses.structure import structural_error
from trellic_training.pixels import PIXEL_RANGE

PURE = 0.4999  # beyond it a sample of the photo is pure white or black
SHORT = 0.4 / PIXEL_RANGE  # a flat sample may miss by less than this, because rounding corrects it
WORST = 8.0  # levels; larger misses count as this
FLAT_FROM, FLAT_WHOLE = 20.0, 50.0  # qualities where flat samples begin to count, and count in full
TAPS = [math.exp(-(at**2) / (2 * 1.5**2)) for at in range(-5, 6)]
WINDOW = tuple(tap / sum(TAPS) for tap in TAPS)  # of MS-SSIM: a Gaussian of 1.5 pixels
OF_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # their weights in MS-SSIM
NEARLY = 1e-6  # 1 - MS-SSIM where its logarithm ends


def squared_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Mean squared error of each picture: (N,)."""
    error: Tensor = (x_hat - x).square().mean((1, 2, 3))
    return error


def decibels(mse: Tensor) -> Tensor:
    """Mean PSNR of pictures whose range is 1."""
    return -10 * mse.clamp_min(1e-9).log10().mean()


def ms_ssim_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """1 - MS-SSIM (Wang et al. 2003) in dB, lower is better: (N,); sides of 161 at least."""
    pictures = [(picture + 0.5).clamp(0, 1) for picture in (x_hat, x)]
    window = constant(WINDOW, x).expand(x.shape[1], 1, 1, -1)
    with warnings.catch_warnings():
        # The package copies the weights: a list from the host, for which a GPU waits.
        warnings.filterwarnings("ignore", "To copy construct from a tensor", UserWarning)
        similar = ms_ssim(
            *pictures,
            data_range=1.0,
            size_average=False,
            win=window,
            weights=constant(OF_SCALES, x),
        )
    return 10 * torch.log10(1 - similar + NEARLY)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ssimulacra2": structural_error,
    "ms_ssim": ms_ssim_error,
    "jod": jod_lost,
}
BEST = {"ssimulacra2": 100.0, "ms_ssim": 0.0, "jod": 10.0}  # measure = this - error
LEAST_SIDES = {"ssimulacra2": 8, "ms_ssim": 161, "jod": 16}  # pixels


def measures(x_hat: Tensor, x: Tensor) -> dict[str, Tensor]:
    """PSNR (dB), SSIMULACRA 2 (points), MS-SSIM (dB) and CVVDP (JOD) of each picture: (N,) each.

    Pictures of other bands than red, green and blue have a PSNR alone.

    Parameters
    ----------
    x_hat, x : (N, bands, H, W), float32, nominally in [-1/2, 1/2], sides of 161 at least
    """
    shown = x_hat.clamp(-0.5, 0.5)
    errors = ERRORS if x.shape[1] == COLOURS else {}
    scores = {name: BEST[name] - error(shown, x) for name, error in errors.items()}
    return {"psnr": -10 * squared_error(shown, x).log10(), **scores}


class Distortion(nn.Module):
    """Distortion of a picture in bits per pixel, up to a constant: MS-SSIM in dB has no maximum.

    ``share * lmbda * squared error`` on the 0..255 scale, plus ``share * slope * error`` of each
    other measure, plus ``flat`` times the levels by which pure white and black are missed.

    Parameters
    ----------
    shares : weight of "squared_error" and of the names of `ERRORS`
    flat : weight, in bits per pixel, of the levels by which flat samples miss; counts in full from
        quality 50 on
    """

    def __init__(self, shares: Mapping[str, float], flat: float = 0.0) -> None:
        super().__init__()
        self.shares, self.flat = dict(shares), flat
        self.slopes = nn.ModuleDict()

    def follow(self, curve: ReferenceCurve) -> None:
        """Take from a curve what a point of each measure is worth."""
        named = [name for name in ERRORS if self.shares.get(name)]
        self.slopes = nn.ModuleDict({name: Slope(*curve.slopes(name)) for name in named})

    def forward(self, x_hat: Tensor, x: Tensor, quality: Tensor, lmbda: Tensor) -> Tensor:
        """Return the distortion of each picture, in bits per pixel: (N,).

        Parameters
        ----------
        x_hat : (N, 3, H, W), float32; not clipped
        x : (N, 3, H, W) in [-1/2, 1/2], the photos
        quality, lmbda : (N,)
        """
        seen = within_the_edge(x_hat, x) if self.flat else x_hat
        share = self.shares.get("squared_error", 0.0)
        total = share * lmbda * PIXEL_RANGE**2 * squared_error(seen, x)
        for name, error in ERRORS.items():
            if share := self.shares.get(name, 0.0):
                total = total + share * self.slopes[name](lmbda) * error(seen, x)
        if self.flat:
            counts = ((quality - FLAT_FROM) / (FLAT_WHOLE - FLAT_FROM)).clamp(0, 1)
            total = total + self.flat * counts * flat_error(x_hat, x)
        return total


class Slope(nn.Module):
    """Bits per point of one measure at any ``lmbda``: straight lines between logarithms.

    The last line continues beyond the largest ``lmbda``; the first value holds below the smallest.
    """

    log_lmbda: Tensor
    log_slope: Tensor

    def __init__(self, log_lmbda: Tensor, log_slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("log_lmbda", log_lmbda, persistent=False)
        self.register_buffer("log_slope", log_slope, persistent=False)

    def forward(self, lmbda: Tensor) -> Tensor:
        """Slopes (N,) at (N,)."""
        at = lmbda.log().clamp_min(self.log_lmbda[0])
        left = (torch.bucketize(at, self.log_lmbda) - 1).clamp(0, len(self.log_lmbda) - 2)
        rise = self.log_slope.diff() / self.log_lmbda.diff()
        value: Tensor = self.log_slope[left] + rise[left] * (at - self.log_lmbda[left])
        return value.exp()


def within_the_edge(x_hat: Tensor, x: Tensor) -> Tensor:
    """Where the photo is white, count values beyond white as white; the same for black."""
    black = torch.where(x < -PURE, x_hat.clamp_min(-0.5), x_hat)
    return torch.where(x > PURE, x_hat.clamp_max(0.5), black)


def flat_error(x_hat: Tensor, x: Tensor) -> Tensor:
    """Levels by which pure white and black are missed, beyond rounding, over all samples: (N,)."""
    limit = 0.5 - SHORT
    short = (limit - x_hat) * (x > PURE) + (x_hat + limit) * (x < -PURE)
    return (functional.relu(short) * PIXEL_RANGE).clamp_max(WORST).mean((1, 2, 3))
