"""First stage: end-to-end training of rate and distortion, all qualities at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from trellic_training.data.cutouts import cut_out
from trellic_training.data.files import reading
from trellic_training.data.photos import DeviceCrops, PackedPhotos
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.grow import grown
from trellic_training.models.photo import Output, PhotoModel
from trellic_training.models.stretch import stretched
from trellic_training.models.weights import load_weights
from trellic_training.pixels import to_network
from trellic_training.recipes.codec import QuantizedRecipe, Recipe
from trellic_training.recipes.lmbda import same_lmbda
from trellic_training.stages.reference import measured_reference, reference_of
from trellic_training.stages.stage import Clock, Stage
from trellic_training.stages.terms import ClassificationTerm, LearningCritic
from trellic_training.stages.trainer import make_trainer, run
from trellic_training.stages.validation import PHOTOS, validation_crops

START_CROPS, START_SIZE = 400, 128  # at most: what the principal components are taken from
Crops = Tensor | tuple[Tensor, Tensor]


class CropStream(IterableDataset[Crops]):
    """Endless batches of random crops, uint8 (batch, size, size, 3), as the clock's phase asks.

    With ``labelled``, the crops are pictures of a labelled set, shifted and flipped, and their
    labels (batch,) come with them.
    ``seed`` is called when the first batch is wanted. A resumed run knows its step by then, and so
    sees other crops than the run that it continues. With a GPU as ``device`` the photos move there.
    """

    def __init__(
        self,
        photos: PackedPhotos,
        recipe: Recipe | QuantizedRecipe,
        clock: Clock,
        seed: Callable[[], list[int]],
        device: torch.device,
        *,
        labelled: bool = False,
    ) -> None:
        self.photos, self.recipe, self.clock, self.seed = photos, recipe, clock, seed
        self.device, self.labelled = device, labelled

    def __iter__(self) -> Iterator[Crops]:
        rng = np.random.default_rng(self.seed())
        yield from self._with_labels(rng) if self.labelled else self._crops(rng)

    def _with_labels(self, rng: np.random.Generator) -> Iterator[Crops]:
        while True:
            phase = self.recipe.phase_at(self.clock.share())
            x, label = self.photos.labelled(rng, phase.batch, phase.crop)
            yield cut_out(x, self.recipe.cutouts), label

    def _crops(self, rng: np.random.Generator) -> Iterator[Crops]:
        if self.device.type == "cpu":
            crops: Callable[[int, int], Tensor] = partial(self.photos.crops, rng)
        else:
            crops = DeviceCrops(self.photos, self.device, int(rng.integers(2**62))).crops
        while True:
            phase = self.recipe.phase_at(self.clock.share())
            yield cut_out(crops(phase.batch, phase.crop), self.recipe.cutouts)


class EndToEnd(Stage[Recipe, PhotoModel]):
    """Minimise bits per pixel plus the recipe's distortion and terms, at random qualities."""

    def __init__(self, recipe: Recipe, clock: Clock) -> None:
        model = PhotoModel(recipe.model)
        model.proxy = recipe.proxy
        super().__init__(recipe, clock, model)
        named, seen = recipe.classification, recipe.perception
        self.classification = None if named is None else ClassificationTerm(named)
        self.critic = None if seen is None else LearningCritic(seen, 1, recipe.autocast)

    def started(self) -> None:
        """Do nothing: variants of a model change their initial weights here."""

    def training_step(self, batch: Crops, batch_index: int) -> Tensor:
        """Weighted rate-distortion loss of one batch of uint8 crops; the critic takes a step."""
        crops, label = (batch, None) if isinstance(batch, Tensor) else batch
        x = to_network(crops)
        quality = sample_quality(len(x), x.device)
        output = self.model(x, quality, autocast=self.recipe.autocast)
        pixels = x.shape[2] * x.shape[3]
        bpp = (output.y_bits + output.z_bits) / pixels
        lmbda, weight = self.weights_of_quality(quality)
        distortion = self.distortion(output.x_hat, x, quality, lmbda)
        lost = bpp + distortion + self._perceived(output.x_hat, x) + self.beside(output, quality)
        if self.classification is not None and label is not None:
            lost = lost + self.classification(output.x_hat, label, self.show)
        loss: Tensor = (weight * lost).mean()
        self.show("loss", loss)
        self.show("bpp", bpp.mean())
        self.show("psnr", decibels(squared_error(output.x_hat.detach(), x)))
        self.log("z_share", output.z_bits.sum() / (output.y_bits + output.z_bits).sum())
        return loss

    def beside(self, output: Output, quality: Tensor) -> Tensor:
        """Return what variants add to the loss of each picture: (N,)."""
        return torch.zeros_like(output.y_bits)

    def _perceived(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Weighted disbelief of the critic in each picture (N,); the critic learns before."""
        settings = self.recipe.perception
        if self.critic is None or settings is None or not settings.lambda_p:
            return x_hat.new_zeros(len(x_hat))
        self.show("critic_apart", self.critic.learn(x, x_hat))
        if self.clock.share() < settings.from_share:
            return x_hat.new_zeros(len(x_hat))
        return -settings.lambda_p * self.critic.belief(x_hat)


def sample_quality(count: int, device: torch.device) -> Tensor:
    """Random qualities: half from all of [1, 100], half from the middle, which is used most."""
    u = torch.rand(count, device=device)
    wide = torch.rand(count, device=device) < 0.5
    return torch.where(wide, 1 + 99 * u, 15 + 70 * u)


def _start(module: EndToEnd, pack: PackedPhotos, out: Path, resume: Path | None) -> Path | None:
    """Set the weights to start from, and the curve that the distortion follows.

    Returns the checkpoint that Lightning is to restore.
    """
    weights = resume if resume is not None and resume.suffix == ".pt" else None
    trained, facts = (None, {}) if weights is None else load_weights(weights)
    mixture = module.recipe.distortion
    if mixture.needs_reference:
        lmbda = facts.get("recipe", {}).get("lmbda")
        crops = validation_crops(pack, PHOTOS)
        measured = partial(measured_reference, trained, lmbda, crops)
        module.distortion.follow(reference_of(mixture, out, resume, measured))
    if resume is not None and weights is None:
        return resume
    if facts.get("recipe") == module.recipe.model_dump(mode="json"):  # an unfinished run of it
        module.clock.go_on(facts.get("share", 0.0), facts.get("minutes", 0.0))
    model = module.model
    before = tuple(facts.get("recipe", {}).get("lmbda", module.recipe.lmbda))
    if trained is not None and before != module.recipe.lmbda:
        trained = stretched(trained, partial(same_lmbda, module.recipe.lmbda, before))
    if trained is None or trained.config != model.config:
        rng = np.random.default_rng(module.recipe.seed)
        size = min(START_SIZE, max(phase.crop for phase in module.recipe.phases))
        crops = to_network(pack.crops(rng, START_CROPS, size))
        with reading(weights, "cannot be resumed from") if weights else nullcontext():
            trained = grown(model.config, trained, crops)
    model.load_state_dict(trained.state_dict())
    module.ema.module.load_state_dict(module.model.state_dict())
    return None


def train(
    recipe: Recipe,
    photos: Path,
    out: Path,
    minutes: float,
    *,
    resume: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
    stage: Callable[[Recipe, Clock], EndToEnd] = EndToEnd,
    now: Callable[[], float] = time.monotonic,
    watchers: Sequence[lightning.Callback] = (),
) -> Path:
    """Train for a time, from scratch or from a checkpoint; returns the newest checkpoint.

    Parameters
    ----------
    photos : folder made by `trellic_training.data.photos.pack`
    out : folder for checkpoints and TensorBoard logs
    minutes : time budget; learning rate and crop sizes follow it
    steps : stop at this step, counted from the first run on, if the time is not up before
    resume : checkpoint of an earlier run (``.ckpt``: optimizer state and step count go on), or
        weights alone (``.pt``: the optimizer warms up anew). The schedule continues that of an
        unfinished run of this recipe
    stage : what is trained and how, for variants
    now : the clock that counts the minutes, in seconds
    watchers : additional callbacks

    Raises
    ------
    BadParameter
        When photos, or what to resume from, are missing or wrong, or the photos have other bands.
    Interrupted
        When a signal stopped the run, which is saved then.
    """
    lightning.seed_everything(recipe.seed, verbose=False)
    clock = Clock(minutes, now)
    module = stage(recipe, clock)
    pack = PackedPhotos(photos)
    pack.check_bands(recipe.model.bands)
    if module.classification is not None:
        module.classification.check(pack, (phase.crop for phase in recipe.phases))
    checkpoint = _start(module, pack, out, resume)
    module.started()
    module.to(memory_format=torch.channels_last)
    trainer = make_trainer(out, steps=steps, progress=progress, watchers=watchers)
    device = trainer.strategy.root_device
    stream = CropStream(
        pack,
        recipe,
        clock,
        lambda: [recipe.seed, module.global_step],
        device,
        labelled=module.classification is not None,
    )
    loader = DataLoader(stream, batch_size=None)
    return run(trainer, module, loader, out, checkpoint)
