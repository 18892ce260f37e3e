"""Attention to all positions in h_a: what it computes, and a start as the identity."""

from __future__ import annotations

import pytest
import torch

from trellic_training.models.everywhere import LIMIT, GlobalAttention
from trellic_training.models.grow import grown
from trellic_training.models.photo import ModelConfig, PhotoModel

from .growing import grown_and_equal


@pytest.mark.parametrize("channels", [64, 8])
def test_it_is_what_its_formula_says(channels):
    """Each position is a mean of all values, weighted by products of features, head by head."""
    torch.manual_seed(1)
    layer = GlobalAttention(channels).requires_grad_(requires_grad=False)
    x = 3 * torch.randn(1, channels, 3, 5)
    heads = 2 if channels == 64 else 1
    q, k, v = (part(x)[0].flatten(1) for part in (layer.query, layer.key, layer.value))
    assert (k.abs() > LIMIT).any()
    q, k, v = (part.unflatten(0, (heads, -1)) for part in (q, k, v))
    q, k = (part.clamp(-LIMIT, LIMIT).exp() for part in (q, k))
    seen = torch.zeros(heads, v.shape[1], 15)
    for head in range(heads):
        for i in range(15):
            weight = torch.stack([q[head, :, i] @ k[head, :, j] for j in range(15)])
            seen[head, :, i] = v[head] @ (weight / weight.sum())
    expected = x + layer.project(seen.flatten(0, 1).reshape(1, -1, 3, 5))
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_every_position_reaches_every_other():
    torch.manual_seed(2)
    layer = GlobalAttention(32)
    x = torch.randn(1, 32, 9, 7)
    other = x.clone()
    other[..., 0, 0] += 3
    assert ((layer(other) - layer(x)).abs().amax(1) > 1e-6).all()


def wider(config: ModelConfig) -> ModelConfig:
    return config.model_copy(update={"nonlocal_hyper": True})


def test_a_model_with_it_codes_and_learns(tiny_config):
    model = PhotoModel(wider(tiny_config))
    assert model.halos == (*PhotoModel(tiny_config).halos[:1], 0, model.halos[2])
    output = model(torch.rand(1, 3, 128, 192) - 0.5, torch.tensor([40.0]))
    (output.y_bits + output.z_bits).sum().backward()
    (layer,) = (m for m in model.modules() if isinstance(m, GlobalAttention))
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any(), name


def test_a_grown_one_changes_nothing_until_it_learns(tiny_config):
    crops = torch.rand(2, 3, 128, 128) - 0.5
    model, mine = grown_and_equal(tiny_config, wider(tiny_config), crops)
    mine.y_bits.sum().backward()
    (layer,) = (m for m in model.h_a if isinstance(m, GlobalAttention))
    assert layer.project.weight.grad.any()


def test_it_cannot_be_left_out_again(tiny_config):
    before = PhotoModel(wider(tiny_config))
    with pytest.raises(ValueError, match="more blocks than the recipe's"):
        grown(tiny_config, before, torch.rand(2, 3, 64, 64) - 0.5)
