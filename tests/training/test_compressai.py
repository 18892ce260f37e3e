"""Checkpoints made by CompressAI become models that compute what CompressAI computes."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from trellic.errors import BadParameter
from trellic.integer.networks import evaluate
from trellic.latents.quantizer import Quantizer
from trellic_training.losses.rates import SIGMA_MIN, scale_ratio
from trellic_training.models import compressai
from trellic_training.models.compressai import (
    ARCHITECTURES,
    factorized_pmf,
    float_h_s,
    from_compressai,
    read_state,
)
from trellic_training.models.exact import ACTIVATION_UNIT, ExactConv
from trellic_training.models.hyperprior import (
    LATENT_UNIT,
    SIGMA_UNIT,
    TRAINED_QUALITY,
    HyperpriorModel,
    leaky,
    scale_index,
)
from trellic_training.models.photo import MEAN_UNIT, SCALE_PARTS
from trellic_training.models.weights import load_weights, save_weights
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import LoopQuantizer, sigmas_of

FOLDER = Path(__file__).parents[1] / "data" / "compressai"
QUALITY = torch.tensor([TRAINED_QUALITY])


@dataclasses.dataclass
class Imported:
    """A checkpoint, what CompressAI computes with it, and what we make of it."""

    state: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    x: torch.Tensor
    model: HyperpriorModel


@pytest.fixture(scope="module", params=ARCHITECTURES)
def imported(request) -> Imported:
    state = read_state(FOLDER / f"{request.param}.pth.tar")
    with np.load(FOLDER / f"{request.param}.npz") as archive:
        expected = {name: torch.from_numpy(array) for name, array in archive.items()}
    x = expected["pixels"].permute(2, 0, 1)[None].float() / 255 - 0.5
    flips = [x, x.flip(2), x.flip(3), x.transpose(2, 3)]
    return Imported(state, expected, x, from_compressai(request.param, state, flips))


def test_latents_and_hyper_latents_are_compressais(imported):
    f = imported.model.g_a(imported.x)
    torch.testing.assert_close(LATENT_UNIT * f[0], imported.expected["y"], rtol=0, atol=1e-4)
    median = imported.state["entropy_bottleneck.quantiles"][:, 0, 1, None, None]
    fraction = median - median.round()
    h = imported.model.h_a(f)[0] / ACTIVATION_UNIT
    torch.testing.assert_close(h + fraction, imported.expected["z"], rtol=0, atol=1e-4)
    z_hat = torch.floor(h + 0.5) + fraction
    torch.testing.assert_close(z_hat, imported.expected["z_hat"], rtol=0, atol=1e-4)


def test_pictures_are_compressais(imported):
    x_hat = imported.model.g_s(imported.expected["y_hat"][None] / LATENT_UNIT)[0] + 0.5
    pixels = (255 * x_hat.clamp(0, 1)).permute(1, 2, 0).round()
    assert (pixels - imported.expected["x_hat"]).abs().max() <= 1
    assert (pixels != imported.expected["x_hat"]).float().mean() < 1e-3


def test_the_float_h_s_is_compressais(imported):
    h_s = float_h_s(imported.model.config, imported.state)
    parameters = h_s(imported.expected["z_hat"][None])[0]
    parts = ("scales", "means") if imported.model.config.has_mean else ("scales",)
    expected = torch.cat([imported.expected[part] for part in parts])
    torch.testing.assert_close(parameters, expected, rtol=1e-4, atol=1e-5)


def test_the_integer_h_s_follows_the_float_one(imported):
    mean, index = predicted(imported)
    ratio = math.log(scale_ratio(imported.model.config.scales))
    expected = (imported.expected["scales"].clamp_min(SIGMA_MIN) / SIGMA_MIN).log() / ratio
    error = index[0] - expected.clamp_max(imported.model.config.scales - 1)
    assert error.abs().mean() < 0.25  # of one scale, which is 14 % of the deviation
    assert error.square().mean().sqrt() < 0.4
    if imported.model.config.has_mean:
        off = (mean[0] - imported.expected["means"]) / imported.expected["scales"].clamp_min(0.5)
        assert off.square().mean().sqrt() < 0.05
    else:
        assert not mean.any()


def predicted(imported):
    """Mean in steps and scale index at the trained rate."""
    model = imported.model
    z = torch.floor(model.h_a(model.g_a(imported.x)) / ACTIVATION_UNIT + 0.5)
    features = model.features(z * ACTIVATION_UNIT, QUALITY)
    y_hat = torch.zeros_like(imported.expected["y"][None])
    return model.parameters_of(0, features, y_hat, QUALITY)


def test_the_price_of_integers(imported):
    """Code length of y with Gaussian tables, against CompressAI's own estimate: within 1 %."""
    mean, index = predicted(imported)
    y = imported.expected["y"].double()
    k = torch.round(y - mean[0]).abs()
    root = 1 / (imported.model.sigma(index.round())[0].double() * math.sqrt(2))
    pmf = (torch.erfc((k - 0.5) * root) - torch.erfc((k + 0.5) * root)) / 2
    bits = -torch.log2(pmf.clamp_min(1e-9)).sum()
    assert bits < 1.01 * imported.expected["y_bits"]


