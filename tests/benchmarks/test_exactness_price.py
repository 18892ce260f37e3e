"""The price of exactness, on a model that was never trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.exactness_price import QUALITIES, FloatCoder, Photo, ideal_bits, main, measure
from PIL import Image

from trellic.geometry import Plane
from trellic.latents.quantizer import Quantizer
from trellic.model.channels import Group
from trellic_training.models.exact import ExactConv
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.weights import save_weights
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import LoopQuantizer, sigmas_of
from trellic_training.quantization.symbols import Collector


@pytest.fixture
def model() -> PhotoModel:
    torch.manual_seed(2)
    config = ModelConfig(
        wide=16,
        deep=16,
        encoder_blocks=(1, 1),
        decoder_blocks=(1, 1),
        groups=(Group(channels=8, steps=(0, 1)), Group(channels=8, steps=(1, 2))),
        hyper=8,
        hyper_hidden=8,
        features=16,
        context_hidden=16,
    )
    return PhotoModel(config).eval().requires_grad_(False)


def photo() -> Photo:
    rng = np.random.default_rng(1)
    f = rng.normal(0, 2, (16, 8, 8)).astype(np.float32)
    return Photo(f, rng.normal(0, 2, (8, 2, 2)).astype(np.float32), Plane(128, 128))


def test_the_float_coder_agrees_where_nothing_is_rounded(model: PhotoModel) -> None:
    """With weights of whole integers and no hidden fraction both paths see the same numbers."""
    for layer in model.modules():
        if isinstance(layer, ExactConv):
            layer.weight.zero_()
            layer.bias.fill_(1.0)
    model.context_log_gain.zero_()
    tables = parametric_tables(sigmas_of(48), 21)
    loop, floating = LoopQuantizer(model, tables, 4), FloatCoder(model, 4)
    level, quantizer = loop.levels.at(16 * 50, 8), Quantizer(8, 28)
    seen, unrounded = Collector(), Collector()
    one = photo()
    loop.coder.quantize(one.f, one.h, one.plane, level, quantizer, observe=seen)
    floating(one, level, quantizer, tables, unrounded)
    bits = [ideal_bits(tables, each) for each in (seen, unrounded)]
    assert bits[0] == pytest.approx(bits[1], rel=0.01)
    for a, b in zip(seen.parts, unrounded.parts, strict=True):
        assert np.array_equal(a[1], b[1])  # scale indices
        assert np.abs(a[0] - b[0]).max() <= 1  # t, in 1/32 step: means are rounded there


def test_the_price_is_that_of_rounding(model: PhotoModel) -> None:
    rows = measure(model, [dict.fromkeys(QUALITIES, photo())], Quantizer(0, 26), 4)
    assert all(row["integer_bpp"] > 0 < row["float32_bpp"] for row in rows)
    assert all(abs(row["price_percent"]) < 20 for row in rows)


def test_the_command_writes_its_figures(model: PhotoModel, tmp_path: Path) -> None:
    save_weights(model, {}, tmp_path / "weights.pt")
    Image.fromarray(np.full((70, 130, 3), 90, np.uint8)).save(tmp_path / "a.png")
    out = tmp_path / "price.json"
    arguments = ["--weights", tmp_path / "weights.pt", "--images", tmp_path, "--out", out]
    assert main([*map(str, arguments), "--quantizer", "4"]) == 0
    result = json.loads(out.read_text())
    assert result["quantizer"] == "4"
    assert [row["quality"] for row in result["qualities"]] == [10, 30, 50, 70, 90]
