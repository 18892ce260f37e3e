"""Second stage: encoder and gains frozen, the rest retrained on really quantized latents.

After Borzechowski et al. 2024 ("Optimizing learned image compression on scalar and
entropy-constraint quantization", ICIP): the networks behind the quantizer learn from what the
quantizer really emits, here the runtime's own search under the model's own tables. Tables are
fitted anew every so many steps, and the search goes on with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trellic.entropy.tables import Tables
from trellic.errors import BadParameter
from trellic.latents.quantizer import Quantizer
from trellic_training.data.cutouts import cut_out
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pool import Pool
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.photo import PhotoModel
from trellic_training.models.precision import bfloat16
from trellic_training.pixels import to_network
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import (
    LoopQuantizer,
    QuantizedBatch,
    latents_for_synthesis,
    sigmas_of,
)
from trellic_training.quantization.symbols import Collector
from trellic_training.recipes.codec import (
    Family,
    Kind,
    QuantizedPhase,
    QuantizedRecipe,
    check_crops,
)
from trellic_training.stages.end_to_end import CropStream, sample_quality
from trellic_training.stages.identity import moved
from trellic_training.stages.reference import measured_reference, reference_of
from trellic_training.stages.stage import Clock, Stage
from trellic_training.stages.trainer import make_trainer, run
from trellic_training.stages.validation import PHOTOS, coded_as_files
from trellic_training.stages.validation import validation_crops as middles

FIT_ROUNDS = 3
POOL_START = 6  # batches for each reuse that the pool is filled with first
VALIDATION_CROPS, VALIDATION_SIDE = 8, 256
VALIDATION_QUALITIES = (15.0, 40.0, 65.0, 90.0)


class QuantizedStage(Stage[QuantizedRecipe, PhotoModel]):
    """Minimise rate and the recipe's distortion on quantized latents.

    Parameters
    ----------
    recipe, clock, model, pack : of the run
    tables : fitted to this model with the recipe's trellis step; None to fit them
    """

    def __init__(
        self,
        recipe: QuantizedRecipe,
        clock: Clock,
        model: PhotoModel,
        pack: PackedPhotos,
        tables: Tables | None = None,
    ) -> None:
        super().__init__(recipe, clock, model.float().eval())
        self.pack = pack
        self._freeze()
        self.rng = np.random.default_rng(recipe.seed)
        self.pool = Pool(recipe.pool, self.rng)
        self.prior = parametric_tables(sigmas_of(model.config.scales), recipe.trellis_step)
        self.quantizer = self._quantizer_of(self.model, tables or self.prior)
        self.fitted = tables is not None

    def _quantizer_of(self, model: PhotoModel, tables: Tables) -> LoopQuantizer:
        return LoopQuantizer(model, tables, self.recipe.skip_index, self.recipe.widening)

    def _freeze(self) -> None:
        self.model.requires_grad_(False)
        parts: list[nn.Module] = [self.model.g_s]
        if self.recipe.trains_entropy:
            parts += [self.model.h_s, self.model.contexts]
        for part in parts:
            part.requires_grad_(True)

    def fit_tables(self, rounds: int, crops: int) -> None:
        """Fit tables to what the quantizers emit now, as the export does.

        The search that they are fitted to is thriftier than the one that uses them.
        """
        families: dict[str, Kind] = {}
        for kind in self.recipe.quantizers:  # the first of each family
            families.setdefault("scalar" if kind in ("round", 0) else "trellis", kind)
        size = max(phase.crop for phase in self.recipe.phases)
        kinds = [kind for _ in range(rounds) for kind in families.values()]
        console = Console(stderr=True, quiet=rounds == 1)
        done = iter(
            track(range(len(kinds) * crops), "fitting tables, before --minutes", console=console)
        )
        for kind in kinds:
            collected = Collector()
            for _ in zip(range(crops), done, strict=False):
                x = to_network(self.pack.crops(self.rng, 1, size))
                self.quantizer(x, sixteenths(1), self._search(kind, fit=True), collected)
            self.quantizer.use(collected.refit(self.quantizer.tables, self.prior))
        next(done, None)  # takes the bar away

    def _search(self, kind: str | int, *, fit: bool = False) -> Quantizer:
        if kind == "round":
            return Quantizer(0, 0, "round")
        family: Family = "trellis" if kind else "scalar"
        return Quantizer(int(kind), (self.recipe.fit_lam if fit else self.recipe.lam)[family])

    def on_fit_start(self) -> None:
        """Fit tables if needed; the clock does not run yet. A learning curve measures with them."""
        if not self.fitted:
            self.fit_tables(FIT_ROUNDS, self.recipe.fit_crops)
        self.start_loss = self.validate_on(self.model)[0]

    def coded(self, model: PhotoModel, crops: Tensor, quality: float) -> dict[str, float]:
        """Code crops with the present tables, as `coded_as_files`."""
        search = self._search(self.recipe.quantizers[0])
        quantizer = self._quantizer_of(model, self.quantizer.tables)
        return coded_as_files(quantizer, search, crops, quality)

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        """Weighted rate-distortion loss of one batch of uint8 crops."""
        phase = self.recipe.phase_at(self.clock.share())
        if phase.train == "g_s":
            return self._synthesis_step(batch, phase)
        return self._joint_step(batch)

    def _quantize(self, x: Tensor, quality: Tensor) -> QuantizedBatch:
        kinds = self.recipe.quantizers
        kind = kinds[int(self.rng.integers(len(kinds)))]
        return self.quantizer(x, quality, self._search(kind))

    def _synthesis_step(self, crops: Tensor, phase: QuantizedPhase) -> Tensor:
        """Only g_s: crops may come from the pool."""
        if self.warm % phase.reuse == 0 or not self.pool.holds({"x": crops}):
            self._refill(crops)
        while len(self.pool.samples) < min(self.recipe.pool, POOL_START * phase.reuse * len(crops)):
            self._refill(self._fresh(len(crops), phase.crop))  # or few are seen often
        drawn = self.pool.draw(len(crops))
        latents, quality = drawn["latents"].float(), drawn["quality"]
        x_hat = self._decode(latents, quality)
        x = to_network(drawn["x"])
        lmbda, weight = self.weights_of_quality(quality)
        loss: Tensor = (weight * self.distortion(x_hat, x, quality, lmbda)).mean()
        if self.recipe.identity:
            autocast = self.recipe.autocast
            again = moved(self.model, x_hat, latents, quality, autocast=autocast)
            loss = loss + self.recipe.identity * (weight * again).mean()
        self._log(loss, x_hat, x)
        return loss

    def _fresh(self, count: int, size: int) -> Tensor:
        """Random crops, uint8, as the stream has them."""
        return cut_out(self.pack.crops(self.rng, count, size), self.recipe.cutouts)

    def _refill(self, crops: Tensor) -> None:
        done = self._quantize(to_network(crops), sixteenths(len(crops)))
        latents = latents_for_synthesis(done).half()
        self.pool.add({"x": crops, "latents": latents, "quality": done.quality})

    def _joint_step(self, crops: Tensor) -> Tensor:
        """Train decoder and entropy networks."""
        x, quality = to_network(crops), sixteenths(len(crops))
        batch = self._quantize(x, quality)
        mean, index = self.quantizer.predict(batch)
        coded, charged = self.quantizer.bits(batch, mean, index)
        pixels = x.shape[2] * x.shape[3]
        x_hat = self._decode(latents_for_synthesis(batch, mean), batch.quality)
        lmbda, weight = self.weights_of_quality(quality)
        lost = self.distortion(x_hat, x, quality, lmbda)
        loss: Tensor = (weight * (charged / pixels + lost)).mean()
        self._log(loss, x_hat, x)
        self.show("y_bpp", coded.mean() / pixels)
        return loss

    def _decode(self, latents: Tensor, quality: Tensor) -> Tensor:
        with bfloat16(latents.device.type, self.recipe.autocast):
            x_hat: Tensor = self.model.g_s(latents, quality).float()
        return x_hat

    def _log(self, loss: Tensor, x_hat: Tensor, x: Tensor) -> None:
        self.show("loss", loss)
        self.show("psnr", decibels(squared_error(x_hat.detach(), x)))

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average, renew the tables, look at validation crops; stop when time is up."""
        super().on_train_batch_end()
        joint = self.recipe.phase_at(self.clock.share()).train != "g_s"
        if joint and self.warm % self.recipe.refit_every == 0:
            self.fit_tables(1, self.recipe.refit_crops)
        if self.warm % self.recipe.validate_every == 0:
            loss, bpp, psnr = self.validate_on(self.average)
            self.show("validation_loss", loss / self.start_loss)
            self.log("validation_bpp", bpp)
            self.log("validation_psnr", psnr)

    @torch.no_grad()
    def validate_on(self, model: PhotoModel) -> tuple[float, float, float]:
        """Mean loss, bits per pixel (latents) and PSNR on crops that are never trained on."""
        quantizer = self._quantizer_of(model, self.quantizer.tables)
        x = to_network(validation_crops(self.pack, model.config.hyper_stride))
        losses, bpps, psnrs = [], [], []
        for q in VALIDATION_QUALITIES:
            quality = torch.full((len(x),), q)
            batch = quantizer(x, quality, self._search(self.recipe.quantizers[0]))
            coded, _ = quantizer.bits(batch, *quantizer.predict(batch))
            bpp = coded / (x.shape[2] * x.shape[3])
            x_hat = model.g_s(latents_for_synthesis(batch), batch.quality)
            lmbda, weight = self.weights_of_quality(quality)
            lost = self.distortion(x_hat, x, quality, lmbda)
            losses.append(float((weight * (bpp + lost)).mean()))
            bpps.append(float(bpp.mean()))
            psnrs.append(float(decibels(squared_error(x_hat, x))))
        return float(np.mean(losses)), float(np.mean(bpps)), float(np.mean(psnrs))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tables beside the weights."""
        super().on_save_checkpoint(checkpoint)
        arrays = self.quantizer.tables.to_arrays()
        checkpoint["tables"] = {name: torch.from_numpy(a.copy()) for name, a in arrays.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the tables of the earlier run."""
        super().on_load_checkpoint(checkpoint)
        arrays = {name: value.numpy() for name, value in checkpoint["tables"].items()}
        self.quantizer.use(Tables.from_arrays(arrays))
        self.fitted = True


