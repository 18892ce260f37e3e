"""Weights in float16 where that loses nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from trellic.engines.ort import OrtEngine
from trellic_export import builder, graphs
from trellic_export.halves import LEAST, halved, whole

from .conftest import DETAILED, shaken

CONFIG = DETAILED.model_copy(update={"modulated": True, "wide": 24, "deep": 32})


@pytest.fixture(params=[True, False], ids=["float16", "float32"])
def decoder(request):
    """A g_s, its weights as a checkpoint holds them or finer, and whether they are in float16."""
    model = shaken(CONFIG)
    if request.param:
        with torch.no_grad():
            for parameter in model.g_s.parameters():
                parameter.copy_(parameter.half().float())
    return model.g_s, request.param


def kinds(data):
    """Types of the constants that are worth it."""
    constants = onnx.load_from_string(data).graph.initializer
    return {c.data_type for c in constants if np.prod(c.dims) >= LEAST}


def test_a_graph_says_the_same_in_less(decoder):
    network, exact = decoder
    data = graphs.decoder_graph(network, CONFIG.latents)
    large = whole(data)
    assert kinds(large) == {TensorProto.FLOAT}
    assert (TensorProto.FLOAT16 in kinds(data)) == exact
    assert (len(data) < 0.7 * len(large)) == exact
    assert halved(large) == data
    rng = np.random.default_rng(0)
    latents = rng.normal(0, 5, (2, CONFIG.latents, 4, 6)).astype(np.float32)
    inputs = {"latents": latents, "quality": np.array([20, 90], np.float32)}
    pictures = [OrtEngine(g, threads=1)(inputs)[0] for g in (data, large)]
    np.testing.assert_array_equal(*pictures)


def test_integer_networks_stay_as_they_are(tiny):
    """Rule R2 names the operators that they may have."""
    for name, graph in tiny.bundle.manifest.exact.items():
        model = onnx.load_from_string(tiny.bundle.graph(graph))
        assert "Cast" not in {node.op_type for node in model.graph.node}, name


def test_values_beyond_float16_are_left():
    values = np.linspace(0, 1, LEAST, dtype=np.float32)
    for spoiled in (1e6, 1 + 2.0**-12, np.float32(2.0**-30)):
        values[:] = 0.5
        values[3] = spoiled
        build = builder.GraphBuilder()
        build.add("Add", "x", build.constant(values), output="y")
        ends = [builder.tensor(name, TensorProto.FLOAT, LEAST) for name in "xy"]
        data = build.finish(ends[:1], ends[1:])
        assert halved(data) == data
