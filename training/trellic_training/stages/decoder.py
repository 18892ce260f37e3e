"""Training one decoder of a bundle: encoder, quantizer and entropy networks stay as they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.data.pool import Batch
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.precision import bfloat16
from trellic_training.models.transforms import Chain
from trellic_training.pixels import to_network
from trellic_training.recipes.decoder import DecoderRecipe
from trellic_training.stages.stage import Clock, Stage
from trellic_training.stages.terms import ClassificationTerm


class DecoderStage(Stage[DecoderRecipe, Chain]):
    """Minimise the weighted distortion of a decoder's pictures.

    With ``distill``, also the error against the bundle's own decoder. Its pictures are smoother
    than the photo, so a small network learns faster from them.
    """

    validation: list[Batch]

    def __init__(self, recipe: DecoderRecipe, clock: Clock, model: Chain) -> None:
        super().__init__(recipe, clock, model)
        named = recipe.classification
        self.classification = None if named is None else ClassificationTerm(named)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch of `Samples`."""
        loss = self.lost(batch)
        self.show("loss", loss)
        return loss

    def lost(self, batch: Batch) -> Tensor:
        """Weighted distortion of a batch."""
        x_hat, x, quality = self.decode(batch), self.target(batch["x"]), batch["quality"]
        lmbda, weight = self.weights_of_quality(quality)
        lost = self.distortion(x_hat, x, quality, lmbda)
        if "teacher" in batch:
            teacher = self.target(batch["teacher"])
            lost = lost + self.recipe.distill * self.distortion(x_hat, teacher, quality, lmbda)
        lost = lost + self.classified(x_hat, batch)
        self.show("psnr", decibels(squared_error(x_hat.detach(), x)))
        loss: Tensor = (weight * lost).mean()
        return loss

    def classified(self, x_hat: Tensor, batch: Batch) -> Tensor:
        """Weighted cross entropy of each picture (N,); 0 without a classifier."""
        if self.classification is None:
            return x_hat.new_zeros(len(x_hat))
        weighted: Tensor = self.classification(x_hat, batch["label"], self.show)
        return weighted

    def decode(self, batch: Batch) -> Tensor:
        """Pictures (or logits), float32, of a batch."""
        return self.decode_with(self.model, batch)

    def decode_with(self, model: nn.Module, batch: Batch) -> Tensor:
        """Pictures (or logits), float32, of a decoder."""
        latents = batch["latents"].float().contiguous(memory_format=torch.channels_last)
        with bfloat16(latents.device.type, self.recipe.autocast):
            decoded: Tensor = model(latents, batch["level"]).float()
        return decoded

    def target(self, pixels: Tensor) -> Tensor:
        """Return what a decoder should make: (N, 3, H / scale, W / scale) in [-1/2, 1/2]."""
        return functional.avg_pool2d(to_network(pixels), self.recipe.network.scale)

    def on_train_batch_end(self, *_: object) -> None:
        """Move the average and look at validation crops; stop when the time is up."""
        super().on_train_batch_end()
        if self.warm % self.recipe.validate_every == 0:
            for name, value in self.validate().items():
                self.show(name, value)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the averaged decoder on crops that are never trained on, and what it lacks."""
        rows = []
        for batch in self.validation:
            x = self.target(batch["x"])
            pictures = [self.decode_with(self.average, batch)]
            if "teacher" in batch:
                pictures.append(self.target(batch["teacher"]))
            rows.append([float(decibels(squared_error(picture, x))) for picture in pictures])
        return dict(zip(("validation_psnr", "teacher_psnr"), np.mean(rows, 0), strict=False))


class LabelStage(DecoderStage):
    """Minimise the cross-entropy of smoothed labels, with equal weight for all qualities."""

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch of `LabelledSamples`."""
        smoothing = self.recipe.label_smoothing
        logits = self.decode(batch)
        loss = functional.cross_entropy(logits, batch["label"], label_smoothing=smoothing)
        self.show("loss", loss)
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of the averaged decoder's labels that are right on the validation split."""
        model = self.average.eval()
        right = [
            (self.decode_with(model, batch).argmax(1) == batch["label"]).float().mean()
            for batch in self.validation
        ]
        return {"validation_accuracy": float(torch.stack(right).mean())}