def sixteenths(count: int) -> Tensor:
    """Random qualities in steps of 1/16, as files have them."""
    return (sample_quality(count, torch.device("cpu")) * 16).round() / 16


def validation_crops(pack: PackedPhotos, multiple: int) -> Tensor:
    """Top left corners of validation photos (of training photos, where there are none).

    Raises
    ------
    BadParameter
        When one of them has not ``multiple`` pixels a side, as in a pack for smaller crops.
    """
    photos = pack.validation or pack.training
    whole = [pack.photo(photo) for photo in photos]
    side = min(VALIDATION_SIDE, min(min(p.shape[:2]) for p in whole) // multiple * multiple)
    if not side:
        raise BadParameter(
            f"packed photos smaller than {multiple}x{multiple} pixels",
            remedy="pack larger photos, to another folder with --out",
        )
    every = max(1, len(whole) // VALIDATION_CROPS)
    crops = [pixels[:side, :side] for pixels in whole[::every]][:VALIDATION_CROPS]
    return torch.from_numpy(np.stack(crops))


def finetune(
    recipe: QuantizedRecipe,
    model: PhotoModel,
    photos: Path,
    out: Path,
    minutes: float,
    *,
    resume: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
    now: Callable[[], float] = time.monotonic,
    tables: Tables | None = None,
    watchers: Sequence[lightning.Callback] = (),
) -> Path:
    """Retrain what comes after the quantizer for a time; returns the newest checkpoint.

    Parameters
    ----------
    model : weights of the first stage
    photos : folder made by `trellic_training.data.photos.pack`
    out : folder for checkpoints and TensorBoard logs
    minutes : time budget; learning rate and phases follow it
    resume : checkpoint (``.ckpt``) of an earlier run of this stage
    steps : stop at this step, if the time is not up before
    now : the clock that counts the minutes, in seconds
    tables : fitted to the model already; by default they are fitted first, which takes minutes
    watchers : additional callbacks

    Raises
    ------
    BadParameter
        When the recipe's crops do not fit the model's strides, or what to resume from is wrong, or
        the photos or the distortion do not fit the model's bands.
    Interrupted
        When a signal stopped the run, which is saved then.
    """
    check_crops(recipe.phases, model.config.hyper_stride)
    lightning.seed_everything(recipe.seed, verbose=False)
    clock = Clock(minutes, now)
    pack = PackedPhotos(photos)
    pack.check_bands(model.config.bands)
    recipe.distortion.check_bands(model.config.bands)
    module = QuantizedStage(recipe, clock, model, pack, tables)
    if recipe.distortion.needs_reference:
        measured = partial(measured_reference, model, recipe.lmbda, middles(pack, PHOTOS))
        module.distortion.follow(reference_of(recipe.distortion, out, resume, measured))
    module.model.g_s.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stream = CropStream(
        pack, recipe, clock, lambda: [recipe.seed, module.global_step], torch.device("cpu")
    )
    trainer = make_trainer(  # the runtime's quantizer works on the CPU
        out,
        steps=steps,
        progress=progress,
        accelerator="cpu",
        save_every=250,
        watchers=watchers,
    )
    return run(trainer, module, DataLoader(stream, batch_size=None), out, resume)
