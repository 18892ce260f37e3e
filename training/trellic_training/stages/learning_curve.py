"""How good the averaged model is on validation photos while it trains: ``curve.csv``."""

from __future__ import annotations

import csv
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor

from trellic_training.data.photos import PackedPhotos
from trellic_training.models.photo import PhotoModel
from trellic_training.stages.end_to_end import EndToEnd, to_network

QUALITIES = (5.0, 20.0, 40.0, 60.0, 80.0, 95.0)
COLUMNS = ("step", "minutes", "quality", "bpp", "psnr")
SIDE, BATCH = 256, 8
PHOTOS = 16  # at most; more would cost more than a few percent of the time


class LearningCurve(lightning.Callback):
    """Appends a point of every quality to a file, each so many steps and at the end.

    Parameters
    ----------
    pack : of which the validation photos are used; nothing is written if none is large enough
    path : of the CSV file, with the columns ``step, minutes, quality, bpp, psnr``. Minutes are
        those of training, over all runs that wrote to it; bits are the model's own estimate, with
        plain rounding
    every : steps
    """

    def __init__(self, pack: PackedPhotos, path: Path, every: int) -> None:
        self.crops = validation_crops(pack, PHOTOS)
        self.path, self.every = path, every
        self.before = _last_minutes(path)
        self.written = -1

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: object
    ) -> None:
        """Write points when they are due."""
        if trainer.global_step % self.every == 0:
            self._write(trainer, module)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the last points."""
        self._write(trainer, module)

    def _write(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.written == trainer.global_step or not len(self.crops):
            return
        if not isinstance(module, EndToEnd):
            raise TypeError(f"a learning curve of {type(module).__name__}")
        self.written = trainer.global_step
        minutes = f"{self.before + module.clock.minutes():.2f}"
        crops = self.crops.to(module.device)
        append_points(self.path, self.written, minutes, module.average.eval(), crops)


def append_points(path: Path, step: int, minutes: str, model: PhotoModel, crops: Tensor) -> None:
    """Measure a model at every quality, and append the points to a learning curve's file."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for quality in QUALITIES:
            bpp, psnr = coded(model, crops, quality)
            writer.writerow([step, minutes, f"{quality:g}", f"{bpp:.5f}", f"{psnr:.4f}"])


def _last_minutes(path: Path) -> float:
    if not path.exists():
        return 0.0
    with path.open(encoding="utf-8", newline="") as file:
        return max((float(row["minutes"]) for row in csv.DictReader(file)), default=0.0)


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
def coded(model: PhotoModel, crops: Tensor, quality: float) -> tuple[float, float]:
    """Return mean bits per pixel and mean PSNR in dB at one quality."""
    rates, psnrs = [], []
    for part in torch.split(crops, BATCH):
        output = model(part, torch.full((len(part),), quality, device=part.device))
        rates.append((output.y_bits + output.z_bits) / part[0, 0].numel())
        error = (output.x_hat.clamp(-0.5, 0.5) - part).square().mean((1, 2, 3))
        psnrs.append(-10 * error.log10())
    return float(torch.cat(rates).mean()), float(torch.cat(psnrs).mean())
