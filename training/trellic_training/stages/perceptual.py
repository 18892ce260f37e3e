"""Training a perceptual decoder: a critic, structure and local contrast beside squared error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trellic_training.data.pool import Batch
from trellic_training.losses.eye import squared_error
from trellic_training.losses.structure import contrast_error, structural_error
from trellic_training.models.critic import Critic
from trellic_training.models.precision import bfloat16
from trellic_training.models.transforms import Chain
from trellic_training.recipes.decoder import Adversary, DecoderRecipe
from trellic_training.stages.decoder import DecoderStage
from trellic_training.stages.stage import Clock

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
        self.critic = Critic(self.terms.hidden)
        self.critic_optimizer = torch.optim.Adam(
            self.critic.parameters(), self.terms.learning_rate, betas=(0.5, 0.9)
        )

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch of `Samples`; the critic takes its own step before."""
        x, teacher = self.target(batch["x"]), self.target(batch["teacher"])
        x_hat = self.decode(batch)
        loss = self._weighed(x_hat, teacher, x)
        apart = self._train_critic(x, x_hat.detach(), teacher)
        if self.clock.share() >= self.terms.from_share:
            self.critic.requires_grad_(False)
            loss = loss - self.terms.critic * self._verdict(x_hat, teacher).mean()
            self.critic.requires_grad_(True)
        self.show("loss", loss)
        self.show("critic_apart", apart)
        return loss

    def lost(self, batch: Batch) -> Tensor:
        """Weighted sum of the relative errors of a batch."""
        x_hat = self.decode(batch)
        return self._weighed(x_hat, self.target(batch["teacher"]), self.target(batch["x"]))

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

    def _verdict(self, picture: Tensor, teacher: Tensor) -> Tensor:
        with bfloat16(picture.device.type, self.recipe.autocast):
            verdict: Tensor = self.critic(picture, teacher).float()
        return verdict

    def _train_critic(self, x: Tensor, x_hat: Tensor, teacher: Tensor) -> Tensor:
        """Make one step of the hinge loss; returns how far apart the critic's verdicts are."""
        real, made = self._verdict(x, teacher), self._verdict(x_hat, teacher)
        loss = functional.relu(1 - real).mean() + functional.relu(1 + made).mean()
        self.critic_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.critic_optimizer.step()
        return (real.mean() - made.mean()).detach()

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
