"""Details and blocks added to a model: nothing is lost, and more can be reproduced."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trellic.model.channels import Group
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.grow import grown
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.pixels import to_network


@pytest.fixture
def crops(packed):
    torch.manual_seed(0)  # of the models that the tests make
    return to_network(PackedPhotos(packed).crops(np.random.default_rng(0), 60, 64))


@pytest.fixture
def config(tiny_recipe) -> ModelConfig:
    """The tiny model and 40 details."""
    groups = (*tiny_recipe.model.groups, Group(channels=40, steps=(3, 3)))
    return ModelConfig.model_validate(
        {**tiny_recipe.model.model_dump(), "groups": groups, "details": 40}
    )


def error(model: PhotoModel, crops: torch.Tensor) -> float:
    """Mean squared error without quantization."""
    with torch.no_grad():
        quality = torch.full((len(crops),), 50.0)
        return float((model.g_s(model.g_a(crops, quality), quality) - crops).square().mean())


@pytest.fixture
def small(config, crops) -> PhotoModel:
    """A model without details that is no longer as it was made."""
    model = grown(config.without_details(), None, crops)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    return model.eval()


def test_details_lower_the_error(config, small, crops):
    assert error(grown(config, small, crops), crops) < 0.8 * error(small, crops)


def test_without_its_details_a_grown_model_is_the_old_one(config, small, crops):
    model = grown(config, small, crops).eval()
    old, new = small.g_a(crops), model.g_a(crops)
    kept = small.config.latents
    torch.testing.assert_close(new[:, :kept], old)
    new[:, kept:] = 0
    torch.testing.assert_close(model.g_s(new), small.g_s(old))
    torch.testing.assert_close(model.h_a(new), small.h_a(old))
    quality = torch.full((len(crops),), 50.0)
    features, bits = model.hyper(new, quality)
    torch.testing.assert_close(bits, small.hyper(old, quality)[1])
    gain = model.gains(quality)
    assert torch.equal(gain[:, :kept], small.gains(quality))
    y_hat = torch.zeros_like(new)
    for k in range(len(small.steps)):
        mine = model.parameters_of(k, features, y_hat, quality)
        its = small.parameters_of(k, features, y_hat[:, :kept], quality)
        torch.testing.assert_close(mine, its)


def test_a_new_model_starts_from_components_and_details(config, crops):
    plain = grown(config.without_details(), None, crops)
    model = grown(config, None, crops)
    assert error(model, crops) < 0.8 * error(plain, crops)
    seeing = grown(config.model_copy(update={"modulated": True}), None, crops)
    assert error(seeing, crops) < 0.8 * error(plain, crops)


def test_details_may_share_their_step_with_other_channels(config, crops):
    groups = [Group(channels=config.latents - 40, steps=(0, 1)), Group(channels=40, steps=(1, 1))]
    shared = config.model_copy(update={"groups": groups})
    small = grown(shared.without_details(), None, crops)
    model = grown(shared, small, crops)
    bias, old = model.contexts[1][-1].scale.bias, small.contexts[1][-1].scale.bias
    assert torch.equal(bias[:-40], old)
    assert len(bias[-40:].unique()) > 1  # as large as each detail is
    assert error(model, crops) < 0.8 * error(small, crops)


@pytest.mark.parametrize("modulated", [False, True])
def test_deeper_transforms_start_as_what_they_grew_from(config, small, crops, modulated):
    changed = {"encoder_blocks": (2, 3), "decoder_blocks": (3, 3), "modulated": modulated}
    before = grown(config, small, crops).eval()
    model = grown(config.model_copy(update=changed), before, crops).eval()
    quality = torch.full((4,), 50.0)
    with torch.no_grad():
        mine, its = model(crops[:4], quality), before(crops[:4], quality)
    torch.testing.assert_close(mine.x_hat, its.x_hat)
    torch.testing.assert_close(mine.y_bits, its.y_bits)
    model.train()
    model(crops[:4], quality).x_hat.square().mean().backward()
    added = model.g_s[0].trunk[3].spatial[-1].weight
    assert added.abs().sum() == 0
    assert added.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="sees the quality" if modulated else "more blocks"):
        grown(before.config, model, crops)


def test_nothing_to_grow(small, config, crops):
    assert grown(small.config, small, crops) is small
    with pytest.raises(ValueError, match="more than its details"):
        grown(config.model_copy(update={"wide": 24}), small, crops)


def test_details_are_the_last_group(config):
    with pytest.raises(ValidationError, match="last group"):
        ModelConfig.model_validate({**config.model_dump(), "details": 39})
