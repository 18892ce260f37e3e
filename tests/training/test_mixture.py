"""Recipes with a mixture: all stages train by it, and resumed runs keep their curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trellic.errors import BadParameter
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.losses.reference import ReferenceCurve, read_reference
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import save_weights
from trellic_training.pixels import PIXEL_RANGE, to_network
from trellic_training.recipes.codec import (
    Phase,
    QuantizedPhase,
    Recipe,
    load_quantized_recipe,
    load_recipe,
)
from trellic_training.recipes.decoder import load_decoder_recipe
from trellic_training.recipes.distortion import Mixture
from trellic_training.stages import end_to_end
from trellic_training.stages.decoder import DecoderStage
from trellic_training.stages.end_to_end import CropStream, EndToEnd, train
from trellic_training.stages.quantized import QuantizedStage, finetune
from trellic_training.stages.reference import measured_reference
from trellic_training.stages.samples import Samples
from trellic_training.stages.stage import Clock
from trellic_training.stages.validation import validation_crops

from .conftest import RECIPES, smooth

EYE = Mixture(squared_error=0.4, ssimulacra2=0.2, ms_ssim=0.2, jod=0.2, flat=0.1, reference="photo")
CROPS = {"phases": (Phase(until=1.0, crop=192, batch=2),), "distortion": EYE, "cutouts": 0.5}


@pytest.fixture
def eye(tiny_recipe) -> Recipe:
    return tiny_recipe.model_copy(update={**CROPS, "warmup_steps": 2})


def silent(stage):
    stage.log = lambda *args, **kwargs: None
    return stage


def test_the_default_loss_is_bits_and_squared_error(tiny_recipe, packed):
    module = silent(EndToEnd(tiny_recipe, Clock(1)))
    crops = PackedPhotos(packed).crops(np.random.default_rng(5), 2, 64)
    torch.manual_seed(6)
    loss = module.training_step(crops, 0)
    torch.manual_seed(6)
    x = to_network(crops)
    quality = end_to_end.sample_quality(2, x.device)
    output = module.model(x, quality, autocast=True)
    mse = (output.x_hat - x).square().mean((1, 2, 3))
    lmbda, weight = module.weights_of_quality(quality)
    bpp = (output.y_bits + output.z_bits) / 64**2
    assert torch.equal(loss, (weight * (bpp + lmbda * PIXEL_RANGE**2 * mse)).mean())


@pytest.mark.slow("a model and its measures for each term")
@pytest.mark.parametrize("left_out", ["squared_error", "ssimulacra2", "ms_ssim", "jod", "flat"])
def test_each_term_of_the_recipe_reaches_the_loss(eye, packed, left_out):
    """Without a term the loss of the same crops is another."""
    losses = []
    for mixture in (EYE, EYE.model_copy(update={left_out: 0.0})):
        module = silent(EndToEnd(eye.model_copy(update={"distortion": mixture}), Clock(1)))
        module.distortion.follow(reference())
        torch.manual_seed(7)
        module.model.load_state_dict(PhotoModel(eye.model).state_dict())
        crops = PackedPhotos(packed).crops(np.random.default_rng(5), 2, 192)
        crops[:, :96] = 255
        torch.manual_seed(6)
        losses.append(module.training_step(crops, 0).item())
    assert abs(losses[0] - losses[1]) > 1e-3


def reference() -> ReferenceCurve:
    return read_reference(Path("photo"))


@pytest.mark.slow("trains by all measures")
def test_end_to_end_trains_by_it_and_keeps_its_curve(eye, packed, tmp_path):
    checkpoint = train(eye, packed, tmp_path, 10, steps=2, progress=False)
    kept = (tmp_path / "reference.csv").read_text()
    assert kept.splitlines()[0] == "lmbda,bpp,psnr,ssimulacra2,ms_ssim,jod"
    (tmp_path / "reference.csv").write_text(kept.replace("8.1167799", "8.0"))
    unnamed = eye.model_copy(update={"distortion": EYE.model_copy(update={"reference": None})})
    more = tmp_path / "more"
    train(unnamed, packed, more, 10, resume=checkpoint, steps=3, progress=False)
    assert ",8\n" in (more / "reference.csv").read_text()


def test_a_curve_that_nobody_names_needs_trained_weights(eye, packed, tmp_path, model):
    unnamed = eye.model_copy(update={"distortion": EYE.model_copy(update={"reference": None})})
    with pytest.raises(BadParameter, match="no trained weights with their recipe to measure"):
        train(unnamed, packed, tmp_path, 10, steps=2, progress=False)
    save_weights(model, {"recipe": eye.model_dump(mode="json")}, tmp_path / "weights.pt")
    with pytest.raises(BadParameter, match="no photo to validate on to measure"):
        train(
            unnamed, packed, tmp_path, 10, resume=tmp_path / "weights.pt", steps=2, progress=False
        )


@pytest.mark.slow("a curve is measured")
def test_a_measured_curve_has_the_means_of_validation_crops(model, tmp_path):
    for i in range(30):
        Image.fromarray(smooth(i, 256, 256)).save(tmp_path / f"{i}.png")
    pack(tmp_path, tmp_path / "packed")
    crops = validation_crops(PackedPhotos(tmp_path / "packed"))
    curve = measured_reference(model, (0.001, 0.1), crops)
    assert [point[0] for point in curve.points] == sorted(point[0] for point in curve.points)
    assert curve.points[0][0] == pytest.approx(0.001 * 100 ** (4 / 99))
    assert not model.training
    with pytest.raises(BadParameter, match="does not rise with lmbda"):  # it is not trained
        [curve.slopes(name) for name in ("ssimulacra2", "ms_ssim", "jod")]


@pytest.mark.slow("the second stage runs")
def test_the_quantized_stage_trains_by_it(model, packed, tmp_path):
    recipe = load_quantized_recipe(RECIPES / "finetune-tiny.yaml").model_copy(
        update={
            "distortion": EYE,
            "cutouts": 1.0,
            "pool": 4,
            "phases": (QuantizedPhase(until=1.0, crop=192, batch=2, train="g_s", reuse=2),),
        }
    )
    finetune(recipe, model, packed, tmp_path, 10, steps=2, progress=False)
    assert (tmp_path / "reference.csv").is_file()
    # and its crops are cut out
    stage = QuantizedStage(recipe, Clock(1), model, PackedPhotos(packed))
    pure = [(crop == 255) | (crop == 0) for crop in stage._fresh(6, 192)]
    assert sum(bool(each.all(2).float().mean() > 0.05) for each in pure) >= 4


@pytest.mark.slow("the second stage runs")
@pytest.mark.parametrize("part", ["g_s", "g_s+entropy"])
def test_the_quantized_stage_minimises_the_distortion(part, model, packed):
    """Its loss rises by what the distortion rises, weighed by the quality alone."""
    recipe = load_quantized_recipe(RECIPES / "finetune-tiny.yaml").model_copy(
        update={
            "identity": 0.0,
            "phases": (QuantizedPhase(until=1.0, crop=64, batch=2, train=part),),
        }
    )
    losses, validated = [], []
    for more in (0.0, 5.0):
        stage = silent(QuantizedStage(recipe, Clock(1), model, PackedPhotos(packed)))
        stage.distortion = Plus(more)
        torch.manual_seed(3)
        crops = PackedPhotos(packed).crops(np.random.default_rng(1), 2, 64)
        losses.append(stage.training_step(crops, 0).item())
        validated.append(stage.validate_on(model)[0])
    assert 0.1 < (losses[1] - losses[0]) / 5 < 20
    assert 0.1 < (validated[1] - validated[0]) / 5 < 20


class Plus(torch.nn.Module):
    """A distortion that is the same for every picture."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x_hat, x, quality, lmbda):
        assert x_hat.shape == x.shape
        return self.value + 0 * x_hat.mean((1, 2, 3))


