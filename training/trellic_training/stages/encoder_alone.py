"""First stage for an encoder alone: g_a and h_a learn what suits a decoder that stays as it is.

A decoder that was trained after its encoder suits it, but not the other way round. Neither g_a nor
h_a decides what a stream means, so the new encoder writes files for the decoders that exist. With
``train: hyper`` h_a learns alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trellic_training.models.decoder_weights import state_of_synthesis
from trellic_training.models.photo import Output
from trellic_training.recipes.codec import Recipe
from trellic_training.stages.end_to_end import EndToEnd
from trellic_training.stages.identity import moved
from trellic_training.stages.stage import Clock


class EncoderAlone(EndToEnd):
    """Minimise the same loss, and how far encoding again moves latents, over the encoder.

    Raises
    ------
    BadParameter
        When the recipe's decoder is of another network than the model's g_s.
    """

    def __init__(self, recipe: Recipe, clock: Clock) -> None:
        super().__init__(recipe, clock)
        self.model.requires_grad_(False)
        model = self.model
        for part in (model.h_a,) if recipe.train == "hyper" else (model.g_a, model.h_a):
            part.requires_grad_(True)

    def started(self) -> None:
        """Give g_s the weights of the recipe's decoder."""
        file = self.recipe.decoder
        if file is None:
            return
        given = state_of_synthesis(file, self.model)
        for model in (self.model, self.average):
            model.g_s.load_state_dict(given)

    def beside(self, output: Output, quality: Tensor) -> Tensor:
        """Weighted movement of latents; the gradient reaches g_a of the second encode alone."""
        if not self.recipe.identity:
            return torch.zeros_like(output.y_bits)
        x_hat, f_hat = output.x_hat.detach(), output.f_hat.detach()
        again = moved(self.model, x_hat, f_hat, quality, autocast=self.recipe.autocast)
        self.show("moved", again.detach().mean())
        return self.recipe.identity * again
