"""Layers that train in float and are integers all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trellic.integer.networks import IntegerNetwork, evaluate
from trellic.limits import ACTIVATION_LIMIT
from trellic_training.models.exact import (
    ACTIVATION_UNIT,
    MAX_EXPONENT,
    ExactConv,
    depthwise,
    dilated,
    network_layers,
    pointwise,
    round_through,
)
from trellic_training.models.photo import Heads, to_activation

SEEDS = st.integers(0, 2**31)


def layer_of(seed: int, kernel: int, unit: float, weight: float, bias: float) -> ExactConv:
    torch.manual_seed(seed)
    layer = ExactConv(6, 6, kernel=kernel, unit=unit, clip=(-1000, 1000))
    with torch.no_grad():
        layer.weight.mul_(weight)
        layer.bias.copy_(bias * torch.randn(6))
    return layer


def integers(seed: int, channels: int, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (count, channels, 5, 7), generator=generator).float()


@given(
    SEEDS,
    st.sampled_from([1, 3, 5]),
    st.integers(-9, 2),
    st.floats(1e-3, 100),
    st.sampled_from([0.0, 0.1, 10.0]),
)
def test_training_computes_the_exported_integers(seed, kernel, exponent, weight, bias):
    layer = layer_of(seed, kernel, 2.0**exponent, weight, bias)
    x = integers(seed, 6)
    y = layer(x)
    assert torch.equal(y, y.round())
    assert y.abs().max() <= 1000
    exported = layer.integer_layer()
    assert exported.weight.dtype == np.int8
    assert exported.weight.min() >= -127
    assert 1 <= exported.shift.min() <= exported.shift.max() <= 30
    for i in range(2):
        np.testing.assert_array_equal(evaluate(exported, x[i].double().numpy()), y[i].detach())


@given(SEEDS, st.sampled_from([1, 3]), st.integers(-9, 0))
def test_outputs_are_the_convolution_in_real_units(seed, kernel, exponent):
    """Integer times unit is what a float convolution gives, up to rounding."""
    layer = layer_of(seed, kernel, 2.0**exponent, 0.5, 0.1)
    layer.low, layer.high = -(2**30), 2**30
    x = integers(seed, 6)
    real = nn.functional.conv2d(
        x * ACTIVATION_UNIT, layer.weight, layer.bias, padding=kernel // 2, groups=layer.groups
    )
    # weights are rounded to 7 bits of the largest of their channel
    error = (layer(x) * layer.unit - real).abs().max()
    assert error <= 0.5 * layer.unit + 0.01 * real.abs().max() + 0.05


def test_weights_use_their_bits():
    layer = layer_of(0, 1, ACTIVATION_UNIT, 1.0, 0.0)
    exported = layer.integer_layer()
    assert (np.abs(exported.weight).max(1) >= 64).all()
    with torch.no_grad():
        layer.weight.mul_(1e-6)
    assert (layer.exponents() == MAX_EXPONENT).all()
    assert (layer.integer_layer().weight == 0).all()
    with torch.no_grad():
        layer.weight.mul_(1e12)
    assert (layer.exponents() == 1).all()
    assert np.abs(layer.integer_layer().weight).max() == 127


def test_gradients_flow_through_the_rounding():
    x = torch.linspace(-2, 2, 41, requires_grad=True)
    y = round_through(x)
    assert torch.equal(y, torch.floor(x + 0.5))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(41))


def test_gradients_reach_weights_biases_and_inputs():
    for layer in (pointwise(6, 4), depthwise(6, 3)):
        x = integers(1, 6).requires_grad_()
        layer(x).square().mean().backward()
        for tensor in (layer.weight, layer.bias, x):
            assert torch.isfinite(tensor.grad).all()
            assert tensor.grad.abs().max() > 0


def test_the_gradient_has_the_size_of_a_float_convolutions():
    layer = layer_of(2, 1, ACTIVATION_UNIT, 0.2, 0.0)
    layer.low, layer.high = -(2**30), 2**30
    x = integers(1, 6)
    (layer(x) * ACTIVATION_UNIT).sum().backward()
    seen = layer.weight.grad.clone()
    layer.weight.grad = None
    nn.functional.conv2d(x * ACTIVATION_UNIT, layer.weight).sum().backward()
    torch.testing.assert_close(seen, layer.weight.grad, rtol=1e-4, atol=1e-4)


def test_clipped_units_get_no_gradient():
    layer = pointwise(2, 1)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.bias.fill_(-1000)
    x = integers(0, 2).requires_grad_()
    layer(x).sum().backward()
    assert not x.grad.any()


def test_depthwise_starts_near_the_identity():
    torch.manual_seed(0)
    layer = depthwise(6, 5)
    x = integers(0, 6)
    error = (layer(x) - x).square().mean() / x.square().mean()
    assert error < 0.3


def test_chains_and_heads_are_exported(model):
    x = integers(3, 9, 1)[..., :4, :4]
    network = IntegerNetwork(network_layers(model.h_s))
    (features,) = network(x[0].numpy())
    np.testing.assert_array_equal(features, model.h_s(x)[0].detach())
    assert features.shape == (16, 16, 16)
    heads = Heads(16, 5)
    layers = network_layers(nn.Sequential(*heads.children()))
    x = integers(4, 16, 1)
    for layer, y in zip(layers, heads(x), strict=True):
        np.testing.assert_array_equal(evaluate(layer, x[0].double().numpy()), y[0].detach())


@pytest.mark.parametrize("value", [0.0, 0.031, 0.032, -0.032, 3.0, 100.0, -100.0])
def test_activations(value):
    y = to_activation(torch.tensor(value)).item()
    assert y == max(min(np.floor(value * 16 + 0.5), ACTIVATION_LIMIT), -ACTIVATION_LIMIT)


def test_dilated_taps_lie_apart_whatever_is_learned():
    torch.manual_seed(1)
    layer = dilated(6)
    with torch.no_grad():
        layer.weight.add_(0.1 * torch.randn_like(layer.weight))  # between the taps too
    x = integers(1, 6)
    y = layer(x)
    exported = layer.integer_layer()
    for channel, dilation in enumerate((1, 2, 3, 1, 2, 3)):
        kernel = exported.weight[channel]
        taps = np.zeros((7, 7), bool)
        taps[3 - dilation : 4 + dilation : dilation, 3 - dilation : 4 + dilation : dilation] = True
        assert np.count_nonzero(kernel[taps]) >= 6  # small ones round to 0
        assert not kernel[~taps].any()
    for i in range(2):
        np.testing.assert_array_equal(evaluate(exported, x[i].double().numpy()), y[i].detach())
    y.sum().backward()
    assert not (layer.weight.grad * (1 - layer.taps)).any()
