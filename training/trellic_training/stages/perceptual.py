"""Training a perceptual decoder: a critic, structure and local contrast beside squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from trellic_training.data.pool import Batch
from trellic_training.losses.eye import squared_error
from trellic_training.losses.structure import contrast_error, structural_error
from trellic_training.models.transforms import Chain
from trellic_training.recipes.decoder import Adversary, DecoderRecipe
from trellic_training.stages.decoder import DecoderStage
from trellic_training.stages.stage import Clock
from trellic_training.stages.terms import LearningCritic

FLOORS = {"mse": 4e-6, "structure": 1.0, "contrast": 1e-4}  # of the teacher's errors


class PerceptualStage(DecoderStage):
    """Minimise errors relative to the teacher's, and deceive a critic.

    Because errors are relative, the decoder gives up as many decibels at high rates as at low ones.
    """

    def __init__(self, recipe: DecoderRecipe, clock: Clock, model: Chain) -> None:
        super().__init__(recipe, clock, model)
        if recipe.adversary is None:
            raise ValueError("a perceptual stage needs an adversary")
        self.terms: Adversary = recipe.adversary
        self.critic = LearningCritic(self.terms, 2, recipe.autocast)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch of `Samples`; the critic takes its own step before."""
        x, teacher = self.target(batch["x"]), self.target(batch["teacher"])
        x_hat = self.decode(batch)
        loss = self._weighed(x_hat, teacher, x) + self.classified(x_hat, batch).mean()
        apart = self.critic.learn(x, x_hat, teacher)
        if self.clock.share() >= self.terms.from_share:
            loss = loss - self.terms.critic * self.critic.belief(x_hat, teacher).mean()
        self.show("loss", loss)
        self.show("critic_apart", apart)
        return loss

    def lost(self, batch: Batch) -> Tensor:
        """Weighted sum of the relative errors of a batch, and its classification."""
        x_hat = self.decode(batch)
        weighed = self._weighed(x_hat, self.target(batch["teacher"]), self.target(batch["x"]))
        return weighed + self.classified(x_hat, batch).mean()

    def _weighed(self, x_hat: Tensor, teacher: Tensor, x: Tensor) -> Tensor:
        mse, structure, contrast = self._relative(x_hat, teacher, x)
        self.show("psnr_over_teacher", -10 * mse.log10().mean())
        self.show("structure", structure.mean())
        self.show("contrast", contrast.mean())
        loss = mse + self.terms.structure * structure + self.terms.contrast * contrast
        return loss.mean()

    def _relative(self, x_hat: Tensor, teacher: Tensor, x: Tensor) -> list[Tensor]:
        """Squared, structural and contrast error of each picture, divided by the teacher's."""
        measures = (squared_error, structural_error, contrast_error)
        relative = []
        for measure, floor in zip(measures, FLOORS.values(), strict=True):
            with torch.no_grad():
                unit = measure(teacher, x).clamp_min(floor)
            relative.append(measure(x_hat, x) / unit)
        return relative

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """PSNR of the averaged decoder, and its errors divided by the teacher's."""
        found = super().validate()
        rows = []
        for batch in self.validation:
            x_hat = self.decode_with(self.average, batch)
            teacher, x = self.target(batch["teacher"]), self.target(batch["x"])
            rows.append(torch.stack(self._relative(x_hat, teacher, x)))
        _, structure, contrast = torch.cat(rows, 1).mean(1).tolist()
        return found | {"relative_structure": structure, "relative_contrast": contrast}
