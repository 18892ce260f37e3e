"""The learning curve: what is written while a model trains, over several runs."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from trellic_training.cli.train import shipped_recipe
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.recipes.codec import load_recipe
from trellic_training.stages import learning_curve, validation
from trellic_training.stages.end_to_end import train
from trellic_training.stages.learning_curve import LearningCurve
from trellic_training.stages.validation import QUALITIES, coded, validation_crops


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for i in range(60):
        small = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
        small.resize((288, 272)).save(folder / f"{i}.png")
    pack(folder, folder / "packed")
    return folder / "packed"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow("trains, stops and goes on")
def test_a_resumed_run_goes_on_in_the_same_file(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curve, "PHOTOS", 1)
    recipe = load_recipe(shipped_recipe(tmp_path / "tiny"))
    checkpoint = None
    for steps in (4, 6):
        curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 3)
        checkpoint = train(
            recipe, packed, tmp_path, 5, resume=checkpoint, steps=steps, progress=False,
            watchers=[curve],
        )  # fmt: skip
    written = rows(tmp_path / "curve.csv")
    assert [int(row["step"]) for row in written[:: len(QUALITIES)]] == [0, 3, 4, 6]
    assert float(written[0]["minutes"]) == 0
    minutes = [float(row["minutes"]) for row in written]
    assert minutes == sorted(minutes)
    assert [float(row["quality"]) for row in written[: len(QUALITIES)]] == list(QUALITIES)
    assert all(float(row["bpp"]) > 0 and float(row["psnr"]) > 0 for row in written)


@pytest.mark.slow("trains")
def test_a_first_point_is_written_after_a_minute(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_curve, "PHOTOS", 1)
    now = iter(np.arange(0.0, 1e4, 5.0))
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 1000)
    recipe = load_recipe(shipped_recipe(tmp_path / "tiny"))
    train(
        recipe, packed, tmp_path, 60, steps=12, progress=False, watchers=[curve],
        now=lambda: float(next(now)),
    )  # fmt: skip
    minutes = [float(row["minutes"]) for row in rows(tmp_path / "curve.csv")[:: len(QUALITIES)]]
    assert len(minutes) == 3
    assert 1 <= minutes[1] < 2 < minutes[2]


@pytest.mark.slow("trains")
def test_a_file_of_an_older_version_keeps_its_columns(packed, tmp_path, model):
    path = tmp_path / "curve.csv"
    path.write_text("step,minutes,quality,bpp,psnr\n5,1.00,5,0.3,26\n")
    crops = validation_crops(PackedPhotos(packed), 1)
    learning_curve.append_points(path, 6, "2.00", model.eval(), crops)
    written = rows(path)
    assert set(written[0]) == {"step", "minutes", "quality", "bpp", "psnr"}
    assert [row["step"] for row in written] == ["5"] + ["6"] * len(QUALITIES)
    assert all(len(line.split(",")) == 5 for line in path.read_text().splitlines())


@pytest.mark.slow("trains")
def test_no_photo_that_is_large_enough_means_no_file(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "SIDE", 1024)
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 3)
    recipe = load_recipe(shipped_recipe(tmp_path / "tiny"))
    train(recipe, packed, tmp_path, 5, steps=3, progress=False, watchers=[curve])
    assert not (tmp_path / "curve.csv").exists()


@pytest.mark.slow("every crop is coded")
def test_what_is_coded_is_the_mean_over_crops(packed):
    torch.manual_seed(1)
    config = ModelConfig.model_validate(
        {"wide": 16, "deep": 16, "encoder_blocks": (1, 1), "decoder_blocks": (1, 1), "hyper": 4}
    )
    model = PhotoModel(config).eval()
    crops = validation_crops(PackedPhotos(packed))
    assert crops.shape[1:] == (3, 256, 256)
    assert len(validation_crops(PackedPhotos(packed), 1)) == 1
    alone = [coded(model, crop[None], 40.0) for crop in crops]
    mean = {name: np.mean([found[name] for found in alone]) for name in alone[0]}
    assert coded(model, crops, 40.0) == pytest.approx(mean, rel=1e-5)
