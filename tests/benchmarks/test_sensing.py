"""Aerial pictures: PSNR at equal bits, and bundles with another h_a."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.runs import Measured, Point, save

from benchmarks import hyper, sensing_tables
from trellic.codec import Codec
from trellic.model.bundle import Bundle, find
from trellic_training.models.grow import grown
from trellic_training.models.photo import ModelConfig
from trellic_training.models.weights import load_weights
from trellic_training.recipes.codec import Recipe

WEIGHTS = Path(__file__).parents[2] / hyper.WEIGHTS


def points(psnr: dict[float, float], own: dict[float, float] | None = None) -> list[Point]:
    """Return points of two pictures: PSNR by bits a pixel, or by a setting with other bits."""
    bpp = own or {rate: rate for rate in psnr}
    return [
        Point(name, rate, 100, bpp[rate], 0, 0, value)
        for name in ("a.png", "b.png")
        for rate, value in psnr.items()
    ]


def test_psnr_is_compared_at_the_bits_of_the_anchor(tmp_path: Path) -> None:
    anchor = points({0.1: 27.0, 0.25: 30.0, 0.9: 36.0}, {0.1: 0.1, 0.25: 0.2, 0.9: 0.9})
    ours = points({1: 28.0, 2: 32.0, 3: 34.0}, {1: 0.1, 2: 0.4, 3: 0.8})
    made = [Measured("jp2", {}, {}, anchor), Measured("trellic", {}, {}, ours)]
    found = sensing_tables.decibels_more(made[1], made[0], "a.png", 0.25)
    assert found == pytest.approx(0.0)  # half way in log bits: 30 dB at 0.2
    assert sensing_tables.decibels_more(made[1], made[0], "a.png", 0.9) is None
    for name in sensing_tables.OURS:
        save(tmp_path / name, {"benchmark": "rd"}, made, [])
    lines = sensing_tables.against_jpeg2000(tmp_path).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| 0.1", "| 0.25"]  # 0.9: no picture
    assert lines[2].startswith("| 0.1 | 27.0 | +1.00 (+1.00 to +1.00) | +1.00")


def test_a_recipe_for_each_arm() -> None:
    recipe = hyper.load_recipe(hyper.shipped_recipe(Path("photo-hyper")))
    plain = hyper.with_attention(recipe, everywhere=False)
    assert isinstance(plain, Recipe)
    assert (plain.model.nonlocal_hyper, recipe.model.nonlocal_hyper) == (False, True)
    assert plain.train == "hyper"


def test_a_bundle_with_another_h_a_keeps_its_streams(tmp_path: Path) -> None:
    """The layer starts as the identity, so files are the shipped model's byte for byte."""
    trained = load_weights(WEIGHTS)[0]
    config = ModelConfig.model_validate({**trained.config.model_dump(), "nonlocal_hyper": True})
    model = grown(config, trained, torch.zeros(2, 3, 64, 64))
    shipped = Bundle(find("photo"))
    hyper.write_with(shipped, model, tmp_path / "new.zip")
    new = Bundle(tmp_path / "new.zip")
    assert new.manifest.stream_id == shipped.manifest.stream_id
    assert (new.manifest.hyper_encoder.halo, shipped.manifest.hyper_encoder.halo) == (0, 2)
    pixels = np.random.default_rng(1).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    one, other = (
        Codec.load(b.path, device="cpu", threads=1).encode(pixels, quality=40, trellis=8)
        for b in (shipped, new)
    )
    assert one == other
