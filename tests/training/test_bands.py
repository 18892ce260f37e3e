"""Training on pictures of other bands than red, green and blue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trellic.errors import BadParameter
from trellic_training.data.packing import listing
from trellic_training.data.photos import DeviceCrops, PackedPhotos, pack
from trellic_training.losses.eye import measures
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.weights import load_weights
from trellic_training.recipes.codec import Phase, Recipe
from trellic_training.recipes.distortion import Mixture
from trellic_training.stages.end_to_end import train
from trellic_training.stages.keeping import WeightsFile
from trellic_training.stages.validation import coded

from .conftest import smooth


def bands_of(seed: int, bands: int, side: int = 192) -> np.ndarray:
    return np.concatenate([smooth(seed + i, side, side) for i in range(3)], 2)[..., :bands]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "four"
    made.mkdir()
    for i in range(4):
        np.save(made / f"wave-{i}.npy", bands_of(10 * i, 4))
    return made


@pytest.fixture
def four(folder, tmp_path):
    assert pack(folder, tmp_path / "packed", bands=4) == 4
    return PackedPhotos(tmp_path / "packed")


@pytest.fixture
def recipe(tiny_recipe) -> Recipe:
    model = ModelConfig.model_validate({**tiny_recipe.model.model_dump(), "bands": 4})
    phases = (Phase(until=1.0, crop=64, batch=2),)
    changed = {"model": model, "phases": phases, "warmup_steps": 1, "ema": 0.0, "autocast": False}
    return tiny_recipe.model_copy(update=changed)


def test_packed_pictures_are_those_of_the_files(four, folder):
    for photo in four.training + four.validation:
        np.testing.assert_array_equal(four.photo(photo), np.load(folder / photo.name))
    assert four.bands == 4
    assert four.crops(np.random.default_rng(0), 3, 32).shape == (3, 32, 32, 4)
    cut = DeviceCrops(four, torch.device("cpu"), 1).crops(2, 192)
    whole = {np.load(path).astype(int).sum() for path in folder.glob("*.npy")}
    assert {int(crop.long().sum()) for crop in cut} <= whole


def test_pictures_of_other_bands_are_one_error(folder, tmp_path):
    np.save(folder / "wrong.npy", bands_of(1, 3))
    with pytest.raises(BadParameter, match=r"wrong\.npy: .*\(192, 192, 3\)"):
        pack(folder, tmp_path / "out", bands=4)
    np.save(folder / "wrong.npy", bands_of(1, 4).astype(np.uint16))
    with pytest.raises(BadParameter, match=r"wrong\.npy: samples of 16 bits"):
        pack(folder, tmp_path / "out", bands=4)


def test_a_folder_without_bands_is_told_what_lacks(tmp_path):
    with pytest.raises(BadParameter, match="no NumPy file of 4 bands of at least 192 px a side"):
        pack(tmp_path, tmp_path / "out", bands=4)


def test_other_files_are_left_alone(folder, tmp_path):
    before = listing(folder, 4)
    assert before["files"] == 4
    (folder / "notes.txt").write_text("no picture")
    assert listing(folder, 4) == before
    assert pack(folder, tmp_path / "out", bands=4) == 4


def test_a_run_learns_and_its_photos_have_to_fit(recipe, four, packed, tmp_path):
    kept = WeightsFile(tmp_path / "weights.pt", dict)
    out = tmp_path / "run"
    train(recipe, tmp_path / "packed", out, 5, steps=2, progress=False, watchers=[kept])
    model = load_weights(tmp_path / "weights.pt")[0].eval()
    assert model.config.bands == model.config.layout().bands == 4
    x = torch.rand(1, 4, 128, 64) - 0.5
    assert model(x, torch.tensor([50.0])).x_hat.shape == x.shape
    assert set(coded(model, x, 50.0)) == {"bpp", "psnr"}
    with pytest.raises(BadParameter, match=r"packed photos of 3 bands.*4, which the model has"):
        train(recipe, packed, out, 5, steps=2, progress=False)


def test_every_band_counts_and_starts_from_components(recipe, four, tmp_path):
    model = PhotoModel(recipe.model)
    assert model.g_a[1].in_channels == 4 * 64
    assert model.g_s[-2].out_channels == 4 * 64
    x = torch.zeros(1, 4, 64, 64)
    for band in range(4):
        other = x.clone()
        other[:, band] += 0.25
        worse = measures(other, x)
        assert set(worse) == {"psnr"}
        assert worse["psnr"].item() == pytest.approx(-10 * np.log10(0.25**2 / 4), abs=1e-4)


@pytest.mark.parametrize(
    "changed",
    [{"cutouts": 0.1}, {"distortion": Mixture(squared_error=0.5, ms_ssim=0.5)}],
    ids=["cutouts", "distortion"],
)
def test_measures_of_colours_are_refused(recipe, changed):
    fields = recipe.model_dump(mode="json") | {"phases": [Phase(until=1.0, crop=256, batch=2)]}
    with pytest.raises((BadParameter, ValidationError), match=r"in colour|squared error"):
        Recipe.model_validate(fields | changed)


def test_couplings_are_of_colours(recipe):
    fields = {**recipe.model.model_dump(), "coupling": 1, "wide": 192}
    with pytest.raises(ValidationError, match="couplings are of pictures in colour"):
        ModelConfig.model_validate(fields)
    with pytest.raises(ValidationError, match="Input should be 3, 4 or 8"):
        ModelConfig.model_validate({**fields, "coupling": 0, "bands": 5})
