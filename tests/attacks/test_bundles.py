"""Bundles made to do harm: each is refused before an engine sees it or memory is taken."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trellic.codec import Codec
from trellic.errors import BadBundle
from trellic.model.bundle import Bundle, read_manifest
from trellic.model.guard import check_graph

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(TINY) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, files: list[tuple[str, bytes]]) -> Path:
    """Write a bundle; its manifest vouches for all other files."""
    manifest = json.loads(dict(files)["manifest.json"])
    manifest["sha256"] = {n: hashlib.sha256(d).hexdigest() for n, d in files if "manifest" not in n}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            data = json.dumps(manifest).encode() if name == "manifest.json" else data
            archive.writestr(name, data)
    return path


# ---- graphs ----


def model(*nodes, constants=(), functions=(), domain="") -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], list(constants))
    return helper.make_model(graph, functions=list(functions))


def external(location: str) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "c")
    onnx.external_data_helper.set_external_data(tensor, location)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    return tensor


def nested() -> onnx.NodeProto:
    inner = model().graph
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)


def constant_node() -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["y"], value=external("secret"))


def own_function() -> onnx.FunctionProto:
    opset = [helper.make_opsetid("", 17)]
    return helper.make_function("own", "F", ["x"], ["y"], model().graph.node, opset)


GRAPHS = {
    "reads a file": (model(constants=[external("/etc/passwd")]), "another file"),
    "climbs out": (model(constants=[external("../../secret")]), "another file"),
    "reads in a node": (model(constant_node()), "another file"),
    "custom operator": (model(domain="com.evil"), "domain b'com.evil'"),
    "contrib operator": (model(domain="com.microsoft"), "domain"),
    "nested": (model(nested()), "nested graph"),
    "function": (model(functions=[own_function()]), "functions of its own"),
    "many nodes": (model(*[helper.make_node("Relu", ["x"], ["y"])] * 10_001), "10001 nodes"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_want_more(tmp_path, name):
    graph, message = GRAPHS[name]
    files = members() | {"graphs/quality.onnx": graph.SerializeToString()}
    codec = Codec(packed(tmp_path / "evil.zip", list(files.items())), threads=1)
    data = codec.encode(np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(BadBundle, match=message):
        codec.decode(data)


def test_plain_graphs_are_let_through():
    check_graph(model().SerializeToString())
    for name, data in members().items():
        if name.endswith(".onnx"):
            check_graph(data)


@pytest.mark.parametrize(
    "data", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 12, b"no graph"]
)
def test_what_is_no_graph(data):
    with pytest.raises(BadBundle, match="graph of the bundle"):
        check_graph(data)


@pytest.mark.parametrize("cut", [1, 10, 100, 1000])
def test_graphs_cut_short(cut):
    graph = members()["graphs/quality.onnx"]
    with pytest.raises(BadBundle, match="graph of the bundle"):
        check_graph(graph[:-cut])


# ---- zip files ----


@pytest.mark.parametrize("name", ["../../evil.txt", "/tmp/evil.txt", "graphs/../../evil.txt"])
def test_members_are_never_unpacked_to_files(tmp_path, name, monkeypatch):
    """Zip-slip: the names of members are never paths; what no field names is never used."""
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    path = packed(inner / "slip.zip", [*members().items(), (name, b"evil")])
    Bundle(path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["slip.zip"]


def test_two_members_of_one_name(tmp_path):
    files = list(members().items())
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = packed(tmp_path / "twice.zip", [*files, files[-1]])
    with pytest.raises(BadBundle, match="members of"):
        Bundle(path)


def test_too_many_members(tmp_path):
    files = [*members().items(), *((f"m{i}", b"") for i in range(300))]
    with pytest.raises(BadBundle, match="at most 256"):
        Bundle(packed(tmp_path / "many.zip", files))


def test_a_bomb_in_a_member_takes_no_memory(tmp_path):
    path = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("manifest.json", "w") as member,
    ):
        for _ in range(300):
            member.write(bytes(1 << 20))
    tracemalloc.start()
    with pytest.raises(BadBundle, match="once unpacked"):
        read_manifest(path)
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_deeply_nested_manifests(tmp_path):
    path = tmp_path / "deep.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "[" * 100_000)
    with pytest.raises(BadBundle, match="no valid manifest"):
        Bundle(path)
