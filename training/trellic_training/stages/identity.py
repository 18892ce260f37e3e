"""How far a picture's latents move when its decoded picture is encoded again."""

from __future__ import annotations

from torch import Tensor

from trellic_training.models.photo import PhotoModel
from trellic_training.models.precision import bfloat16
from trellic_training.pixels import PIXEL_RANGE


def moved(
    model: PhotoModel, x_hat: Tensor, f_hat: Tensor, quality: Tensor, *, autocast: bool
) -> Tensor:
    """Return how far g_a of the decoded picture lies from the latents that made it: (N,).

    Squared, in steps, summed over channels, per pixel. If it is small, encoding a picture again
    loses little (Kim et al., "Instability of successive deep image compression").

    Parameters
    ----------
    x_hat : (N, 3, H, W), decoded; the gradient passes its rounding to 8 bits
    f_hat : (N, C, h, w), latents before the gain
    quality : (N,)
    """
    seen = x_hat.clamp(-0.5, 0.5)
    shown = (seen * PIXEL_RANGE + PIXEL_RANGE / 2).round() / PIXEL_RANGE - 0.5
    seen = seen + (shown - seen).detach()
    with bfloat16(seen.device.type, autocast):
        again = model.g_a(seen, quality).float()
    error: Tensor = (again - f_hat) * model.gains(quality)
    pixels = x_hat.shape[2] * x_hat.shape[3]
    return error.square().sum((1, 2, 3)) / pixels
