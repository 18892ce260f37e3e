"""Which precision engines take, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import pytest

from trellic.codec import Codec
from trellic.engines import openvino, pool, precision
from trellic.engines.openvino import OpenVinoEngine
from trellic.engines.ort import OrtEngine
from trellic.engines.precision import choose
from trellic.errors import BadBundle, BadParameter, EngineError, MissingExtra
from trellic.model.bundle import Bundle, find


@pytest.fixture
def with_int8(tiny_path, tmp_path):
    """The tiny bundle with an "8-bit" decoder: black pictures, so that one sees which one ran."""
    path = tmp_path / "eight.zip"
    _copy(tiny_path, path, vouched=True)
    return path


def _copy(source, target, *, vouched):
    with zipfile.ZipFile(source) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    graph = manifest["decoders"]["quality"]["graph"]
    graph["int8"] = "graphs/quality-int8.onnx"
    # the constant 255 of the last Mul becomes 0, as little-endian float32
    white, black = np.float32(255).tobytes(), np.float32(0).tobytes()
    files[graph["int8"]] = files[graph["file"]].replace(white, black)
    assert files[graph["int8"]] != files[graph["file"]]
    if vouched:
        digest = hashlib.sha256(files[graph["int8"]]).hexdigest()
        manifest["sha256"][graph["int8"]] = digest
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {"manifest.json": json.dumps(manifest), **files}.items():
            archive.writestr(name, data)


def processor(monkeypatch, tmp_path, text):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(precision, "CPU_FACTS", path)
    precision._flags.cache_clear()


@pytest.fixture(autouse=True)
def _forget():
    precision._flags.cache_clear()
    yield
    precision._flags.cache_clear()


@pytest.fixture
def without_bf16(monkeypatch):
    """OpenVINO is not installed."""

    def absent():
        raise MissingExtra.of("openvino", "openvino", "precision 'bf16'")

    monkeypatch.setattr(openvino, "openvino", absent)


class Capable:
    """A stand-in for OpenVINO on a processor of known capabilities."""

    def __init__(self, *capabilities):
        self.capabilities = capabilities

    def Core(self):
        return self

    def get_property(self, device, name):
        assert (device, name) == ("CPU", "OPTIMIZATION_CAPABILITIES")
        return self.capabilities


FAST = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512_vnni\n"
SLOW = "processor\t: 0\nflags\t\t: fpu sse2 avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("facts", "device", "asked", "expected"),
    [
        (FAST, "cpu", "auto", "int8"),
        (FAST, "cpu", "fp32", "fp32"),
        (FAST, "cuda", "auto", "fp32"),
        (SLOW, "cpu", "auto", "fp32"),
        (ARM, "cpu", "auto", "fp32"),
        (ARM, "cpu", "int8", "int8"),
        (FAST, "cpu", "int8", "int8"),
    ],
)
def test_what_is_taken(
    with_int8, without_bf16, monkeypatch, tmp_path, facts, device, asked, expected
):
    processor(monkeypatch, tmp_path, facts)
    assert choose(asked, Bundle(with_int8), device) == expected


def test_a_system_that_says_nothing(with_int8, without_bf16, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPU_FACTS", tmp_path / "none")
    assert choose("auto", Bundle(with_int8), "cpu") == "fp32"
    assert choose("int8", Bundle(with_int8), "cpu") == "int8"


def test_auto_takes_bf16_where_the_processor_has_it(with_int8, monkeypatch, tmp_path):
    processor(monkeypatch, tmp_path, FAST)
    monkeypatch.setattr(openvino, "openvino", lambda: Capable("FP32", "BF16"))
    assert choose("auto", Bundle(with_int8), "cpu") == choose("bf16", Bundle(with_int8), "cpu")
    assert choose("auto", Bundle(with_int8), "cpu") == "bf16"
    assert choose("auto", Bundle(with_int8), "cuda") == "fp32"
    monkeypatch.setattr(openvino, "openvino", lambda: Capable("FP32"))
    assert choose("auto", Bundle(with_int8), "cpu") == "int8"
    with pytest.raises(EngineError, match="no bfloat16 products"):
        choose("bf16", Bundle(with_int8), "cpu")


def test_bf16_without_openvino(tiny_path, without_bf16):
    with pytest.raises(MissingExtra, match=r"\[openvino\]"):
        choose("bf16", Bundle(tiny_path), "cpu")


def test_the_codec_runs_the_variant(with_int8, without_bf16, tiny_path, monkeypatch, tmp_path):
    processor(monkeypatch, tmp_path, FAST)
    codecs = {p: Codec(with_int8, "cpu", 1, p) for p in ("fp32", "int8", "auto")}
    assert {p: c.precision for p, c in codecs.items()} == {
        "fp32": "fp32",
        "int8": "int8",
        "auto": "int8",
    }
    data = codecs["int8"].encode(np.full((40, 40, 3), 200, np.uint8))
    assert not codecs["int8"].decode(data).any()
    assert not codecs["auto"].decode(data).any()
    assert codecs["fp32"].decode(data).mean() > 100
    assert Codec(tiny_path, "cpu", 1).precision == "fp32"


def test_refusals(with_int8, tiny_path, monkeypatch, tmp_path):
    eight = Bundle(with_int8)
    with pytest.raises(BadParameter, match="precision 'int4'"):
        choose("int4", eight, "cpu")
    with pytest.raises(BadParameter, match="on device 'cuda'"):
        choose("int8", eight, "cuda")
    with pytest.raises(BadParameter, match="on device 'tensorrt'"):
        choose("bf16", eight, "tensorrt")
    with pytest.raises(EngineError, match="has no int8 graphs"):
        choose("int8", Bundle(tiny_path), "cpu")
    processor(monkeypatch, tmp_path, SLOW)
    with pytest.raises(EngineError, match="no VNNI"):
        choose("int8", eight, "cpu")


def test_a_variant_without_hash_is_refused(tiny_path, tmp_path, monkeypatch):
    processor(monkeypatch, tmp_path, FAST)
    path = tmp_path / "loose.zip"
    _copy(tiny_path, path, vouched=False)
    codec = Codec(path, "cpu", 1, "int8")
    with pytest.raises(BadBundle, match="no checked file"):
        codec.warm_up(decoder="quality")


# ---- OpenVINO ----

NO_BF16 = not find_spec("openvino") or openvino.missing_for_bf16()
needs_bf16 = pytest.mark.skipif(
    bool(NO_BF16), reason="needs OpenVINO, and a processor that multiplies bfloat16"
)


@needs_bf16
def test_bf16_is_nearly_fp32(tiny_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    plain, half = (Codec(tiny_path, "cpu", 1, p) for p in ("fp32", "bf16"))
    assert half.precision == "bf16"
    data = half.encode(pixels, quality=90)
    assert abs(len(data) - len(plain.encode(pixels, quality=90))) < 0.05 * len(data)
    difference = half.decode(data).astype(float) - plain.decode(data)
    assert 0 < np.abs(difference).max() <= 12
    assert np.abs(difference).mean() < 1


@needs_bf16
def test_what_hurts_most_stays_in_float32(monkeypatch):
    """The shipped decoder, which sees the quality: half of the squared error goes."""
    bundle = Bundle(find("photo"))
    graph = bundle.graph(bundle.manifest.decoders["quality"].graph)
    latents = np.random.default_rng(0).normal(0, 1, (1, bundle.manifest.layout.latents, 16, 16))
    inputs = {
        "latents": (latents * np.linspace(40, 0.1, latents.shape[1])[:, None, None]).astype("f4"),
        "quality": np.full(1, 91.5, np.float32),
    }
    exact = OrtEngine(graph, threads=1)(inputs)[0].astype(float)
    precise = OpenVinoEngine(graph, 1)(inputs)[0]
    monkeypatch.setattr(openvino, "_with_precise_parts", lambda core, model: model)
    plain = OpenVinoEngine(graph, 1)(inputs)[0]
    errors = [np.square(image - exact).mean() for image in (precise, plain)]
    assert 0 < errors[0] < 0.5 * errors[1]


@needs_bf16
def test_streams_of_bf16_are_those_of_its_latents(tiny_path, monkeypatch):
    """Integer networks stay exact, whatever the others compute in."""
    made = []

    class Watched(OpenVinoEngine):
        def __init__(self, graph, threads):
            made.append(graph)
            super().__init__(graph, threads)

    monkeypatch.setattr(pool, "OpenVinoEngine", Watched)
    codec = Codec(tiny_path, "cpu", 1, "bf16")
    codec.decode(codec.encode(np.zeros((70, 90, 3), np.uint8)))
    manifest = codec.bundle.manifest
    free = manifest.encoder, manifest.hyper_encoder, manifest.decoders["quality"].graph
    assert made == [codec.bundle.graph(graph) for graph in free]


@needs_bf16
def test_many_threads_and_sizes_share_an_engine(tiny_path):
    bundle = Bundle(tiny_path)
    graph = bundle.graph(bundle.manifest.decoders["quality"].graph)
    engine, channels = OpenVinoEngine(graph, 1), bundle.manifest.layout.latents
    rng = np.random.default_rng(0)
    sizes = [(1, channels, int(h), int(w)) for h, w in rng.integers(1, 9, (24, 2))]
    inputs = [rng.normal(0, 2, size).astype(np.float32) for size in sizes]
    alone = [engine({"latents": x})[0] for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda x: engine({"latents": x})[0], inputs))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@needs_bf16
def test_what_openvino_cannot_do_is_our_error(tiny_path):
    with pytest.raises(EngineError, match="OpenVINO cannot load a graph"):
        OpenVinoEngine(b"no graph")
    bundle = Bundle(tiny_path)
    engine = OpenVinoEngine(bundle.graph(bundle.manifest.decoders["quality"].graph))
    with pytest.raises(EngineError, match="OpenVINO failed"):
        engine({"latents": np.zeros((1, 3, 4, 4), np.float32)})