def test_the_prior_of_z_is_compressais(imported):
    state, expected = imported.state, imported.expected
    median = state["entropy_bottleneck.quantiles"][:, 0, 1]
    pmf = factorized_pmf(state, median)
    k = torch.round(expected["z_hat"] - median[:, None, None]).long() + compressai.HYPER_REACH
    bits = -torch.log2(pmf.gather(1, k.flatten(1))).sum()
    assert bits == pytest.approx(expected["z_bits"].item(), rel=1e-3)
    model = imported.model
    mean = model.hyper_mean / ACTIVATION_UNIT
    torch.testing.assert_close(mean, median.round(), rtol=0, atol=1e-4)
    sigma = model.hyper_log_sigma.exp()[:, None] / ACTIVATION_UNIT
    z = (expected["z_hat"] - median[:, None, None]).round()
    ours = compressai.bits(z.flatten(1), sigma.expand(-1, z[0].numel())).sum()
    assert ours < 1.15 * bits + 8


def test_other_qualities_scale_the_steps(imported):
    model = imported.model
    for quality, factor in ((20.0, 0.5), (60.0, 1.0), (100.0, 2.0)):
        gain = model.gains(torch.tensor([quality]))
        torch.testing.assert_close(gain, torch.full_like(gain, LATENT_UNIT * factor))
    out = [model(imported.x, torch.tensor([q])) for q in (20.0, 60.0, 100.0)]
    sizes = [(o.y_bits + o.z_bits).item() for o in out]
    errors = [(o.x_hat - imported.x).square().mean().item() for o in out]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_imported_models_can_be_trained(imported, tmp_path):
    save_weights(imported.model, {"steps": 0}, tmp_path / "weights.pt")
    model, facts = load_weights(tmp_path / "weights.pt")
    assert facts == {"steps": 0}
    for a, b in zip(imported.model.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    model.train()
    out = model(imported.x, QUALITY)
    error = (out.x_hat - imported.x).square().mean()
    (out.y_bits.sum() + out.z_bits.sum() + 1e4 * error).backward()
    for part in (model.g_a, model.g_s, model.h_a, model.h_s):
        gradients = [p.grad for p in part.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        assert any(g.any() for g in gradients)


@pytest.mark.parametrize("quantizer", [Quantizer(0, 0, "round"), Quantizer(8, 28)], ids=str)
def test_imported_models_can_be_finetuned(imported, quantizer):
    """The loop with the runtime's quantizer sees what the model itself predicts."""
    model = copy.deepcopy(imported.model)
    model.h_s.requires_grad_(requires_grad=True)
    sigmas = sigmas_of(model.config.scales)
    loop = LoopQuantizer(model, parametric_tables(sigmas, 21), skip_index=0)
    batch = loop(imported.x, QUALITY, quantizer)
    mean, index = loop.predict(batch)
    own_mean, own_index = predicted(imported)
    torch.testing.assert_close(mean, own_mean, rtol=1e-3, atol=0.04)
    assert (index - own_index).abs().max() < 0.2  # shifts are rounded to eighths there, not here
    coded, charged = loop.bits(batch, mean, index)
    assert 0 < coded.item() < 2 * imported.expected["y_bits"].item()
    charged.sum().backward()
    gradients = [p.grad for p in model.h_s.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert (batch.y_hat - batch.y).square().mean() < 0.5


# ---- the pieces ----


def test_a_transposed_convolution_is_a_shuffled_one():
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(3, 5, 5, stride=2, padding=2, output_padding=1)
    weight, bias = compressai._as_conv(layer)
    x = torch.randn(2, 3, 4, 6)
    seen = nn.functional.pixel_shuffle(nn.functional.conv2d(x, weight, bias, padding=1), 2)
    torch.testing.assert_close(seen, layer(x))


@pytest.mark.parametrize("curve", [leaky, None])
def test_dense_layers_are_the_integers_they_export(curve):
    torch.manual_seed(1)
    for size in (1e-3, 0.3, 30.0):
        clip = (-12_700 if curve else 0, 127)
        layer = ExactConv(40, 6, kernel=3, dense=True, curve=curve, clip=clip)
        with torch.no_grad():
            layer.weight.mul_(size)
            layer.bias.copy_(size * torch.randn(6))
        exported = layer.integer_layer()
        worst = np.abs(exported.weight.astype(int)).sum((1, 2, 3)) * 127 + np.abs(exported.bias)
        assert (worst + 2.0 ** (exported.shift - 1.0) < 2**22).all()
        x = torch.randint(-127, 128, (2, 40, 5, 7)).float().requires_grad_()
        y = layer(x)
        assert -127 <= y.min() <= y.max() <= 127
        assert (y.min() < 0) == (curve is leaky and size > 0.01)
        for i in range(2):
            plain = evaluate(exported, x[i].detach().double().numpy())
            np.testing.assert_array_equal(plain, y[i].detach())
        y.sum().backward()
        assert x.grad.isfinite().all()


def test_tables_are_what_they_stand_for():
    v = torch.arange(-300.0, 128.0)
    table = torch.floor(leaky(v) + 0.5)
    assert table[v == 127] == 127
    assert table[v == -300] == -3
    index = scale_index(48, torch.tensor([SIGMA_MIN / SIGMA_UNIT, 64 / SIGMA_UNIT, 0.0]))
    ends = torch.tensor([0.0, 47.0 * SCALE_PARTS])
    torch.testing.assert_close(index[:2], ends, atol=0.01, rtol=0)
    assert index[2].isfinite()
    assert MEAN_UNIT * LATENT_UNIT == 1 / 64  # of a step at the trained rate


# ---- files ----


@pytest.mark.parametrize("wrapped", ["state_dict", "network", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("form", ["_{0}{2}", "_{1}.{2}", "{1}.{2}"])
def test_spellings_of_other_versions(tmp_path, imported, wrapped, prefix, form):
    singular = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
    renamed = {}
    for key, value in imported.state.items():
        part = key.split(".")
        if part[0] == "entropy_bottleneck" and part[1] in singular:
            key = f"{part[0]}.{form.format(singular[part[1]], part[1], part[2])}"
        renamed[prefix + key] = value
    torch.save({wrapped: renamed, "epoch": 3} if wrapped else renamed, tmp_path / "a.pth.tar")
    again = read_state(tmp_path / "a.pth.tar")
    assert list(again) == list(imported.state)


def test_the_wrong_architecture_is_named(imported):
    other = next(a for a in ARCHITECTURES if a != imported.model.config.architecture)
    with pytest.raises(BadParameter, match=f"is not that of {other}.*one of bmshj2018_hyperprior"):
        from_compressai(other, imported.state, [imported.x])


@pytest.mark.parametrize("missing", ["g_a.6.weight", "g_s.3.beta", "h_s.0.bias", "h_a.0.weight"])
def test_missing_weights_are_named(imported, missing):
    state = {k: v for k, v in imported.state.items() if k != missing}
    with pytest.raises(BadParameter, match=f"{missing[:3]} of the checkpoint is not"):
        from_compressai(imported.model.config.architecture, state, [imported.x])


@pytest.mark.parametrize("missing", ["quantiles", "matrices.2", "factors.3"])
def test_a_prior_that_is_not_whole(imported, missing):
    state = {k: v for k, v in imported.state.items() if k != f"entropy_bottleneck.{missing}"}
    with pytest.raises(BadParameter, match="no usable entropy_bottleneck"):
        from_compressai(imported.model.config.architecture, state, [imported.x])


@pytest.mark.parametrize("content", [b"", b"Dear diary", b"PK\x03\x04" + bytes(100)], ids=repr)
def test_what_is_no_checkpoint(tmp_path, content):
    (tmp_path / "a.pth.tar").write_bytes(content)
    with pytest.raises(BadParameter, match="is not a CompressAI checkpoint") as raised:
        read_state(tmp_path / "a.pth.tar")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [[1], {}, {"state_dict": {}}, {"a": torch.ones(1)}], ids=repr)
def test_other_torch_files(tmp_path, content):
    torch.save(content, tmp_path / "a.pth.tar")
    with pytest.raises(BadParameter, match=r"CompressAI checkpoint|has no weights 'g_a"):
        read_state(tmp_path / "a.pth.tar")
