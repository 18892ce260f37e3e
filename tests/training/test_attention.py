"""Attention to neighbours: what it computes, how far it reaches, and a start as the identity."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from trellic_training.models.attention import NeighbourAttention
from trellic_training.models.photo import ModelConfig, PhotoModel

from .growing import grown_and_equal


@pytest.mark.parametrize("dilation", [1, 2])
def test_it_is_what_its_formula_says(dilation):
    """One position by hand, in the middle and at a corner, where keys and values beyond are 0."""
    torch.manual_seed(1)
    layer = NeighbourAttention(64, dilation).requires_grad_(requires_grad=False)
    layer.place.normal_()
    x = 3 * torch.randn(1, 64, 6, 7)
    q, k, v = (part(x)[0].unflatten(0, (2, -1)) for part in (layer.query, layer.key, layer.value))
    for row, column in ((3, 3), (0, 6)):
        seen = torch.zeros(2, 32)
        for head in range(2):
            products, values = [], []
            for i in range(9):
                at = row + dilation * (i // 3 - 1), column + dilation * (i % 3 - 1)
                inside = 0 <= at[0] < 6 and 0 <= at[1] < 7
                key = k[head, :, at[0], at[1]] if inside else torch.zeros(16)
                values.append(v[head, :, at[0], at[1]] if inside else torch.zeros(32))
                products.append(q[head, :, row, column] @ key + layer.place[i, head])
            seen[head] = torch.stack(products).softmax(0) @ torch.stack(values)
        expected = (
            x[0, :, row, column] + layer.project(seen.flatten()[None, :, None, None])[0, :, 0, 0]
        )
        torch.testing.assert_close(layer(x)[0, :, row, column], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dilation", [1, 3])
def test_it_does_not_depend_on_where_a_tile_begins(dilation):
    torch.manual_seed(2)
    layer = NeighbourAttention(8, dilation)
    x = torch.randn(1, 8, 12, 13)
    whole = layer(x)[..., 5 : 5 + 2, 5 : 5 + 3]
    part = layer(x[..., 5 - dilation : 7 + dilation, 5 - dilation : 8 + dilation])
    inner = part[..., dilation:-dilation, dilation:-dilation]
    torch.testing.assert_close(inner, whole)
    narrow = layer(x[..., 5:7, 5:8])
    assert (narrow - whole).abs().max() > 1e-4


def test_a_model_with_it_codes_and_learns(tiny_config):
    config = ModelConfig.model_validate({**tiny_config.model_dump(), "attention": (1, 2)})
    model = PhotoModel(config)
    plain = PhotoModel(tiny_config)
    assert model.halos[0] == plain.halos[0] + 3 * config.stride
    assert model.halos[2] == plain.halos[2] + 3
    x = torch.rand(1, 3, 64, 128) - 0.5
    output = model(x, torch.tensor([40.0]))
    assert output.x_hat.shape == x.shape
    output.x_hat.square().mean().backward()
    layers = [m for m in model.modules() if isinstance(m, NeighbourAttention)]
    assert len(layers) == 4
    for layer in layers:
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.any(), name


def test_a_grown_one_changes_nothing_until_it_learns(tiny_config):
    wider = tiny_config.model_copy(update={"attention": (1, 2)})
    model, mine = grown_and_equal(tiny_config, wider, torch.rand(4, 3, 64, 64) - 0.5)
    mine.x_hat.square().mean().backward()
    added = [m for m in model.g_s.modules() if isinstance(m, NeighbourAttention)]
    assert all(layer.project.weight.grad.any() for layer in added)


def test_dilations_are_checked(tiny_config):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ModelConfig.model_validate({**tiny_config.model_dump(), "attention": (0,)})
