"""``trellic export --web``: the folder, its graphs, and what it says when something is missing."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from trellic.engines.exact import digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.errors import BadParameter, UnknownDecoder
from trellic.model import archive
from trellic_export.bundle import members
from trellic_export.web import WebOptions, export_web
from trellic_export.web.folder import ORT_FILES, SCRIPTS
from trellic_export.web.graphs import decoder_graph

ADDRESS = "https://example.org/onnxruntime-web/"


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny):
    out = tmp_path_factory.mktemp("web")
    files = export_web(tiny.bundle, out, WebOptions(onnxruntime=ADDRESS))
    return out, files, json.loads((out / "model.json").read_text())


def test_every_file_is_there_as_it_is_listed(written):
    out, files, model = written
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == set(files)
    assert {path.name for path in SCRIPTS.iterdir()} < set(files)
    graphs = [*model["exact"].values(), *(d["graph"] for d in model["decoders"].values())]
    for entry in [model["integers"], *graphs]:
        assert hashlib.sha256((out / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert model["onnxruntime"] == ADDRESS


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


def test_integer_networks_read_their_weights_there(written, tiny):
    """And give the integers of their probes."""
    out, _, model = written
    outside = 0
    for name, entry in model["exact"].items():
        graph = onnx.load(out / entry["file"], load_external_data=False)
        outside += sum(
            c.data_location == onnx.TensorProto.EXTERNAL for c in graph.graph.initializer
        )
        onnx.load_external_data_for_model(graph, str(out))
        session = onnxruntime.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        x = probe_input(tiny.bundle.networks[name].channels_in)[None]
        assert digest([y[0] for y in session.run(None, {"x": x})]) == model["probes"][name]
    assert outside > len(model["exact"])


def test_decoders_have_weights_in_float16(tiny):
    graph = tiny.bundle.graph(tiny.bundle.manifest.decoders["quality"].graph)
    shaken = onnx.load_from_string(graph)
    for constant in shaken.graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype == np.float32 and value.size >= 256:  # that float16 does not hold exactly
            constant.CopyFrom(numpy_helper.from_array(value * np.float32(1.0001), constant.name))
    before = shaken.SerializeToString()
    after = decoder_graph(before)
    kinds = [numpy_helper.to_array(c).dtype for c in onnx.load_from_string(after).graph.initializer]
    assert np.dtype(np.float16) in kinds
    latents = np.random.default_rng(0).normal(0, 2, (1, 24, 8, 8)).astype(np.float32)
    one, other = (OrtEngine(data)({"latents": latents})[0].astype(int) for data in (before, after))
    assert np.abs(one - other).max() <= 1


def test_what_is_missing_is_said(tmp_path, tiny):
    with pytest.raises(
        BadParameter, match=r"no ort\.wasm\.min\.mjs in .*npm install onnxruntime-web@"
    ):
        export_web(tiny.bundle, tmp_path / "out", WebOptions(onnxruntime=str(tmp_path)))
    with pytest.raises(UnknownDecoder, match="no decoder 'sharp'"):
        export_web(tiny.bundle, tmp_path / "out", WebOptions(("sharp",), ADDRESS))
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path, tiny_path, trellic):
    """With a folder that onnxruntime-web is copied from."""
    module = tmp_path / "onnxruntime-web"
    (module / "dist").mkdir(parents=True)
    for name in ORT_FILES:
        (module / "dist" / name).write_text(name)
    out = tmp_path / "out"
    options = ["--web", out, "--web-decoders", "quality", "--onnxruntime-web", module]
    done = trellic("export", tiny_path, *options)
    assert done.code == 0, done.err
    assert "integers.bin" in done.out
    assert (out / "onnxruntime" / ORT_FILES[0]).read_text() == ORT_FILES[0]
    model = json.loads((out / "model.json").read_text())
    assert (model["onnxruntime"], model["defaultDecoder"]) == ("onnxruntime", "quality")
    done = trellic("export", tiny_path, tmp_path / "more.zip", *options)
    assert done.code != 0
    assert "2 paths with --web" in done.err
