"""What a model makes of validation crops, once and again and again, in PSNR and bits alone."""

from __future__ import annotations

import torch
from torch import Tensor

from trellic_training.losses.eye import squared_error
from trellic_training.models.photo import PhotoModel
from trellic_training.stages.validation import BATCH

QUALITY = 80.0  # of the rounds: a high rate
ROUNDS, COUNT = 10, 8  # the number of crops: rounds would take longer than the curve otherwise


@torch.inference_mode()
def coded_once(model: PhotoModel, crops: Tensor, quality: float) -> tuple[float, float]:
    """Return mean bits per pixel, by the model's own estimate, and mean PSNR."""
    bpp, found = [], []
    for part in torch.split(crops, BATCH):
        output = model(part, torch.full((len(part),), quality))
        bpp.append((output.y_bits + output.z_bits) / part[0, 0].numel())
        found.append(psnr(output.x_hat.clamp(-0.5, 0.5), part))
    return float(torch.cat(bpp).mean()), float(torch.cat(found).mean())


@torch.inference_mode()
def coded_again(model: PhotoModel, crops: Tensor) -> list[float]:
    """Return the mean PSNR to the original after each round; pictures are rounded to 8 bits."""
    step = max(1, len(crops) // COUNT)
    original = crops[::step][:COUNT]
    qualities = torch.full((len(original),), QUALITY)
    current, found = original, []
    for _ in range(ROUNDS):
        x_hat = model(current, qualities).x_hat
        current = ((x_hat + 0.5).clamp(0, 1) * 255).round() / 255 - 0.5
        found.append(float(psnr(current, original).mean()))
    return found


def psnr(x_hat: Tensor, x: Tensor) -> Tensor:
    """PSNR of each picture in dB."""
    return -10 * squared_error(x_hat, x).log10()
