"""Graphs that make much out of little by many small steps: refused before memory is taken."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trellic.codec import Codec
from trellic.errors import BadBundle
from trellic.model.guard import check_graph
from trellic.model.protobuf import fields
from trellic.model.shapes import Shapes

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny.zip"
MEMORY = 4 << 30  # of the process, addresses: what loading the tiny model takes, and some more
STEPS = 34  # doublings: 16 GiB times four
SMALL = numpy_helper.from_array(np.zeros((1, 1, 1, 4), np.float32), "c")


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], **attributes)


def graph_of(nodes, constants=(), more=()):
    """A graph whose last result is added to what the tiny model's decoder is to give."""
    latents = helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["n", 24, "h", "w"])
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "H", "W", 3])
    last = nodes[-1].output[0]
    ends = [node("Cast", [last], "image", to=TensorProto.UINT8)]
    graph = helper.make_graph([*nodes, *more, *ends], "g", [latents], [image], list(constants))
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def doubled(start, step):
    """A chain of nodes each of which makes twice of what the one before it made."""
    names = [start, *(f"t{i}" for i in range(STEPS))]
    return [step(a, b) for a, b in pairwise(names)]


def constant(values, name, kind=np.int64):
    return numpy_helper.from_array(np.asarray(values, kind), name)


def concat(a, b):
    return node("Concat", [a, a], b, axis=3)


def padded(a, b):
    return node("Pad", [a, "pads"], b)


def gathered(a, b):
    return node("Gather", [a, "many"], b, axis=3)


def outer():
    """Two long rows of constants: their sums, and those of their sums."""
    row = constant(np.zeros((1, 1 << 18)), "row", np.float32)
    column = constant(np.zeros((1 << 18, 1)), "column", np.float32)
    return row, column


CHAINS = {
    "concat": (doubled("c", concat), [SMALL]),
    "concat of the input": (doubled("latents", concat), []),
    "pad": (doubled("c", padded)[:8], [SMALL, constant([0] * 6 + [1 << 12] * 2, "pads")]),
    "pad of all sides": (
        doubled("c", padded)[:1],
        [SMALL, constant([0, 0] + [1 << 15] * 2 + [0, 0] + [1 << 15] * 2, "pads")],
    ),
    "gather": (doubled("latents", gathered), [constant([[0] * 64] * 64, "many")]),
    "gather of constants": (doubled("c", gathered), [SMALL, constant([[0] * 64] * 64, "many")]),
    "sum": ([node("Add", ["row", "column"], "t")], outer()),
    "product": ([node("MatMul", ["column", "row"], "t")], outer()),
    "gemm": ([node("Gemm", ["row", "row"], "t", transA=1)], outer()),
    "square of the input": (
        [
            node("Flatten", ["latents"], "f"),
            node("Transpose", ["f"], "g"),
            node("MatMul", ["g", "f"], "t"),
        ],
        [],
    ),
    "transposed convolution": (
        doubled("c", lambda a, b: node("ConvTranspose", [a, "w"], b, strides=[1, 1024]))[:4],
        [SMALL, constant(np.zeros((1, 1, 1, 1)), "w", np.float32)],
    ),
    "padded convolution": (
        doubled("c", lambda a, b: node("Conv", [a, "w"], b, pads=[1024] * 4))[:6],
        [SMALL, constant(np.zeros((1, 1, 1, 1)), "w", np.float32)],
    ),
    "many results": (
        [node("Add", ["big", "big"], f"t{i}") for i in range(600)],
        [constant(np.zeros(1 << 16), "big", np.float32)],
    ),
    "blocks": (
        [
            node("Concat", ["c"] * 4096, "t", axis=1),
            node("DepthToSpace", ["t"], "d", blocksize=64),
            node("Concat", ["d"] * 9000, "e", axis=0),
        ],
        [SMALL],
    ),
}  # fmt: skip


def chain(name):
    nodes, constants = CHAINS[name]
    return graph_of(nodes, constants).SerializeToString()


@pytest.mark.parametrize("name", CHAINS)
def test_chains_are_refused(name):
    with pytest.raises(BadBundle, match="makes too much of its"):
        check_graph(chain(name))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Abs", ["nothing"], "t")], "comes from nowhere"),
        ([node("Concat", ["latents"], "t", axis=9)], "do not fit"),
        ([node("Transpose", ["latents"], "t", perm=[7])], "do not fit"),
        ([node("Gemm", ["latents"], "t")], "do not fit"),
    ],
)
def test_nodes_whose_shape_is_not_known(nodes, message):
    with pytest.raises(BadBundle, match=message):
        check_graph(graph_of(nodes).SerializeToString())


LOAD = """
import resource, sys
from trellic.codec import Codec
from trellic.errors import BadBundle
import numpy as np
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
try:
    codec = Codec(sys.argv[1], device="cpu", threads=1)
    codec.decode(open(sys.argv[2], "rb").read())
except BadBundle as error:
    lines = open("/proc/self/status").read().splitlines()
    print("refused", *(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def bundle_with(path, graph):
    """Write the tiny bundle with another graph for its decoder."""
    with zipfile.ZipFile(TINY) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files["manifest.json"])
    files["graphs/quality.onnx"] = graph
    manifest["sha256"]["graphs/quality.onnx"] = hashlib.sha256(graph).hexdigest()
    files["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_process_with_little_memory_refuses_them(tmp_path):
    """In one process, with a limit of addresses, that a chain would run into."""
    bundle = bundle_with(tmp_path / "evil.zip", chain("concat"))
    stream = tmp_path / "a.tlc"
    stream.write_bytes(Codec(TINY, threads=1).encode(np.zeros((16, 16, 3), np.uint8)))
    done = subprocess.run(
        [sys.executable, "-c", LOAD.format(memory=MEMORY), bundle, stream],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("refused"), done.stderr
    assert int(done.stdout.split()[1]) < 600 << 10, "KiB"


def shapes_by_onnx(model):
    """Shapes of all results, by onnx's own inference at fixed sizes of the inputs."""
    for value in model.graph.input:
        for i, side in enumerate(value.type.tensor_type.shape.dim):
            if not side.dim_value:
                side.dim_value = 256 if i else 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {
        value.name.encode(): tuple(side.dim_value for side in value.type.tensor_type.shape.dim)
        for value in inferred.graph.value_info
    }


@pytest.mark.parametrize("bundle", ["tests/data/tiny.zip", "runtime/trellic/models/photo.zip"])
def test_shapes_are_those_of_onnx(bundle):
    """For every result of every graph of our bundles that onnx knows the shape of."""
    seen = 0
    with zipfile.ZipFile(ROOT / bundle) as archive:
        for name in archive.namelist():
            if not name.endswith(".onnx"):
                continue
            model = onnx.load_from_string(archive.read(name))
            expected = shapes_by_onnx(model)
            graph = model.graph.SerializeToString()
            constants = {t.name.encode(): t.SerializeToString() for t in model.graph.initializer}
            shapes = Shapes(graph, constants)
            for number, one in fields(graph):
                if number == 1:
                    shapes.add(one)
            for result, shape in expected.items():
                if 0 not in shape:
                    assert shapes.of[result] == shape, (name, result)
                    seen += 1
    assert seen > 100
