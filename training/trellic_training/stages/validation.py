"""Validation crops, and what a codec model makes of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trellic_training.data.photos import PackedPhotos
from trellic_training.losses.eye import measures
from trellic_training.models.photo import PhotoModel
from trellic_training.pixels import to_network

QUALITIES = (5.0, 20.0, 40.0, 60.0, 80.0, 95.0)
SIDE, BATCH = 256, 8
PHOTOS = 16  # at most; more would cost more than a few percent of the time


def validation_crops(pack: PackedPhotos, count: int | None = None) -> Tensor:
    """Return the middle of validation photos that are large enough, (N, 3, 256, 256).

    Parameters
    ----------
    count : how many, spread evenly over all; None for all
    """
    photos = [pack.photo(entry) for entry in pack.validation]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= SIDE]
    if not photos:
        return torch.empty(0, 3, SIDE, SIDE)
    step = 1 if count is None else max(1, len(photos) // count)
    crops = []
    for photo in photos[::step][:count]:
        top, left = ((side - SIDE) // 2 for side in photo.shape[:2])
        crops.append(photo[top : top + SIDE, left : left + SIDE])
    return to_network(torch.from_numpy(np.stack(crops)))


@torch.inference_mode()
def coded(model: PhotoModel, crops: Tensor, quality: float) -> dict[str, float]:
    """Code crops at one quality: means of bits per pixel and of `measures`."""
    found: dict[str, list[Tensor]] = {}
    for part in torch.split(crops, BATCH):
        output = model(part, torch.full((len(part),), quality, device=part.device))
        bpp = (output.y_bits + output.z_bits) / part[0, 0].numel()
        for name, values in {"bpp": bpp, **measures(output.x_hat, part)}.items():
            found.setdefault(name, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}
