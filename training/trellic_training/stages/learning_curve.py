"""How good the averaged model is on validation photos while it trains: ``curve.csv``."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import lightning
from torch import Tensor

from trellic_training.bars import shown
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.photo import PhotoModel
from trellic_training.stages.quantized import QuantizedStage
from trellic_training.stages.stage import Stage
from trellic_training.stages.validation import PHOTOS, QUALITIES, SIDE, coded, validation_crops

COLUMNS = ("step", "minutes", "quality", "bpp", "psnr", "ssimulacra2", "ms_ssim", "jod")
Code = Callable[[PhotoModel, Tensor, float], dict[str, float]]  # as `coded`


class LearningCurve(lightning.Callback):
    """Appends points to a file, one for each quality.

    It does so at the start, after a minute, every so many steps, and at the end.

    Parameters
    ----------
    pack : its validation photos are used; nothing is written if none is large enough
    path : the CSV file, with the columns `COLUMNS`. Minutes are minutes of training, over all runs
        that wrote to the file. A file that an older version began keeps its columns
    every : steps

    Notes
    -----
    `QuantizedStage` is measured on latents of the quantizer that writes files. Other stages are
    measured with plain rounding, and their bits are the model's own estimate.
    """

    def __init__(self, pack: PackedPhotos, path: Path, every: int) -> None:
        self.crops = validation_crops(pack, PHOTOS)
        self.path, self.every = path, every
        self.before, self.written = _last(path)
        self.first = True  # until a minute has passed

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write points of what the run starts from; the clock does not run yet."""
        self._write(trainer, module, 0.0, bar=True)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: object
    ) -> None:
        """Write points when they are due."""
        spent = _minutes(module)
        if trainer.global_step % self.every == 0 or (self.first and spent >= 1):
            self.first = False
            self._write(trainer, module, spent)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the last points."""
        self._write(trainer, module, _minutes(module))

    def _write(
        self,
        trainer: lightning.Trainer,
        module: lightning.LightningModule,
        spent: float,
        *,
        bar: bool = False,
    ) -> None:
        if self.written == trainer.global_step or not len(self.crops):
            return
        if not isinstance(module, Stage) or not isinstance(module.average, PhotoModel):
            raise TypeError(f"a learning curve of {type(module).__name__}")
        self.written = trainer.global_step
        minutes = f"{self.before + spent:.2f}"
        crops = self.crops.to(module.device)
        code = module.coded if isinstance(module, QuantizedStage) else coded
        model = module.average.eval()
        append_points(self.path, self.written, minutes, model, crops, code, bar=bar)

    def gained(self) -> str:
        """Say in a sentence what training has gained, from the first points of the file on."""
        if not len(self.crops):
            return (
                f"no picture was set aside to measure the gain on: that takes at least 5 pictures, "
                f"and some of {SIDE} pixels a side"
            )
        with self.path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        count = len(QUALITIES)
        rise = {
            name: sum(float(last[name]) - float(first[name]) for first, last in pairs) / count
            for pairs in [list(zip(rows[:count], rows[-count:], strict=True))]
            for name in ("bpp", "psnr", "ssimulacra2")
            if rows[0].get(name)
        }
        return _sentence(len(self.crops), rise)


def _sentence(pictures: int, rise: Mapping[str, float]) -> str:
    bits = f"{rise['bpp']:+.4f} bits per pixel" if abs(rise["bpp"]) >= 5e-5 else "the same bits"
    score = f"SSIMULACRA 2 {rise['ssimulacra2']:+.2f}, " if "ssimulacra2" in rise else ""
    text = (
        f"gain on the {pictures} pictures that were set aside, mean over all qualities: "
        f"{score}PSNR {rise['psnr']:+.2f} dB, {bits}"
    )
    if rise.get("ssimulacra2", rise["psnr"]) > 0 or rise["bpp"] <= -5e-5:
        return text
    return f"{text}; the model has not become better: keep the one that training started from"


def _minutes(module: lightning.LightningModule) -> float:
    return module.clock.minutes() if isinstance(module, Stage) else 0.0


def append_points(
    path: Path,
    step: int,
    minutes: str,
    model: PhotoModel,
    crops: Tensor,
    code: Code = coded,
    *,
    bar: bool = False,
) -> None:
    """Measure a model at every quality, and append the points to a learning curve's file.

    Parameters
    ----------
    bar : show one on a terminal
    """
    rows = []
    for quality in shown(QUALITIES, "measuring", hidden=not bar):
        found = {name: f"{value:.5f}" for name, value in code(model, crops, quality).items()}
        rows.append({"step": step, "minutes": minutes, "quality": f"{quality:g}", **found})
    columns = _columns(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns or COLUMNS, extrasaction="ignore")
        if not columns:
            writer.writeheader()
        writer.writerows(rows)


def _columns(path: Path) -> list[str] | None:
    """Columns of a file that is there already."""
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file), None)


def _last(path: Path) -> tuple[float, int]:
    """Minutes and step of the last points of a file."""
    if not path.exists():
        return 0.0, -1
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(float(row["minutes"]), int(row["step"])) for row in csv.DictReader(file)]
    return max(rows, default=(0.0, -1))
