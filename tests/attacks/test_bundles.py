"""Bundles made to do harm: each is refused before an engine sees it or memory is taken."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trellic.codec import Codec
from trellic.errors import BadBundle, TrellicWarning
from trellic.model import archive, bundle
from trellic.model.bundle import Bundle, read_manifest
from trellic.model.guard import OPERATORS, check_graph

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny.zip"


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


def shaped(operator: str, kind=TensorProto.INT64, values=(1,), **attributes) -> onnx.ModelProto:
    """A node whose second input, a constant, sets its shape."""
    shape = helper.make_tensor("s", kind, [len(values)], values)
    return model(helper.make_node(operator, ["x", "s"], ["y"], **attributes), constants=[shape])


def computed_padding() -> onnx.ModelProto:
    """A padding that is no constant but made of one, by an addition."""
    part = numpy_helper.from_array(np.full(2, 1 << 15, np.int64), "s")
    add = helper.make_node("Add", ["s", "s"], ["t"])
    return model(add, helper.make_node("Pad", ["x", "t"], ["y"]), constants=[part])


def two_of_a_name() -> onnx.ModelProto:
    small, large = (
        numpy_helper.from_array(np.full(2, value, np.int64), "s") for value in (0, 1 << 40)
    )
    return model(helper.make_node("Pad", ["x", "s"], ["y"]), constants=[large, small])


def convolution(**attributes) -> onnx.ModelProto:
    return model(helper.make_node("Conv", ["x", "w"], ["y"], **attributes))


BOMBS = {
    "operator": (model(helper.make_node("ConstantOfShape", ["x"], ["y"])), "b'ConstantOfShape'"),
    "expand": (shaped("Expand"), "b'Expand'"),
    "tile": (shaped("Tile"), "b'Tile'"),
    "resize": (shaped("Resize"), "b'Resize'"),
    "loop": (model(helper.make_node("Loop", ["x"], ["y"])), "b'Loop'"),
    "no operator": (model(helper.make_node("", ["x"], ["y"])), "operator b''"),
    "padding": (shaped("Pad", values=[0, 1 << 40]), "1099511627776"),
    "negative padding": (shaped("Pad", values=[0, -(1 << 40)]), "1099511627776"),
    "padding of 2^63 - 1": (shaped("Pad", values=[0, 2**63 - 1]), "9223372036854775807"),
    "padding of another type": (shaped("Pad", TensorProto.INT32), "type 6"),
    "padding by an input": (model(helper.make_node("Pad", ["x", "x"], ["y"])), "not constant"),
    "padding by a sum": (computed_padding(), "not constant"),
    "split": (shaped("Split", values=[1 << 40]), "1099511627776"),
    "two constants": (two_of_a_name(), "two constants"),
    "padded convolution": (convolution(pads=[0, 0, 1 << 30, 0]), "1073741824"),
    "kernel": (convolution(kernel_shape=[1 << 20, 1]), "1048576"),
    "stride of nothing": (convolution(strides=[0, 1]), "b'strides' of 0"),
    "negative dilation": (convolution(dilations=[-1, 1]), "b'dilations' of -1"),
    "no group": (convolution(group=0), "b'group' of 0"),
    "blocks": (model(helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=1 << 20)), "1048576"),
    "cast to a shape": (model(helper.make_node("Cast", ["x"], ["y"], to=7)), "cast to type 7"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_graphs_that_would_take_memory_or_run_what_they_like(name):
    graph, message = BOMBS[name]
    with pytest.raises(BadBundle, match=re.escape(message)):
        check_graph(graph.SerializeToString())


def test_integers_may_be_packed_or_not():
    """protobuf's parsers read both forms of a list, so both are looked at."""
    graph = convolution(pads=[0, 0, 1 << 30, 0]).SerializeToString()
    pads = b"".join(b"\x40" + number for number in (b"\0", b"\0", b"\x80\x80\x80\x80\x04", b"\0"))
    packed = b"\x42\x08\0\0\x80\x80\x80\x80\x04\0"
    assert graph.count(pads) == 1
    with pytest.raises(BadBundle, match="1073741824"):
        check_graph(relabelled(graph, pads, packed))


