"""Couplings that are undone to float precision, the split by frequency, and denoising."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from trellic_training.models.coupling import Coupling, Denoising, Inverse, frequencies
from trellic_training.models.decoders import SynthesisSizes, start_from
from trellic_training.models.grow import grown
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.stages.average import RunningAverage


@pytest.fixture
def coupled(tiny_config) -> ModelConfig:
    """The tiny model at a stride of 4, with couplings of the 12 channels of a 2 x 2 block."""
    sizes = {"stride": 4, "wide": 12, "encoder_blocks": (0, 1), "decoder_blocks": (0, 1)}
    return ModelConfig.model_validate({**tiny_config.model_dump(), **sizes, "coupling": 2})


def shake(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))


def test_couplings_are_undone():
    torch.manual_seed(1)
    coupling = Coupling(12, 2, 16)
    x = torch.randn(2, 12, 9, 7)
    assert torch.equal(coupling(x), x)  # the identity at first
    shake(coupling)
    y = coupling(x)
    assert (y - x).abs().mean() > 0.1
    torch.testing.assert_close(Inverse(coupling)(y), x, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # the same networks of the same values
        torch.testing.assert_close(coupling.inverse(coupling(x)), x, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("side", [2, 4, 8])
def test_the_split_by_frequency_is_orthonormal_and_in_order(side):
    matrix = frequencies(side)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3 * side * side), atol=1e-6, rtol=0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    ramp = torch.stack([(y + x).float()] * 3).flatten()
    energy = (matrix @ ramp).square()
    assert energy[: len(energy) // 2].sum() > 0.7 * energy.sum()
    flat = matrix @ torch.ones(len(matrix))
    torch.testing.assert_close(flat[:3], torch.full((3,), float(side)))
    assert flat[3:].abs().max() < 1e-5


@pytest.mark.parametrize("frequency", [True, False])
def test_encoder_and_decoder_have_the_same_weights(coupled, frequency):
    torch.manual_seed(2)
    model = PhotoModel(coupled.model_copy(update={"frequency_split": frequency}))
    shake(model)
    x = torch.rand(1, 3, 16, 24) - 0.5
    torch.testing.assert_close(model.g_s[-3:](model.g_a[:3](x)), x, atol=1e-5, rtol=1e-5)
    assert model.g_a[2] is model.g_s[-3].coupling
    average = RunningAverage(model, 0.9)
    average.update(model)
    copied = average.module
    assert copied.g_a[2] is copied.g_s[-3].coupling
    torch.testing.assert_close(copied.g_a[2].steps[0][0].weight, model.g_a[2].steps[0][0].weight)


def test_every_weight_of_a_coupled_model_learns(coupled):
    torch.manual_seed(3)
    model = PhotoModel(coupled.model_copy(update={"denoising": 2, "modulated": True}))
    shake(model)
    x = torch.rand(2, 3, 32, 32) - 0.5
    output = model(x, torch.tensor([20.0, 90.0]))
    assert output.x_hat.shape == x.shape
    ((output.x_hat - x).square().mean() + 1e-6 * output.y_bits.mean()).backward()
    for name, parameter in (*model.g_a.named_parameters(), *model.g_s.named_parameters()):
        fixed = name.startswith("1.") or parameter is model.g_s[-2].weight
        fixed = fixed or parameter is model.g_s[-2].bias
        assert parameter.requires_grad is not fixed or name.startswith("1."), name
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name


def test_principal_components_and_details_leave_the_stem_alone(tiny_recipe):
    group = [{"channels": 16, "steps": (0, 1)}, {"channels": 24, "steps": (1, 1)}]
    sizes = {"stride": 4, "wide": 12, "encoder_blocks": (0, 1), "decoder_blocks": (0, 1)}
    config = ModelConfig.model_validate(
        {**tiny_recipe.model.model_dump(), **sizes, "coupling": 1, "denoising": 1}
        | {"groups": group, "details": 24, "deep": 16}
    )
    torch.manual_seed(4)
    crops = nn.functional.avg_pool2d(torch.rand(40, 3, 66, 66), 3, 1) - 0.5
    model = grown(config, None, crops)
    torch.testing.assert_close(model.g_a[1].weight[:, :, 0, 0], frequencies(2))
    plain = PhotoModel(config.without_details())
    start_from_components(plain, crops)
    quality = torch.full((len(crops),), 50.0)
    with torch.no_grad():
        without, found = (
            (m.g_s(m.g_a(crops, quality), quality) - crops).square().mean() for m in (plain, model)
        )
    assert found < 0.5 * without
    with pytest.raises(ValueError, match="more than its details"):
        grown(config.model_copy(update={"coupling": 2}), model, crops)


def test_denoising_added_to_a_trained_model_changes_nothing_until_it_learns(tiny_config):
    torch.manual_seed(5)
    before = PhotoModel(tiny_config).eval()
    crops = torch.rand(4, 3, 64, 64) - 0.5
    model = grown(tiny_config.model_copy(update={"denoising": 2}), before, crops).eval()
    quality = torch.full((4,), 50.0)
    assert torch.equal(model(crops, quality).x_hat, before(crops, quality).x_hat)
    model(crops, quality).x_hat.square().mean().backward()
    assert sum(isinstance(part, Denoising) for part in model.g_s) == 2
    assert model.g_s[0].project.weight.grad.any()


def test_denoising_needs_a_quality_only_where_it_is_modulated():
    x = torch.randn(1, 6, 4, 4)
    assert torch.equal(Denoising(6, 4)(x), x)
    with pytest.raises(ValueError, match="without a quality"):
        Denoising(6, 4, anchors=3)(x)


def test_decoders_start_from_such_a_model(coupled):
    """They have neither couplings nor denoising, and take over the rest."""
    torch.manual_seed(6)
    model = PhotoModel(coupled.model_copy(update={"denoising": 1, "attention": (1,)}))
    sizes = SynthesisSizes(wide=12, deep=coupled.deep, blocks=(1, 2))
    decoder = sizes.make(coupled.layout())
    start_from(decoder, model.g_s)
    f = torch.randn(1, coupled.latents, 4, 4)
    seen = model.g_s[1:][:2](f)  # 1x1 and block
    torch.testing.assert_close(decoder[:2](f), seen)


def test_couplings_need_all_channels(tiny_config):
    with pytest.raises(ValidationError, match="couplings need wide = 192"):
        ModelConfig.model_validate({**tiny_config.model_dump(), "coupling": 1})
