"""The learning curve: what is written while a model trains, over several runs."""

from __future__ import annotations

import csv

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from trellic_training.cli.train import shipped_recipe
from trellic_training.data.photos import PackedPhotos, pack
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.recipes.codec import load_quantized_recipe, load_recipe
from trellic_training.stages import learning_curve, validation
from trellic_training.stages.end_to_end import train
from trellic_training.stages.learning_curve import LearningCurve
from trellic_training.stages.quantized import finetune
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


@pytest.mark.long
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


@pytest.mark.long
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


def test_the_gain_is_the_difference_between_the_last_points_and_the_first(packed, tmp_path):
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 3)
    lines = ["step,minutes,quality,bpp,psnr,ssimulacra2,ms_ssim,jod"]
    for step, score in ((0, 50.0), (3, 20.0), (6, 50.5)):
        lines += [f"{step},0,{q:g},1,30,{score + q},9,9" for q in QUALITIES]
    curve.path.write_text("\n".join(lines) + "\n")
    found = curve.gained()
    assert found.startswith(f"gain on the {len(curve.crops)} pictures that were set aside, mean")
    assert found.endswith(": SSIMULACRA 2 +0.50, PSNR +0.00 dB, the same bits")
    curve.path.write_text("\n".join(lines[: 1 + 2 * len(QUALITIES)]) + "\n")
    assert "SSIMULACRA 2 -30.00" in curve.gained()
    assert curve.gained().endswith("keep the one that training started from")


@pytest.mark.slow("trains on quantized latents")
def test_a_quantized_stage_is_measured_on_what_its_quantizer_emits(packed, tmp_path, model):
    """From the first point on: the tables are fitted before it."""
    recipe = load_quantized_recipe(shipped_recipe(tmp_path / "finetune-tiny"))
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 100)
    curve.crops = curve.crops[:1]
    stages = []

    class Keep(lightning.Callback):
        def on_train_end(self, trainer, stage):
            stages.append(stage)

    finetune(
        recipe, model.eval(), packed, tmp_path, 5, steps=1, progress=False,
        watchers=[curve, Keep()],
    )  # fmt: skip
    written, (stage,) = rows(tmp_path / "curve.csv"), stages
    assert [int(row["step"]) for row in written[:: len(QUALITIES)]] == [0, 1]
    really = stage.coded(stage.average, curve.crops, 40.0)
    plainly = coded(stage.average, curve.crops, 40.0)
    row = written[-4]
    assert float(row["quality"]) == 40
    assert float(row["psnr"]) == pytest.approx(really["psnr"], abs=1e-4)
    assert abs(really["psnr"] - plainly["psnr"]) > 1e-3


@pytest.mark.slow("trains")
def test_no_photo_that_is_large_enough_means_no_file(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "SIDE", 1024)
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 3)
    recipe = load_recipe(shipped_recipe(tmp_path / "tiny"))
    train(recipe, packed, tmp_path, 5, steps=3, progress=False, watchers=[curve])
    assert not (tmp_path / "curve.csv").exists()
    assert curve.gained().startswith("no picture was set aside")


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
