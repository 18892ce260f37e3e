"""Training one decoder of a bundle: encoder, quantizer and entropy networks stay as they are."""

from __future__ import annotations

from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from trellic.bundle import Bundle

from .bundled import BundleQuantizer, Samples, SampleStream
from .data import PackedPhotos
from .decoder_recipe import DecoderRecipe
from .end_to_end import PIXEL_RANGE, to_network
from .pool import Batch
from .stage import Clock, Stage, make_trainer, run


class DecoderStage(Stage[DecoderRecipe, nn.Sequential]):
    """Minimise the weighted squared error of a decoder's pictures.

    With ``distill``, also the error against the bundle's own decoder: what that one makes of the
    latents is smoother than the photo, and tells a small network sooner where to go.
    """

    validation: list[Batch]

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch of `Samples`."""
        x_hat = self.decode(batch)
        mse = squared_error(x_hat, self.target(batch["x"]))
        loss = mse
        if "teacher" in batch:
            teacher = self.target(batch["teacher"])
            loss = loss + self.recipe.distill * squared_error(x_hat, teacher)
        lmbda, weight = self.weights_of_quality(batch["quality"])
        loss = (weight * lmbda * PIXEL_RANGE**2 * loss).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("psnr", decibels(mse), prog_bar=True)
        return loss

    def decode(self, batch: Batch) -> Tensor:
        """Pictures (or logits), float32, of a batch."""
        return self.decode_with(self.model, batch["latents"])

    def decode_with(self, model: nn.Module, latents: Tensor) -> Tensor:
        """Pictures (or logits), float32, of a decoder."""
        latents = latents.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(latents.device.type, torch.bfloat16, enabled=self.recipe.autocast):
            decoded: Tensor = model(latents).float()
        return decoded

    def target(self, pixels: Tensor) -> Tensor:
        """Return what a decoder should make: (N, 3, H / scale, W / scale) in [-1/2, 1/2]."""
        return functional.avg_pool2d(to_network(pixels), self.recipe.network.scale)

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average and look at validation crops; stop when the time is up."""
        super().on_train_batch_end()
        if self.warm % self.recipe.validate_every == 0:
            for name, value in self.validate().items():
                self.log(name, value, prog_bar=True)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the averaged decoder on crops that are never trained on, and what it lacks."""
        rows = []
        for batch in self.validation:
            x = self.target(batch["x"])
            pictures = [self.decode_with(self.average, batch["latents"])]
            if "teacher" in batch:
                pictures.append(self.target(batch["teacher"]))
            rows.append([float(decibels(squared_error(picture, x))) for picture in pictures])
        return dict(zip(("validation_psnr", "teacher_psnr"), np.mean(rows, 0), strict=False))


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each picture: (N,)."""
    error: Tensor = (a - b).square().mean((1, 2, 3))
    return error


def decibels(mse: Tensor) -> Tensor:
    """Mean PSNR of pictures whose range is 1."""
    return -10 * mse.clamp_min(1e-9).log10().mean()


def train_decoder(
    recipe: DecoderRecipe,
    decoder: nn.Sequential,
    bundle: Bundle,
    photos: Path,
    out: Path,
    minutes: float,
    *,
    resume: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
) -> tuple[nn.Sequential, int]:
    """Train a decoder for a time; returns its averaged weights and the number of steps.

    Parameters
    ----------
    decoder : to start from
    bundle : whose latents it is to decode
    photos : folder made by `trellic_training.data.pack`
    out : folder for checkpoints and TensorBoard logs
    minutes : time budget; learning rate and phases follow it
    resume : checkpoint (``.ckpt``) of an earlier run
    steps : stop at this step, if the time is not up before
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    clock = Clock(minutes)
    samples = Samples(
        BundleQuantizer(bundle, torch.get_num_threads()), PackedPhotos(photos), recipe
    )
    stage = DecoderStage(recipe, clock, decoder.to(memory_format=torch.channels_last))
    stage.validation = samples.validation(recipe.phases[-1].crop)
    stream = SampleStream(samples, clock, lambda: stage.global_step, progress=progress)
    trainer = make_trainer(out, steps=steps, progress=progress, accelerator="cpu")
    run(trainer, stage, DataLoader(stream, batch_size=None), out, resume)
    return stage.average.eval(), stage.global_step
