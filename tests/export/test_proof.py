"""The proof that float32 is enough: refuses one more than what is safe, and no less."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.engines.exact import ExactNetwork, digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.errors import BadBundle, TrellicWarning
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic.limits import ACCUMULATOR_LIMIT, ACTIVATION_LIMIT
from trellic.model.bundle import Bundle, find
from trellic_export.graphs import integer_graph
from trellic_export.proof import prove


def pointwise(weight, bias, shift=1, low=-127, high=127):
    weight = np.atleast_2d(np.asarray(weight, np.int8))
    count = len(weight)
    return IntegerLayer(
        "pointwise",
        weight,
        np.broadcast_to(np.asarray(bias, np.int32), count).copy(),
        np.broadcast_to(np.asarray(shift, np.uint8), count).copy(),
        low,
        high,
    )


EMPTY = np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0, np.uint8)
SHUFFLE = IntegerLayer("shuffle", *EMPTY, 0, 0)


def at_the_limit(shift=1, channels=200):
    """One output whose bound is one less than the limit."""
    weight = np.full(channels, 127)
    bias = ACCUMULATOR_LIMIT - 1 - 127 * ACTIVATION_LIMIT * channels - (1 << shift - 1)
    return pointwise(weight, bias, shift, -(2**23), 2**23)


def one_more(layer):
    return dataclasses.replace(layer, bias=layer.bias + np.int32(1))


@pytest.mark.parametrize("shift", [1, 7, 15])
def test_the_limit_is_exact(shift):
    layer = at_the_limit(shift)
    assert prove("n", IntegerNetwork((layer,))) == ACCUMULATOR_LIMIT - 1
    with pytest.raises(
        BadBundle, match=rf"pointwise layer of 'n' may reach {ACCUMULATOR_LIMIT} in channel 0"
    ):
        prove("n", IntegerNetwork((one_more(layer),)))
    negative = dataclasses.replace(layer, bias=-layer.bias - np.int32(1))
    with pytest.raises(BadBundle):
        prove("n", IntegerNetwork((negative,)))


@pytest.mark.parametrize("shift", [1, 7, 15])
@pytest.mark.parametrize("sign", [1, -1])
def test_engines_are_exact_at_the_limit(shift, sign):
    layer = at_the_limit(shift)
    if sign < 0:
        layer = dataclasses.replace(layer, bias=-layer.bias)
    network = IntegerNetwork((layer,))
    engine = OrtEngine(integer_graph(network), threads=1)
    rng = np.random.default_rng(0)
    for x in (np.full((200, 8, 8), 127 * sign), rng.integers(-127, 128, (200, 8, 8))):
        acc = (layer.weight.astype(np.int64)[0] @ x.reshape(200, -1)) + int(layer.bias[0])
        expected = (acc + (1 << shift - 1)) >> shift
        (seen,) = engine({"x": x[None].astype(np.float32)})
        assert seen.ravel().astype(np.int64).tolist() == expected.tolist()
        assert network(x)[0].ravel().astype(np.int64).tolist() == expected.tolist()


def test_the_worst_channel_is_named():
    layer = pointwise(np.zeros((5, 3)), [0, 5, 0, -ACCUMULATOR_LIMIT, 9])
    with pytest.raises(BadBundle, match="in channel 3"):
        prove("n", IntegerNetwork((layer,)))


def test_the_range_of_a_layer_bounds_the_next():
    first = pointwise(np.ones((1, 1)), 0, low=-1000, high=10)
    second = pointwise([[100]], 0)
    assert prove("n", IntegerNetwork((first, second))) == 100 * 1000 + 1
    wide = dataclasses.replace(first, low=-50_000)
    with pytest.raises(BadBundle):
        prove("n", IntegerNetwork((wide, second)))
    with pytest.raises(BadBundle):
        prove("n", IntegerNetwork((wide,), (pointwise([[1]], 0), second)))


def test_shuffles_keep_the_range():
    first = pointwise(np.ones((4, 1)), 0, low=-1000, high=10)
    assert prove("n", IntegerNetwork((first, SHUFFLE, pointwise([[100]], 0)))) == 100 * 1000 + 1


def test_the_most_negative_weight_counts_in_full():
    assert prove("n", IntegerNetwork((pointwise([[-128]], 0),))) == 128 * 127 + 1


@given(st.integers(0, 2**32 - 1))
def test_nothing_exceeds_its_bound(seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (4, 3, 3), dtype=np.int8)
    trunk = pointwise(rng.integers(-128, 128, (4, 6)), rng.integers(-999, 999, 4), 5)
    depth = IntegerLayer(
        "depthwise",
        weight,
        rng.integers(-999, 999, 4).astype(np.int32),
        np.ones(4, np.uint8),
        -(2**24),
        2**24,
    )
    bound = prove("n", IntegerNetwork((trunk, depth)))
    # the worst input of each channel, were it in reach
    worst = 127 * np.abs(weight.astype(int)).sum((1, 2)) + np.abs(depth.bias) + 1
    first = 127 * np.abs(trunk.weight.astype(int)).sum(1) + np.abs(trunk.bias) + 16
    assert bound == max(worst.max(), first.max())


def test_a_network_built_to_overflow_is_refused_for_a_reason():
    """2**24 + 1 is no float32: an engine rounds it away, and its probe tells."""
    layer = pointwise([[1]], 2**24, 1, -(2**30), 2**30)
    network = IntegerNetwork((layer,))
    with pytest.raises(BadBundle, match=r"may reach 16777344 .* float32 carries exactly"):
        prove("n", network)
    graph = integer_graph(network)
    x = np.ones((1, 1, 1, 1), np.float32)
    assert network(x[0])[0].item() == 2**23 + 1
    assert OrtEngine(graph, threads=1)({"x": x})[0].item() == 2**23
    right = digest(network(probe_input(1)))
    with pytest.warns(TrellicWarning, match="'n' are wrong"):
        exact = ExactNetwork("n", network, right, lambda: OrtEngine(graph, threads=1))
    assert exact(x[0])[0].item() == 2**23 + 1


def test_the_bundles_that_ship_are_proved(tiny):
    for bundle in (tiny.bundle, Bundle(find("photo"))):
        for name, network in bundle.networks.items():
            assert 0 < prove(name, network) < ACCUMULATOR_LIMIT
