"""Layers of integer networks that a kernel finishes: the reference's integers."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda")
pytest.importorskip("torch")

import torch
from twins import device

from trellic.gpu.exact import requantize
from trellic.integer.networks import IntegerLayer, evaluate
from trellic.limits import ACCUMULATOR_LIMIT
from trellic.model.bundle import Bundle
from trellic_export.torch_graph import LAYER, TorchGraph

TINY = Path(__file__).parent.parent / "data" / "tiny.zip"


def finish(y, bias, scale, low, high):
    """Do with tensors of the host what `finish_on` does with those of a GPU."""
    on = device().upload("sums", y.numpy())
    given = [device().upload(name, one.numpy()) for name, one in (("bias", bias), ("scale", scale))]
    requantize(device(), on, *given, low, high)
    y.copy_(torch.from_numpy(device().fetch(on)))


def test_a_layer_is_that_of_the_reference():
    """Sums up to the limit, every shift, halves that are rounded up, both ends of the range."""
    rng = np.random.default_rng(0)
    channels, shape = 21, (2, 21, 3, 7)
    shift = np.arange(1, channels + 1).astype(np.uint8)
    bias = rng.integers(-(2**15), 2**15, channels).astype(np.int32)
    most = np.minimum(ACCUMULATOR_LIMIT, 300 << shift.astype(np.int64))[:, None, None]
    sums = np.clip(rng.integers(-most, most, shape), 2**15 - 2**22, 2**22 - 2**15)
    sums[0, :, 0, 0] = (1 << (shift.astype(np.int64) - 1)) - bias  # a half
    layer = IntegerLayer("pointwise", np.eye(channels, dtype=np.int8), bias, shift, -127, 90)
    found = torch.from_numpy(sums.astype(np.float32))
    scale = torch.from_numpy(np.exp2(-shift.astype(np.float32)))
    finish(found, torch.from_numpy(bias.astype(np.float32)), scale, -127, 90)
    expected = np.stack([evaluate(layer, one.astype(np.float64)) for one in sums])
    assert found.numpy().tolist() == expected.tolist()
    assert {-127, 0, 1, 90} <= set(expected.ravel())


def test_networks_with_one_pass_behind_each_convolution():
    bundle = Bundle(TINY)
    rng = np.random.default_rng(1)
    for name, network in bundle.networks.items():
        graph = TorchGraph(bundle.graph(bundle.manifest.exact[name]), finish=finish)
        layers = graph.operators.count("Conv")
        shuffles = graph.operators.count("DepthToSpace")
        assert len(graph.operators) == len(LAYER) * layers + shuffles
        assert len(graph._nodes) == layers + shuffles  # all were recognised
        x = rng.integers(-127, 128, (1, network.channels_in, 2, 4)).astype(np.float32)
        found = graph({"x": torch.from_numpy(x)})
        for n, one in enumerate(x):
            for output, expected in zip(found, network(one), strict=True):
                assert np.array_equal(output[n].numpy(), expected)
