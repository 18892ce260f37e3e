r"""Training a small encoder and a small decoder for the latents of a large model.

::

    x -> large g_a -> f  -> the runtime's search -> y_hat -> small g_s -> x_hat     first
      \> small g_a -> f' , which learns f
    x -> small g_a -> f' -> the runtime's search -> y_hat -> small g_s -> x_hat     then

At first the encoder imitates, and the decoder learns to read what the large encoder writes, for
squared error alone, which is faster. Then both train together for rate and distortion. Gradients
pass through the quantizer (`trellic_export.coding`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from trellic.model.bundle import Bundle
from trellic.model.quality import Level
from trellic.pipeline.rate_control import to_quality16
from trellic_export.adapters.objective import Objective
from trellic_export.adapters.pacing import paced
from trellic_export.adapters.pictures import Pictures
from trellic_export.coding import Coding
from trellic_export.distill.settings import Settings
from trellic_export.distill.students import Students
from trellic_export.torch_graph import TorchGraph
from trellic_training.losses.eye import Distortion
from trellic_training.optimizers.choice import make_optimizer
from trellic_training.optimizers.clipping import clip_gradients
from trellic_training.pixels import PIXEL_RANGE
from trellic_training.recipes.lmbda import lmbda_at

WARM_UP = 50  # steps
LEAST_ERROR = 0.02  # squared steps of latents; smaller errors hardly count


class Distiller:
    """Trains the networks of `Students`.

    Parameters
    ----------
    bundle : the large model
    students : what is trained
    settings : of the training

    Attributes
    ----------
    measure : which a slim model is judged by: a name of `trellic_training.losses.eye`, or "psnr"
    """

    def __init__(self, bundle: Bundle, students: Students, settings: Settings) -> None:
        self.students, self.settings = students, settings
        self._teacher = TorchGraph(bundle.graph(bundle.manifest.encoder))
        self._coding = Coding(bundle, settings.states)
        objective = Objective.of(bundle)
        self._lmbda, self.measure = objective.lmbda, objective.measure
        self._distortion = objective.distortion(settings.shares)
        self._plain = Distortion({"squared_error": 1.0})

    def train(self, pictures: Pictures) -> int:
        """Train for the time that the settings give; returns the number of steps."""
        settings, rng = self.settings, np.random.default_rng(self.settings.seed)
        torch.manual_seed(settings.seed)
        both = nn.ModuleList([self.students.encoder, self.students.decoder]).train()
        optimizer = make_optimizer(both, "soap", settings.learning_rate)
        steps = 0
        for share in paced(optimizer, settings, WARM_UP, "distilling"):
            optimizer.zero_grad()
            crops = pictures.crops(rng, settings.batch, settings.crop)
            level = self._coding.level(to_quality16(float(rng.uniform(*settings.qualities))))
            torch.autograd.backward(self.loss(crops, level, share < settings.imitating))
            clip_gradients(both.parameters(), settings.clip)
            optimizer.step()
            steps += 1
        both.eval()
        return steps

    def loss(self, crops: Tensor, level: Level, imitating: bool) -> Tensor:
        """Loss of a batch: of latents and decoded pictures, or of rate and decoded pictures.

        Parameters
        ----------
        crops : uint8 (N, side, side, 3)
        level : of the quality of all
        imitating : whether the decoder reads latents of the large encoder
        """
        students = self.students
        x = (crops.float() / PIXEL_RANGE - 0.5).permute(0, 3, 1, 2)
        quality = torch.full((len(crops),), level.quality)
        f = students.encoder(x, quality)
        if imitating:
            with torch.no_grad():
                target = self._teacher({"image": crops, "quality": quality})[0]
                coded = self._coding(target, level)
            gain = torch.from_numpy(level.gain_float[:, None, None])
            missed = ((f - target) * gain).square().mean((1, 2, 3))
            first = (missed + LEAST_ERROR).log()
        else:
            coded = self._coding(f, level)
            first = coded.bits / (x.shape[2] * x.shape[3])
        x_hat = students.decoder(coded.y_hat, quality)
        lmbda = lmbda_at(self._lmbda, quality)
        weight = lmbda**self.settings.weight_exponent
        distortion = (self._plain if imitating else self._distortion)(x_hat, x, quality, lmbda)
        total: Tensor = weight * distortion + (first if imitating else weight * first)
        return total.mean()
