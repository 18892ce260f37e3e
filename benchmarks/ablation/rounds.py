"""What a model makes of validation crops that it codes again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.photo import PhotoModel

QUALITY = 80.0  # of the rounds: a high rate
ROUNDS, COUNT = 10, 8  # the number of crops: rounds would take longer than the curve otherwise


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
        found.append(float(decibels(squared_error(current, original))))
    return found
