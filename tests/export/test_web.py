"""``trellic export --web``: the folder, its graphs, and what it says when something is missing."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from trellic.errors import BadParameter, UnknownDecoder
from trellic.model import archive
from trellic_export.bundle import members
from trellic_export.web import WebOptions, export_web
from trellic_export.web.folder import SCRIPTS
from trellic_export.web.program import compile_decoder, packed


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny):
    out = tmp_path_factory.mktemp("web")
    files = export_web(tiny.bundle, out)
    return out, files, json.loads((out / "model.json").read_text())


def test_every_file_is_there_as_it_is_listed(written):
    out, files, model = written
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == set(files)
    assert {path.name for path in SCRIPTS.iterdir()} < set(files)
    programs = [decoder["program"] for decoder in model["decoders"].values()]
    for entry in [model["integers"], model["kernels"], *programs]:
        assert hashlib.sha256((out / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]


def test_the_integers_are_those_of_the_bundle(written, tiny):
    out, _, model = written
    arrays = archive.load_arrays(members(tiny.bundle)["normative.npz"], "here")
    data = (out / "integers.bin").read_bytes()
    assert set(model["arrays"]) == set(arrays)
    for name, entry in model["arrays"].items():
        count = int(np.prod(entry["shape"]))
        seen = np.frombuffer(data, entry["dtype"], count, entry["offset"])
        assert np.array_equal(seen.reshape(entry["shape"]), arrays[name])
        assert entry["offset"] % 16 == 0


def program_of(*nodes, constants=()):
    """Compile nodes from `latents` to `v`, with the usual end after it."""
    numbers = {"half": 0.5, "full": 255.0, "zero": 0.0}
    initializers = [*constants]
    initializers += [numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items()]
    end = [
        helper.make_node("DepthToSpace", ["v"], ["e0"], blocksize=2, mode="CRD"),
        helper.make_node("Add", ["e0", "half"], ["e1"]),
        helper.make_node("Mul", ["e1", "full"], ["e2"]),
        helper.make_node("Clip", ["e2", "zero", "full"], ["e3"]),
        helper.make_node("Round", ["e3"], ["e4"]),
        helper.make_node("Cast", ["e4"], ["e5"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["e5"], ["image"], perm=[0, 2, 3, 1]),
    ]
    x = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["n", 12, "h", "w"])
    y = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "H", "W", 3])
    graph = helper.make_graph([*nodes, *end], "g", [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return compile_decoder(model.SerializeToString(), 12)


def test_a_leaky_relu_and_a_sum_become_part_of_the_convolution_before():
    w = numpy_helper.from_array(np.ones((12, 12, 1, 1), np.float32), "w")
    program = program_of(
        helper.make_node("Conv", ["latents", "w"], ["a"]),
        helper.make_node("LeakyRelu", ["a"], ["b"], alpha=0.25),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("Add", ["c", "b"], ["v"]),
        constants=[w],
    )
    first, second, _ = program.operations
    assert (first["out"], first["slope"], first["added"]) == ("b", 0.25, None)
    assert (second["out"], second["slope"], second["added"]) == ("v", 1, "b")


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("Sqrt", ["latents"], ["v"]), "operator Sqrt"),
        (helper.make_node("Mul", ["latents", "latents"], ["v"]), "a product of maps"),
        (helper.make_node("Add", ["latents", "latents"], ["v"]), "a sum of maps"),
        (helper.make_node("Relu", ["latents"], ["v"]), "follows no convolution"),
        (helper.make_node("Conv", ["latents", "w"], ["v"], strides=[2, 2]), "with strides"),
        (helper.make_node("Conv", ["latents", "large"], ["v"]), "float16 does not hold"),
    ],
)
def test_what_pages_cannot_run_is_refused(node, said):
    one = np.ones((12, 12, 1, 1), np.float32)
    constants = [numpy_helper.from_array(k * one, n) for k, n in ((1, "w"), (1e5, "large"))]
    with pytest.raises(BadParameter, match=said):
        program_of(node, constants=constants)


def test_weights_are_packed_in_blocks_of_8():
    weight = np.random.default_rng(0).normal(size=(12, 5, 3, 3))
    blocks = packed(weight, depthwise=False)
    assert blocks.shape == (2, 9, 8, 8)
    assert blocks[1, 4, 3, 2] == weight[10, 3, 1, 1]
    assert not blocks[1, :, :, 4:].any()
    assert not blocks[:, :, 5:].any()
    taps = packed(weight[:, :1], depthwise=True)
    assert taps.shape == (9, 16)
    assert taps[5, 11] == weight[11, 0, 1, 2]


def test_a_decoder_that_is_missing(tmp_path, tiny):
    with pytest.raises(UnknownDecoder, match="no decoder 'sharp'"):
        export_web(tiny.bundle, tmp_path / "out", WebOptions(("sharp",)))
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, tiny_path, trellic):
    out = tmp_path / "out"
    options = ["--web", out, "--web-decoders", "quality"]
    done = trellic("export", tiny_path, *options)
    assert done.code == 0, done.err
    assert "integers.bin" in done.out
    assert json.loads((out / "model.json").read_text())["defaultDecoder"] == "quality"
    done = trellic("export", tiny_path, tmp_path / "more.zip", *options)
    assert done.code != 0
    assert "2 paths with --web" in done.err