def pure(crops: torch.Tensor) -> int:
    """How many crops have a pure background."""
    share = ((crops == 255) | (crops == 0)).all(3).float().mean((1, 2))
    return int((share > 0.05).sum())


def test_the_crops_of_a_recipe_with_cutouts_are_cut_out(tiny_recipe, packed):
    for share, expected in ((0.0, 0), (1.0, 12)):
        recipe = tiny_recipe.model_copy(
            update={"cutouts": share, "phases": (Phase(until=1.0, crop=64, batch=16),)}
        )
        torch.manual_seed(1)
        stream = CropStream(
            PackedPhotos(packed), recipe, Clock(1), lambda: [1], torch.device("cpu")
        )
        assert pure(next(iter(stream))) >= expected
        assert bool(share) or pure(next(iter(stream))) == 0


def test_samples_of_a_decoder_with_cutouts_are_cut_out(packed):
    for share in (0.0, 1.0):
        recipe = load_decoder_recipe(RECIPES / "decoders-eye.yaml", "fast").model_copy(
            update={"cutouts": share}
        )
        samples = Samples.__new__(Samples)
        samples.pack, samples.recipe = PackedPhotos(packed), recipe
        samples.of = lambda x, quality, kinds: {"x": x}
        torch.manual_seed(1)
        found = pure(samples(np.random.default_rng(1), 16, 64)["x"])
        assert found >= 12 if share else found == 0


