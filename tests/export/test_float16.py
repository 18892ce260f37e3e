"""Free transforms in float16: the types that a graph names, and nearly the same output."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.engines.precision import choose
from trellic.errors import BadParameter, EngineError
from trellic.model.bundle import Bundle, find
from trellic_export import cli, graphs
from trellic_export.builder import GraphBuilder, tensor
from trellic_export.float16 import PRODUCTS, add_float16, in_float16

from .conftest import DETAILED, shaken

QUALITY = np.array([20, 90], np.float32)


def types(data):
    """Type of every value of a graph."""
    graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    return graph, found | {constant.name: constant.data_type for constant in graph.initializer}


def check_types(data):
    """Products are in float16 to the last input; nothing between two of them is in float32."""
    graph, found = types(data)
    products = [node for node in graph.node if node.op_type in PRODUCTS]
    assert products
    for node in products:
        assert {found[name] for name in (*node.input, *node.output)} == {TensorProto.FLOAT16}
    casts = [node for node in graph.node if node.op_type == "Cast"]
    back = [node for node in casts if found[node.input[0]] == TensorProto.FLOAT16]
    back = [node for node in back if found[node.output[0]] == TensorProto.FLOAT]
    after = {name for node in back for name in node.output}
    for node in graph.node:  # what was cast back never meets a product again
        if after & set(node.input) and node not in casts:
            assert node.op_type not in PRODUCTS
            after |= set(node.output)


@pytest.mark.parametrize("more", [{}, {"modulated": True}, {"nonlocal_hyper": True}])
def test_types_and_outputs(more):
    model = shaken(DETAILED.model_copy(update=more))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 64, 128, 3)).astype(np.uint8)
    latents = rng.normal(0, 3, (2, DETAILED.latents, 4, 8)).astype(np.float32)
    for data, name, x in (
        (graphs.encoder_graph(model.g_a), "image", image),
        (graphs.hyper_encoder_graph(model.h_a), "latents", latents),
        (graphs.decoder_graph(model.g_s, DETAILED.latents), "latents", latents),
    ):
        half = in_float16(data)
        check_types(half)
        assert [v.name for v in types(half)[0].output] == [v.name for v in types(data)[0].output]
        inputs = {name: x, "quality": QUALITY}
        one, other = (OrtEngine(g, threads=1)(inputs)[0] for g in (data, half))
        assert one.dtype == other.dtype
        error = np.abs(one.astype(float) - other).max()
        assert 0 < error <= (1 if one.dtype == np.uint8 else 2e-3 * np.abs(one).max())


def test_what_float16_cannot_hold_is_refused():
    build = GraphBuilder()
    squares = build.add("Mul", "x", "x")
    build.add("Sqrt", squares, output="y")
    ends = [tensor(name, TensorProto.FLOAT, 4) for name in "xy"]
    with pytest.raises(BadParameter, match="squares"):
        in_float16(build.finish(ends[:1], ends[1:]))
    build = GraphBuilder()
    weight = build.constant(np.full((1, 1, 1, 1), 1e6, np.float32))
    build.nodes.append(helper.make_node("Conv", ["x", weight], ["y"]))
    ends = [tensor(name, TensorProto.FLOAT, 1, 1, 4, 4) for name in "xy"]
    with pytest.raises(BadParameter, match="a weight beyond float16"):
        in_float16(build.finish(ends[:1], ends[1:]))


@pytest.mark.long
@pytest.mark.slow("every network of the shipped models on a photo")
def test_the_shipped_models_have_room_in_float16(tmp_path):
    """Their pictures in float16 (computed by the CPU's engine) are those in float32."""
    for name in ("photo", "cifar"):
        bundle = Bundle(find(name))
        out = tmp_path / f"{name}.zip"
        added = add_float16(bundle, out)
        new = Bundle(out)
        assert added == ["g_a", "h_a", *bundle.manifest.decoders]
        assert new.manifest.stream_id == bundle.manifest.stream_id
        assert "fp16" in new.manifest.encoder.precisions
        rng = np.random.default_rng(1)
        layout = bundle.manifest.layout
        codec = Codec(out, "cpu", 1)
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)
        data = codec.encode(pixels, quality=90)
        expected = codec.decode(data)
        graph = new.manifest.decoders["quality"].graph
        engine = OrtEngine(new.graph(graph, "fp16"), threads=1)
        codec._pool._engines["decoder quality"] = engine
        assert np.abs(codec.decode(data).astype(int) - expected).max() <= 2, layout


def test_it_is_for_gpus(tiny_path, tmp_path):
    out = tmp_path / "half.zip"
    assert cli.main([str(tiny_path), str(out), "--fp16"]) == 0
    plain, half = Bundle(tiny_path), Bundle(out)
    assert choose("fp16", half, "cuda") == "fp16"
    assert choose("auto", half, "cuda") == "fp32"
    with pytest.raises(BadParameter, match="device 'cuda' or 'tensorrt'"):
        choose("fp16", half, "cpu")
    with pytest.raises(EngineError, match="has no fp16 graphs"):
        choose("fp16", plain, "cuda")
