"""Validation crops, and what a codec model makes of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trellic.latents.quantizer import Quantizer
from trellic_training.data.photos import PackedPhotos
from trellic_training.losses.eye import measures
from trellic_training.models.photo import PhotoModel
from trellic_training.pixels import to_network
from trellic_training.quantization.loop import LoopQuantizer, latents_for_synthesis

QUALITIES = (5.0, 20.0, 40.0, 60.0, 80.0, 95.0)
SIDE, BATCH = 256, 8
PHOTOS = 16  # at most; more would cost more than a few percent of the time


def validation_crops(pack: PackedPhotos, count: int | None = None) -> Tensor:
    """Return the middle of validation photos that are large enough, (N, bands, 256, 256).

    Parameters
    ----------
    count : how many, spread evenly over all; None for all
    """
    photos = [pack.photo(entry) for entry in pack.validation]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= SIDE]
    if not photos:
        return torch.empty(0, pack.bands, SIDE, SIDE)
    step = 1 if count is None else max(1, len(photos) // count)
    crops = []
    for photo in photos[::step][:count]:
        top, left = ((side - SIDE) // 2 for side in photo.shape[:2])
        crops.append(photo[top : top + SIDE, left : left + SIDE])
    return to_network(torch.from_numpy(np.stack(crops)))


@torch.inference_mode()
def coded(model: PhotoModel, crops: Tensor, quality: float) -> dict[str, float]:
    """Code crops at one quality with plain rounding: means of bits per pixel and of `measures`.

    The bits are the model's own estimate.
    """

    def code(part: Tensor, qualities: Tensor) -> tuple[Tensor, Tensor]:
        output = model(part, qualities)
        return output.y_bits + output.z_bits, output.x_hat

    return _means(code, crops, quality)


@torch.no_grad()
def coded_as_files(
    quantizer: LoopQuantizer, search: Quantizer, crops: Tensor, quality: float
) -> dict[str, float]:
    """Code crops at one quality with the quantizer that writes files; means as of `coded`.

    The bits are those of the latents under the tables; hyper-latents do not count.
    """
    model = quantizer.model

    def code(part: Tensor, qualities: Tensor) -> tuple[Tensor, Tensor]:
        batch = quantizer(part, qualities, search)
        bits, _ = quantizer.bits(batch, *quantizer.predict(batch))
        return bits, model.g_s(latents_for_synthesis(batch), batch.quality)

    return _means(code, crops, quality)


def _means(
    code: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], crops: Tensor, quality: float
) -> dict[str, float]:
    found: dict[str, list[Tensor]] = {}
    for part in torch.split(crops, BATCH):
        bits, x_hat = code(part, torch.full((len(part),), quality, device=part.device))
        for name, values in {
            "bpp": bits / part[0, 0].numel(),
            **measures(x_hat, part),
        }.items():
            found.setdefault(name, []).append(values)
    return {name: float(torch.cat(values).mean()) for name, values in found.items()}