def test_decoders_train_by_it():
    recipe = load_decoder_recipe(RECIPES / "decoders-eye.yaml", "fast")
    network = torch.nn.Identity()
    stage = silent(DecoderStage(recipe, Clock(1), network))
    stage.distortion.follow(reference())
    x = torch.from_numpy(np.stack([smooth(1), smooth(2)]))
    made = (x.float() * 0.9).to(torch.uint8)
    stage.decode = lambda batch: to_network(made)
    batch = {"x": x, "teacher": made, "quality": torch.tensor([30.0, 70.0])}
    lost = stage.lost(batch)
    lmbda, weight = stage.weights_of_quality(batch["quality"])
    terms = [
        stage.distortion(to_network(made), to_network(target), batch["quality"], lmbda)
        for target in (x, made)
    ]
    expected = (weight * (terms[0] + recipe.distill * terms[1])).mean()
    torch.testing.assert_close(lost, expected)


# ---- recipes ----


@pytest.mark.parametrize(
    "recipe",
    [
        load_recipe(RECIPES / "photo-eye.yaml"),
        load_quantized_recipe(RECIPES / "finetune-eye.yaml"),
        load_decoder_recipe(RECIPES / "decoders-eye.yaml", "fast"),
        load_decoder_recipe(RECIPES / "decoders-eye.yaml", "preview"),
        load_decoder_recipe(RECIPES / "decoders-eye.yaml", "half"),
    ],
    ids=["photo-eye", "finetune-eye", "fast", "preview", "half"],
)
def test_shipped_recipes_for_the_eye_name_a_shipped_curve(recipe):
    assert recipe.distortion.needs_reference
    assert str(recipe.distortion.reference) == "photo"
    assert recipe.distortion.flat > 0
    assert recipe.cutouts > 0


def test_shares_sum_to_1():
    with pytest.raises(ValueError, match=r"sum to 1\.5, not to 1"):
        Mixture(jod=0.5)
    assert not Mixture().needs_reference


@pytest.mark.parametrize("name", ["decoders-tiny", "decoders-cifar"])
def test_a_decoder_with_losses_of_its_own_has_no_mixture(name):
    decoder = "class" if name == "decoders-cifar" else "perceptual"
    recipe = load_decoder_recipe(RECIPES / f"{name}.yaml", decoder)
    with pytest.raises(ValueError, match="has no distortion"):
        type(recipe).model_validate(
            {**recipe.model_dump(), "distortion": {"squared_error": 0.5, "jod": 0.5}}
        )


def test_crops_too_small_for_a_measure_are_refused(tiny_recipe):
    fields = tiny_recipe.model_dump() | {"distortion": EYE.model_dump()}
    with pytest.raises(ValueError, match="ms_ssim of pictures of 128 pixels a side; expected 161"):
        Recipe.model_validate(fields)
