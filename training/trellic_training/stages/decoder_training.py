"""From a bundle, photos and a recipe to a trained decoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from trellic.model.bundle import Bundle
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.transforms import Chain
from trellic_training.recipes.codec import check_crops
from trellic_training.recipes.decoder import DecoderRecipe
from trellic_training.stages.decoder import DecoderStage, LabelStage
from trellic_training.stages.perceptual import PerceptualStage
from trellic_training.stages.reference import measured_reference, reference_of
from trellic_training.stages.samples import BundleQuantizer, LabelledSamples, Samples, SampleStream
from trellic_training.stages.stage import Clock
from trellic_training.stages.trainer import make_trainer, run


def train_decoder(
    recipe: DecoderRecipe,
    decoder: Chain,
    bundle: Bundle,
    photos: Path,
    out: Path,
    minutes: float,
    *,
    resume: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
    now: Callable[[], float] = time.monotonic,
    watchers: Sequence[lightning.Callback] = (),
) -> tuple[Chain, int]:
    """Train a decoder for a time; returns its averaged weights and the number of steps.

    With ``stay``, the final weights move back towards the start by that share (Wortsman et al.,
    "Robust fine-tuning of zero-shot models", CVPR 2022). That removes more of the steps' noise than
    of what was learned.

    Parameters
    ----------
    decoder : to start from
    bundle : whose latents it is to decode
    photos : folder made by `trellic_training.data.photos.pack`
    out : folder for checkpoints and TensorBoard logs
    minutes : time budget; learning rate and phases follow it
    resume : checkpoint (``.ckpt``) of an earlier run
    steps : stop at this step, if the time is not up before
    now : the clock that counts the minutes, in seconds
    watchers : additional callbacks

    Raises
    ------
    BadParameter
        When crops do not fit the model's strides, or the photos of a decoder of labels are not a
        labelled set of one size, or not of the labels of the recipe's classifier, or the recipe's
        distortion names no reference curve.
    """
    plane, pack = bundle.manifest.layout.plane(1, 1), PackedPhotos(photos)
    check_crops(recipe.phases, plane.hyper_stride)
    if recipe.labels:
        pack.check_labelled(plane.hyper_stride)
    lightning.seed_everything(recipe.seed, verbose=False)
    clock = Clock(minutes, now)
    quantizer = BundleQuantizer(bundle, torch.get_num_threads())
    source = LabelledSamples if recipe.labels else Samples
    samples = source(quantizer, pack, recipe)
    start = {name: value.clone() for name, value in decoder.state_dict().items()}
    model = decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = stage_of(recipe)(recipe, clock, model)
    if stage.classification is not None:
        stage.classification.check(pack, (phase.crop for phase in recipe.phases))
    if recipe.distortion.needs_reference:
        measured = partial(measured_reference, None, None, torch.empty(0))
        stage.distortion.follow(reference_of(recipe.distortion, out, resume, measured))
    stage.validation = samples.validation(recipe.phases[-1].crop)
    stream = SampleStream(samples, clock, lambda: stage.global_step, progress=progress)
    trainer = make_trainer(
        out, steps=steps, progress=progress, accelerator="cpu", watchers=watchers
    )
    run(trainer, stage, DataLoader(stream, batch_size=None), out, resume)
    draw_back(stage.average, start, recipe.stay)
    return stage.average.eval(), stage.global_step


@torch.no_grad()
def draw_back(model: nn.Module, start: dict[str, Tensor], share: float) -> None:
    """Move a model's weights by a share of the way back to where they started."""
    for name, value in model.state_dict().items():
        value.lerp_(start[name], share)


def stage_of(recipe: DecoderRecipe) -> type[DecoderStage]:
    """Return the kind of stage that a recipe asks for."""
    if recipe.labels:
        return LabelStage
    return PerceptualStage if recipe.adversary else DecoderStage
