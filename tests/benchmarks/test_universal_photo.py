"""What re-using the encoder of `photo` costs: what is trained, at which bits, what a table says."""

import json

import numpy as np
import pytest
import torch
from benchmarks.universal_colour import measure
from benchmarks.universal_colour.plan import Run
from benchmarks.universal_photo import MIXTURE, PERCEPTION, RATES, RUNS, Work, recipe_of
from torch import nn

from benchmarks import reuse, universal_photo, universal_tables
from trellic_training.models.photo import Output, PhotoModel
from trellic_training.models.weights import save_weights


def test_each_encoder_is_trained_before_its_decoders():
    assert len(set(RUNS)) == len(RUNS)
    for i, run in enumerate(RUNS):
        assert run.encoder is None or Run(run.encoder) in RUNS[:i]
    assert {(run.target, run.encoder) for run in RUNS} >= {
        (PERCEPTION, MIXTURE),
        (MIXTURE, PERCEPTION),
    }


def test_recipes_differ_in_perception_alone():
    plain, seen = (recipe_of(target, 0.3, 100) for target in (MIXTURE, PERCEPTION))
    assert plain.perception is None
    assert seen.perception is not None
    assert seen.perception.lambda_p == 0.3
    same = {"name", "perception"}
    assert plain.model_dump(exclude=same) == seen.model_dump(exclude=same)
    assert plain.distortion.needs_reference  # the mixture that photo was trained by


def test_what_is_trained_starts_where_it_should(tmp_path, monkeypatch):
    made = []

    def fake(self, recipe, start, stage, out):
        made.append((recipe.name, start.name, stage))
        return PhotoModel(recipe.model), self.steps

    monkeypatch.setattr(Work, "_end_to_end", fake)
    first = tmp_path / "first.pt"
    save_weights(PhotoModel(recipe_of(MIXTURE, 0.3, 1).model), {"recipe": {}}, first)
    work = Work(tmp_path, tmp_path, first, 2, 0.3)
    path = work.model(Run(PERCEPTION, MIXTURE))
    assert made == [
        (MIXTURE, "first.pt", reuse.EndToEnd),
        (PERCEPTION, "mixture.pt", reuse.ReusedEncoder),
    ]
    assert work.model(Run(PERCEPTION, MIXTURE)) == path
    assert len(made) == 2
    Work(tmp_path, tmp_path, first, 2, 0.5).model(Run(PERCEPTION, MIXTURE))
    assert [name for name, *_ in made[2:]] == [PERCEPTION]  # the mixture's encoder stays


# ---- what is measured ----


class Fake(nn.Module):
    """A model that spends a hundredth of the quality in bits per pixel, and adds noise."""

    def forward(self, x, quality):
        pixels = x.shape[2] * x.shape[3]
        bits = quality / 100 * pixels
        noise = 0.1 * torch.sin(torch.arange(x.numel(), dtype=torch.float32)).reshape(x.shape)
        return Output(
            x + noise * (1 - quality[:, None, None, None] / 100), x, 0.9 * bits, 0.1 * bits
        )


def test_all_models_spend_equal_bits(monkeypatch):
    monkeypatch.setattr(universal_photo, "METRICS", ("psnr", "sliced_wasserstein"))
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(2)]
    rows = universal_photo.rows_of(Fake(), pictures)
    assert [row["rate"] for row in rows] == list(RATES)
    for row in rows:
        assert row["bpp"] == pytest.approx(row["rate"], abs=0.01)
        assert [len(row[name]) for name in universal_photo.METRICS] == [2, 2]
    assert rows[0]["psnr"] < rows[1]["psnr"] < rows[2]["psnr"]


@pytest.mark.parametrize("rate", [0.001, 3.0])
def test_bits_that_no_quality_spends_are_an_error(rate):
    with pytest.raises(ValueError, match="the model spends"):
        measure.qualities_at([rate], universal_photo.GRID, lambda quality: quality / 100)


# ---- what is drawn ----


def row(target, encoder, psnr, patches, rate=0.4):
    shared = {"rate": rate, "bpp": rate, "ssimulacra2": [60.0] * 3, "flip": [0.1] * 3}
    measured = {"psnr": psnr, "sliced_wasserstein": patches}
    return {"target": target, "encoder": encoder, **shared, **measured}


def test_a_table_says_what_re_use_costs():
    alone = row(PERCEPTION, None, [30.0, 31.0, 32.0], [10.0, 20.0, 30.0])
    again = row(PERCEPTION, MIXTURE, [29.0, 30.0, 31.0], [11.0, 22.0, 33.0])
    drawn = universal_photo.markdown({"models": [again, alone]}).splitlines()
    assert len(drawn) == 4
    assert drawn[2].endswith("| +25.9 % (+25.9 to +25.9) | +10.0 % (+10.0 to +10.0) |")  # 1 dB
    assert "the same, end to end | perception | 31.00" in drawn[3]
    assert drawn[3].endswith("|  |  |")


def test_the_page_has_the_record(tmp_path):
    record = {
        "machine": {"date": "2026-01-02T", "commit": "abc", "processor": "P"},
        "steps": 1000,
        "lambda_p": 0.3,
        "images": [{}] * 3,
        "models": [row(MIXTURE, None, [30.0] * 3, [10.0] * 3)],
    }
    (tmp_path / "universal-photo.json").write_text(json.dumps(record), encoding="utf-8")
    told = universal_tables.photo(tmp_path)
    assert "3 photos; 1,000 steps of each model, lambda_p 0.3." in told
    assert "2026-01-02 from commit abc, P" in told