def relabelled(graph: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes in an attribute, and mend the lengths of all messages around it."""
    changed = onnx.ModelProto.FromString(graph)
    node = changed.graph.node[0]
    attribute = node.attribute[0].SerializeToString().replace(old, new)
    head = node.SerializeToString().replace(
        b"\x2a"
        + bytes([len(node.attribute[0].SerializeToString())])
        + node.attribute[0].SerializeToString(),
        b"\x2a" + bytes([len(attribute)]) + attribute,
    )
    body = b"\x0a" + bytes([len(head)]) + head
    return b"\x3a" + bytes([len(body)]) + body


def test_every_operator_of_the_exporter_is_known():
    """What `trellic export` writes is what the guard lets through."""
    source = (ROOT / "export" / "trellic_export").rglob("*.py")
    text = "".join(path.read_text() for path in source)
    written = set(re.findall(r'(?:add|make_node)\(\s*"([A-Z]\w+)"', text))
    assert len(written) > 20
    assert {name.encode() for name in written} <= OPERATORS


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


def peak_while_refused(path: Path, *reads) -> int:
    """Most bytes that Python takes while a bundle is refused, in every way of reading it."""
    tracemalloc.start()
    try:
        for read in reads or (Bundle, read_manifest):
            with pytest.raises(BadBundle):
                read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def lying(path: Path, method: int, name: str = "manifest.json") -> Path:
    """A zip whose member says that it is small, and unpacks to 64 MB."""
    with zipfile.ZipFile(path, "w", method, compresslevel=9) as file:
        file.writestr(name, bytes(64 << 20))
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2")
    struct.pack_into("<L", data, at + 24, 1000)
    struct.pack_into("<L", data, 22, 1000)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_are_larger_than_they_say(tmp_path, method):
    """By bzip2 1,550 bytes of zip took 3.9 GB: its reader knows no bound."""
    path = lying(tmp_path / "bomb.zip", method)
    assert path.stat().st_size < 100_000
    assert peak_while_refused(path) < 2 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_arrays_that_are_larger_than_they_say(tmp_path, method):
    inner = lying(tmp_path / "inner.zip", method, "a.npy").read_bytes()
    path = packed(tmp_path / "bomb.zip", [*(members() | {"normative.npz": inner}).items()])
    assert peak_while_refused(path, Bundle) < 4 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused_by_name(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members().items():
            file.writestr(name, data)
    with pytest.raises(BadBundle, match=f"by method {method}; expected 0 .stored. or 8"):
        Bundle(path)


def test_stored_members_are_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as file:
        for name, data in members().items():
            file.writestr(name, data)
        file.comment = b"with a comment"
    assert Bundle(tmp_path / "a.zip").manifest.name == "tiny"


def test_encrypted_members_are_refused(tmp_path):
    data = bytearray(packed(tmp_path / "a.zip", [*members().items()]).read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.index(signature)
        data[at + flags] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BadBundle, match="encrypted"):
        Bundle(tmp_path / "a.zip")


def test_long_lists_of_members_are_not_read(tmp_path):
    """A quarter of a million empty members: 12 MB of list, and 20 times that in memory."""
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"m"
    count = 250_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, count * len(entry), 0, 0)
    path = tmp_path / "long.zip"
    path.write_bytes(entry * count + end)
    assert peak_while_refused(path) < 1 << 20
    with pytest.raises(BadBundle, match="lists its members in"):
        Bundle(path)


def test_lists_with_64_bit_fields_are_not_read(tmp_path):
    """Python takes sizes from such a field whatever the ordinary ones say."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 50, 0, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    (tmp_path / "large.zip").write_bytes(bytes(100) + locator + end)
    with pytest.raises(BadBundle, match="64-bit fields"):
        Bundle(tmp_path / "large.zip")


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "sparse.zip"
    with path.open("wb") as file:
        file.truncate(archive.MAX_PACKED + 1)
    assert peak_while_refused(path) < 1 << 20


def test_a_manifest_that_is_too_large_is_not_parsed(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.json", b"[" + b"[]," * (2 << 20) + b"[]]")
    assert peak_while_refused(tmp_path / "a.zip") < 20 << 20


def arrays(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed_file:
        for i, content in enumerate(contents):
            packed_file.writestr(f"a{i}.npy", content)
    return file.getvalue()


def npy(shape: str, kind: str = "<i8", data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    "content",
    [
        npy("(1125899906842624,)"),
        npy("(-1, -1)", data=bytes(8)),
        npy("(0, -1)"),
        npy("(0, 1180591620717411303424)"),
        npy("(2,)", data=bytes(8)),
        npy("(1,)", data=bytes(9)),
        npy("(1,)", "|O", bytes(8)),
        npy("(5,)", "<U0"),
        npy("()", "no type", bytes(8)),
        npy(
            "([[[[",
        ),
        npy("(1,)", data=bytes(8), version=b"\3\0"),
        npy("(1,)", data=bytes(8), version=b"\xff\xff"),
    ],
    ids=lambda content: repr(content[10:70]),
)
def test_arrays_that_are_not_what_they_say(content):
    tracemalloc.start()
    try:
        with pytest.raises(BadBundle, match="integers cannot be read"):
            archive.load_arrays(arrays(content), "the integers")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


# ---- what lies in a folder of models ----


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder of the user and one of the package, both empty, and nothing else."""
    monkeypatch.delenv(bundle.MODELS_VARIABLE, raising=False)
    for name in ("user", "package/models"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(bundle, "user_folder", lambda: tmp_path / "user")
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "package" / "model" / "bundle.py"))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="no such files")
@pytest.mark.parametrize("kind", ["pipe", "zero", "folder", "nowhere", "loop", "socket"])
def test_what_is_no_file_blocks_nobody(world, kind):
    path = world / "user" / "a.zip"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "zero":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "nowhere":
            path.symlink_to("gone.zip")
        case "loop":
            path.symlink_to("a.zip")
        case "socket":
            with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
                server.bind(path.name)
    packed(world / "user" / "b.zip", [*members().items()])
    assert [found.name for found, _ in bundle.installed()] == ["b.zip"]
    with pytest.raises(BadBundle):
        Bundle(path)


def shipped(world: Path) -> Path:
    """The model ``cifar`` in the package's folder."""
    source = ROOT / "runtime" / "trellic" / "models" / "cifar.zip"
    return Path(shutil.copy(source, world / "package" / "models"))


def altered(source: Path, target: Path, **fields) -> Path:
    """A bundle like another one, valid in itself, with other fields in its manifest."""
    with zipfile.ZipFile(source) as file:
        files = {name: file.read(name) for name in file.namelist()}
    manifest = json.loads(files["manifest.json"]) | fields
    files["manifest.json"] = json.dumps(manifest).encode()
    return packed(target, [*files.items()])


def test_the_digests_in_the_code_are_those_of_what_ships():
    """Whoever exports a shipped model anew changes them with it."""
    folder = ROOT / "runtime" / "trellic" / "models"
    found = {}
    for path in folder.glob("*.zip"):
        manifest = read_manifest(path)
        with zipfile.ZipFile(path) as file:
            digest = hashlib.sha256(file.read("manifest.json")).hexdigest()
        found[manifest.name] = (manifest.stream_id, digest)
        assert bundle.stands_in_for(path, manifest) == ""
    assert found == bundle.SHIPPED


def test_the_shipped_model_is_found_without_a_word(world, recwarn):
    path = shipped(world)
    assert bundle.find("cifar") == bundle.find_stream("49a80348") == path
    assert not recwarn


@pytest.mark.parametrize("name", ["cifar", "harmless"])
def test_a_stand_in_for_a_shipped_model_is_named(world, name):
    """Of the same stream id, with a decoder of its own: pictures would be what it makes of them."""
    shipped(world)
    path = altered(shipped(world), world / "user" / "a.zip", name=name, description="better")
    with pytest.warns(TrellicWarning, match=rf"{path} stands in for the model 'cifar'"):
        assert bundle.find_stream("49a80348") == path
    if name == "cifar":
        with pytest.warns(TrellicWarning, match="stands in for"):
            assert bundle.find("cifar") == path


def test_a_model_of_a_shipped_name_is_named(world):
    """Of another stream id: what is encoded with it decodes with it alone."""
    shipped(world)
    path = altered(TINY, world / "user" / "a.zip", name="cifar")
    with pytest.warns(TrellicWarning, match="stands in for the model 'cifar'"):
        assert bundle.find("cifar") == path


def test_a_path_needs_no_warning(world, recwarn):
    path = altered(TINY, world / "a.zip", name="photo")
    assert Codec(path, threads=1).model == "photo"
    assert not recwarn


# ---- trellic models ----


def test_adding_what_takes_the_place_of_another_is_refused(world, trellic):
    original = shipped(world)
    cases = {
        "name and stream id": altered(original, world / "a.zip", description="better"),
        "stream id": altered(original, world / "b.zip", name="harmless"),
        "name": altered(TINY, world / "c.zip", name="cifar"),
    }
    for what, path in cases.items():
        result = trellic("models", "add", path)
        assert (result.code, result.out) == (1, "")
        assert str(original) in result.err
        assert "--replace" in result.err
        assert all(word in result.err for word in what.split(" and "))
        assert not list((world / "user").iterdir())
    assert trellic("models", "add", "--replace", cases["stream id"]).code == 0
    with pytest.warns(TrellicWarning, match="stands in for"):
        assert bundle.find_stream("49a80348").parent == world / "user"
    assert "stands in for the 'cifar'" in trellic("models").out


def test_adding_again_or_something_new_is_not(world, trellic):
    for _ in range(2):
        assert trellic("models", "add", TINY).code == 0
    assert trellic("models", "add", shipped(world)).code == 0


def test_the_newest_of_a_name_is_taken(world, trellic):
    assert trellic("models", "add", TINY).code == 0
    added = bundle.find("tiny")
    os.utime(added, ns=(0, 0))
    other = altered(ROOT / "runtime/trellic/models/cifar.zip", world / "other.zip", name="tiny")
    assert trellic("models", "add", "--replace", other).code == 0
    with pytest.warns(TrellicWarning, match="stands in for the model 'cifar'"):
        assert bundle.read_manifest(bundle.find("tiny")).stream_id == "49a80348"
    assert bundle.find_stream("4dd6cdd4") == added


@pytest.mark.skipif(sys.platform == "win32", reason="no such files")
def test_adding_what_is_no_file(world, trellic):
    os.mkfifo(world / "pipe.zip")
    for path in (world / "pipe.zip", "/dev/zero", world):
        result = trellic("models", "add", path)
        assert result.code == 1
        assert "not a regular file" in result.err


FOREIGN = "\x1b]0;title\x07 \x1b[31mred\n[bold]x[/bold] [/] \u202egnp.exe \ud800 \x9b2J"


def test_foreign_text_is_printed_as_text(world, trellic):
    manifest = json.loads(members()["manifest.json"])
    decoders = manifest["decoders"]
    decoders["quality"]["purpose"] = FOREIGN
    altered(
        TINY, world / "user" / "a\x1b.zip", description=FOREIGN, licence=FOREIGN, decoders=decoders
    )
    out = trellic("models").out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert r"\x1b]0;title\x07" in out
    assert "[bold]x[/bold]" in out
    assert r"\u202e" in out
    (line,) = trellic("models", "--json").out.splitlines()
    assert line.isascii()
    assert json.loads(line)["description"] == FOREIGN
