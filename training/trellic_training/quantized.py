"""Second stage: encoder and gains frozen, the rest retrained on really quantized latents.

After Borzechowski et al. 2024 ("Optimizing learned image compression on scalar and
entropy-constraint quantization", ICIP): the networks behind the quantizer learn from what the
quantizer really emits, here the runtime's own search under the model's own tables. Tables are
fitted anew every so many steps, and the search goes on with them.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from trellic.coding import Quantizer
from trellic.entropy.tables import Tables
from trellic.quantize.fit import parametric_tables

from .data import PackedPhotos
from .end_to_end import (
    HARMLESS,
    PIXEL_RANGE,
    Clock,
    CropStream,
    average,
    sample_quality,
    to_network,
)
from .models.photo import PhotoModel
from .optimizers import make_optimizer
from .quantizing import LoopQuantizer, QuantizedBatch, latents_for_synthesis, sigmas_of
from .recipe import Family, Kind, QuantizedPhase, QuantizedRecipe
from .symbols import Collector

FIT_ROUNDS = 3
POOL_START = 6  # batches for each reuse that the pool is filled with first
VALIDATION_CROPS, VALIDATION_SIDE = 8, 256
VALIDATION_QUALITIES = (15.0, 40.0, 65.0, 90.0)


class Pool:
    """Quantized crops, seen several times before newer ones take their places."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.crops: list[tuple[Tensor, Tensor, Tensor]] = []
        self.next = 0

    def holds(self, x: Tensor) -> bool:
        """Whether it holds crops of this size."""
        return bool(self.crops) and self.crops[0][0].shape == x.shape[1:]

    def add(self, x: Tensor, latents: Tensor, quality: Tensor) -> None:
        """Add a batch; crops of another size throw out all older ones."""
        if not self.holds(x):
            self.crops, self.next = [], 0
        for entry in zip(x, latents.half(), quality, strict=True):
            if len(self.crops) < self.size:
                self.crops.append(entry)
            else:
                self.crops[self.next % self.size] = entry
            self.next += 1

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return a random batch."""
        chosen = [self.crops[i] for i in self.rng.integers(len(self.crops), size=count)]
        x, latents, quality = (torch.stack(column) for column in zip(*chosen, strict=True))
        return x, latents.float(), quality


class QuantizedStage(lightning.LightningModule):
    """Minimise the rate-distortion loss of the first stage on quantized latents."""

    def __init__(
        self, recipe: QuantizedRecipe, clock: Clock, model: PhotoModel, pack: PackedPhotos
    ) -> None:
        super().__init__()
        self.recipe, self.clock, self.pack = recipe, clock, pack
        self.model = model.float().eval()
        self._freeze()
        self.ema = AveragedModel(self.model, avg_fn=partial(average, recipe.ema))
        self.ema.requires_grad_(False)
        self.rng = np.random.default_rng(recipe.seed)
        self.pool = Pool(recipe.pool, self.rng)
        self.prior = parametric_tables(sigmas_of(model.config.scales), recipe.trellis_step)
        self.quantizer = LoopQuantizer(self.model, self.prior, recipe.skip_index)
        self.warm = 0

    @property
    def average(self) -> PhotoModel:
        """The averaged model."""
        model: PhotoModel = self.ema.module  # type: ignore[assignment]
        return model

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
        for turn in range(rounds):
            for family, kind in families.items():
                collected = Collector()
                numbers = range(crops)
                for _ in (
                    track(numbers, f"fitting {family} tables, {turn}") if rounds > 1 else numbers
                ):
                    x = to_network(self.pack.crops(self.rng, 1, size))
                    self.quantizer(x, _qualities(1), self._search(kind, fit=True), collected)
                self.quantizer.use(collected.refit(self.quantizer.tables, self.prior))

    def _search(self, kind: str | int, *, fit: bool = False) -> Quantizer:
        if kind == "round":
            return Quantizer(0, 0, "round")
        family: Family = "trellis" if kind else "scalar"
        return Quantizer(int(kind), (self.recipe.fit_lam if fit else self.recipe.lam)[family])

    def on_train_start(self) -> None:
        """Fit tables, then start the clock: set-up does not count."""
        self.fit_tables(FIT_ROUNDS, self.recipe.fit_crops)
        self.start_loss = self.validate_on(self.model)[0]
        self.clock.start = time.monotonic()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the recipe's optimizer over all that some phase trains."""
        return make_optimizer(self.model, self.recipe.optimizer, self.recipe.learning_rate)

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
        if self.warm % phase.reuse == 0 or not self.pool.holds(crops):
            self._refill(crops)
        while len(self.pool.crops) < min(self.recipe.pool, POOL_START * phase.reuse * len(crops)):
            self._refill(self.pack.crops(self.rng, len(crops), phase.crop))  # or few are seen often
        crops, latents, quality = self.pool.draw(len(crops))
        mse = self._squared_error(latents, to_network(crops))
        lmbda, weight = self._weights(quality)
        loss: Tensor = (weight * lmbda * PIXEL_RANGE**2 * mse).mean()
        self._log(loss, mse)
        return loss

    def _refill(self, crops: Tensor) -> None:
        quality = _qualities(len(crops))
        batch = self._quantize(to_network(crops), quality)
        self.pool.add(crops, latents_for_synthesis(batch), quality)

    def _joint_step(self, crops: Tensor) -> Tensor:
        """Train decoder and entropy networks."""
        x, quality = to_network(crops), _qualities(len(crops))
        batch = self._quantize(x, quality)
        mean, index = self.quantizer.predict(batch)
        coded, charged = self.quantizer.bits(batch, mean, index)
        pixels = x.shape[2] * x.shape[3]
        mse = self._squared_error(latents_for_synthesis(batch, mean), x)
        lmbda, weight = self._weights(quality)
        loss: Tensor = (weight * (charged / pixels + lmbda * PIXEL_RANGE**2 * mse)).mean()
        self._log(loss, mse)
        self.log("y_bpp", coded.mean() / pixels, prog_bar=True)
        return loss

    def _squared_error(self, latents: Tensor, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.autocast):
            x_hat = self.model.g_s(latents).float()
        error: Tensor = (x_hat - x).square().mean((1, 2, 3))
        return error

    def _weights(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Weight of the distortion, and of the sample, at each quality: as in the first stage."""
        low, high = self.recipe.lmbda
        lmbda = low * (high / low) ** ((quality - 1) / 99)
        return lmbda, (lmbda / (low * high) ** 0.5) ** self.recipe.weight_exponent

    def _log(self, loss: Tensor, mse: Tensor) -> None:
        self.log("loss", loss, prog_bar=True)
        self.log("psnr", -10 * mse.log10().mean(), prog_bar=True)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate from the clock; skip a step whose gradient is not finite."""
        self.warm += 1
        factor = min(1.0, self.warm / self.recipe.warmup_steps)
        left = (1 - self.clock.share()) / (1 - self.recipe.decay_from)
        factor *= max(self.recipe.final_rate, min(1.0, left))
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * factor
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        if not torch.isfinite(norm):
            optimizer.zero_grad()
        self.log("gradient_norm", norm)

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average, renew the tables, look at validation crops; stop when time is up."""
        self.ema.update_parameters(self.model)
        joint = self.recipe.phase_at(self.clock.share()).train != "g_s"
        if joint and self.warm % self.recipe.refit_every == 0:
            self.fit_tables(1, self.recipe.refit_crops)
        if self.warm % self.recipe.validate_every == 0:
            loss, bpp, psnr = self.validate_on(self.average)
            self.log("validation_loss", loss / self.start_loss, prog_bar=True)
            self.log("validation_bpp", bpp)
            self.log("validation_psnr", psnr)
        if self.clock.share() >= 1:
            self.trainer.should_stop = True

    @torch.no_grad()
    def validate_on(self, model: PhotoModel) -> tuple[float, float, float]:
        """Mean loss, bits per pixel (latents) and PSNR on crops that are never trained on."""
        quantizer = LoopQuantizer(model, self.quantizer.tables, self.recipe.skip_index)
        x = to_network(_validation_crops(self.pack))
        losses, bpps, psnrs = [], [], []
        for q in VALIDATION_QUALITIES:
            quality = torch.full((len(x),), q)
            batch = quantizer(x, quality, self._search(self.recipe.quantizers[0]))
            coded, _ = quantizer.bits(batch, *quantizer.predict(batch))
            bpp = coded / (x.shape[2] * x.shape[3])
            x_hat = model.g_s(latents_for_synthesis(batch))
            mse = (x_hat - x).square().mean((1, 2, 3))
            lmbda, weight = self._weights(quality)
            losses.append(float((weight * (bpp + lmbda * PIXEL_RANGE**2 * mse)).mean()))
            bpps.append(float(bpp.mean()))
            psnrs.append(float(-10 * mse.log10().mean()))
        return float(np.mean(losses)), float(np.mean(bpps)), float(np.mean(psnrs))

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Keep the tables beside the weights."""
        checkpoint["tables"] = self.quantizer.tables.to_arrays()

    def on_load_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Go on with the tables of the earlier run."""
        self.quantizer.use(Tables.from_arrays(checkpoint["tables"]))  # type: ignore[arg-type]


def _qualities(count: int) -> Tensor:
    """Random qualities in steps of 1/16, as files have them."""
    return (sample_quality(count, torch.device("cpu")) * 16).round() / 16


def _validation_crops(pack: PackedPhotos) -> Tensor:
    """Top left corners of validation photos (of training photos, where there are none)."""
    photos = pack.validation or pack.training
    whole = [pack.photo(photo) for photo in photos]
    side = min(VALIDATION_SIDE, min(min(p.shape[:2]) for p in whole) // 64 * 64)
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
) -> Path:
    """Retrain what comes after the quantizer for a time; returns the newest checkpoint.

    Parameters
    ----------
    model : weights of the first stage
    photos : folder made by `trellic_training.data.pack`
    out : folder for checkpoints and TensorBoard logs
    minutes : time budget; learning rate and phases follow it
    resume : checkpoint (``.ckpt``) of an earlier run of this stage
    steps : stop at this step, if the time is not up before
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    clock = Clock(minutes)
    pack = PackedPhotos(photos)
    module = QuantizedStage(recipe, clock, model, pack)
    module.model.g_s.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stream = CropStream(
        pack, recipe, clock, lambda: [recipe.seed, module.global_step], torch.device("cpu")
    )
    checkpoints = lightning.pytorch.callbacks.ModelCheckpoint(
        out, filename="last", every_n_train_steps=250, enable_version_counter=False
    )
    trainer = lightning.Trainer(
        accelerator="cpu",  # the runtime's quantizer works there
        devices=1,
        max_epochs=-1,
        max_steps=-1 if steps is None else steps,
        callbacks=[checkpoints],
        logger=lightning.pytorch.loggers.TensorBoardLogger(str(out), name="log"),
        log_every_n_steps=25,
        enable_progress_bar=progress,
        enable_model_summary=False,
    )
    final = out / "last.ckpt"
    with warnings.catch_warnings():
        for message in (*HARMLESS, "Found .* in eval mode"):  # nothing here behaves by mode
            warnings.filterwarnings("ignore", message)
        loader = DataLoader(stream, batch_size=None)
        trainer.fit(module, loader, ckpt_path=resume, weights_only=False)
        trainer.save_checkpoint(final)
    return final
