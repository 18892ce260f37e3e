"""The ablation: every row makes a recipe, and a variant trains and is measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.ablation import __main__ as ablation
from benchmarks.ablation import report, variants
from benchmarks.ablation.report import BASE
from benchmarks.ablation.rows import ROWS, Row
from PIL import Image
from torch import nn

from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.weights import save_weights
from trellic_training.recipes.codec import Recipe
from trellic_training.stages.stage import Clock

SMALL = {
    "wide": 16,
    "deep": 16,
    "encoder_blocks": (1, 1),
    "decoder_blocks": (1, 1),
    "groups": [{"channels": 8, "steps": (0, 1)}],
    "hyper": 4,
    "hyper_hidden": 8,
    "features": 16,
    "context_hidden": 8,
    "details": 0,
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_makes_a_recipe_and_a_model(row: Row) -> None:
    recipe = ablation.of_row(row)
    model = PhotoModel(recipe.model)
    usual = PhotoModel(ablation.of_row(ROWS[0]).model)
    assert row.name == BASE or row.stage is not ROWS[0].stage or recipe != ablation.of_row(ROWS[0])
    mine, its = (sum(p.numel() for p in m.g_s.parameters()) for m in (model, usual))
    assert row.larger is (mine > its)


def test_every_row_makes_a_small_recipe_too() -> None:
    for row in ROWS:
        if callable(row.model) or not row.model:
            model = ablation.of_row(row, small=True).model
            assert model.stride == 8
            assert model.wide == 48


def test_seeds_are_compared_with_the_recipe_of_the_same_seed() -> None:
    bpp, psnr = np.array([0.2, 0.4, 0.8, 1.2, 2.0, 2.6]), [26.0, 28.0, 31.0, 34.0, 37.0, 39.0]

    def made(factor: float, topic: str) -> dict[str, object]:
        rounds = [36.0, *[35.0] * 9]
        curve = {"bpp": (factor * bpp).tolist(), "psnr": psnr, "rounds": rounds}
        return {"topic": topic, "steps": 1000, **curve}

    rows = {
        BASE: made(1.0, ""),
        "the same with seed 2": made(1.1, ""),
        "halved": made(0.5, "loss"),
        "halved with seed 2": made(0.55, "loss"),
        "another": made(1.0, "batch"),
    }
    lines = report.by_seeds({"rows": rows}, ("loss",)).splitlines()
    assert lines[2:] == [
        "| the recipe | 1,000 / 1,000 | +10.0 % | +10.0 % | 36.00 / 36.00 | 1.00 / 1.00 |",
        "| halved | 1,000 / 1,000 | -50.0 % / -50.0 % | -50.0 % / -50.0 % "
        "| 36.00 / 36.00 | 1.00 / 1.00 |",
    ]


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        (variants.Gelu, nn.GELU),
        (variants.Gdn, variants.SimplifiedGdn),
        (variants.HardShrinkage, nn.Hardshrink),
    ],
)
def test_activations_change_in_model_and_average(stage: type, kind: type[nn.Module]) -> None:
    module = stage(Recipe.model_validate({"name": "small", "model": SMALL}), Clock(1))
    module.started()
    for model in (module.model, module.average):
        assert sum(isinstance(part, kind) for part in model.modules()) >= 8
    assert not any(p.requires_grad for p in module.ema.parameters())


def test_larger_kernels_start_as_the_small_ones() -> None:
    module = variants.Kernel5(Recipe.model_validate({"name": "small", "model": SMALL}), Clock(1))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = module.model.g_a(x)
    module.started()
    torch.testing.assert_close(module.model.g_a(x), before)


@pytest.mark.long
@pytest.mark.slow("one row from training to its BD-rate")
def test_a_row_is_trained_measured_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for i in range(40):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).resize((256, 256)).save(tmp_path / f"{i}.png")
    phases = [{"until": 1.0, "crop": 64, "batch": 2}]
    rows = [
        Row("", BASE, {"phases": phases}, SMALL),
        Row("loss", "compact", {"phases": phases}, SMALL, variants.Compaction),
    ]
    monkeypatch.setattr(ablation, "ROWS", rows)
    out = tmp_path / "ablation.json"
    arguments = ["--photos", tmp_path, "--pack", tmp_path, "--minutes", "0.02", "--out", out]
    assert ablation.main([*map(str, arguments)]) == 0
    assert "| loss | compact |" in capsys.readouterr().out
    first = out.read_text(encoding="utf-8")
    found = json.loads(first)["rows"]["compact"]
    assert found["steps"] > 0
    assert len(found["rounds"]) == 10
    assert ablation.main([*map(str, arguments)]) == 0
    assert out.read_text(encoding="utf-8") == first
    # from trained weights nothing is comparable with what went before
    weights = tmp_path / "weights.pt"
    save_weights(PhotoModel(ModelConfig.model_validate(SMALL)), {}, weights)
    assert ablation.main([*map(str, arguments), "--weights", str(weights)]) == 0
    found, before = json.loads(out.read_text(encoding="utf-8")), json.loads(first)
    assert found["weights"] is not None
    assert found["recipe"]["decay_from"] == 0
    assert found["rows"]["compact"]["bpp"] != before["rows"]["compact"]["bpp"]
