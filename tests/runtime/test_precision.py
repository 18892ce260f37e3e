"""Which precision engines take, and what is refused."""

from __future__ import annotations

import hashlib
import json
import zipfile

import numpy as np
import pytest

from trellic.bundle import Bundle
from trellic.codec import Codec
from trellic.engines import precision
from trellic.engines.precision import use_int8
from trellic.errors import BadBundle, BadParameter, EngineError


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


FAST = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512_vnni\n"
SLOW = "processor\t: 0\nflags\t\t: fpu sse2 avx2\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.mark.parametrize(
    ("facts", "device", "asked", "expected"),
    [
        (FAST, "cpu", "auto", True),
        (FAST, "cpu", "fp32", False),
        (FAST, "cuda", "auto", False),
        (SLOW, "cpu", "auto", False),
        (ARM, "cpu", "auto", False),
        (ARM, "cpu", "int8", True),
        (FAST, "cpu", "int8", True),
    ],
)
def test_what_is_taken(with_int8, monkeypatch, tmp_path, facts, device, asked, expected):
    processor(monkeypatch, tmp_path, facts)
    assert use_int8(asked, Bundle(with_int8), device) is expected


def test_a_system_that_says_nothing(with_int8, monkeypatch, tmp_path):
    monkeypatch.setattr(precision, "CPU_FACTS", tmp_path / "none")
    assert not use_int8("auto", Bundle(with_int8), "cpu")
    assert use_int8("int8", Bundle(with_int8), "cpu")


def test_the_codec_runs_the_variant(with_int8, tiny_path, monkeypatch, tmp_path):
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
        use_int8("int4", eight, "cpu")
    with pytest.raises(BadParameter, match="on device 'cuda'"):
        use_int8("int8", eight, "cuda")
    with pytest.raises(EngineError, match="has no int8 graphs"):
        use_int8("int8", Bundle(tiny_path), "cpu")
    processor(monkeypatch, tmp_path, SLOW)
    with pytest.raises(EngineError, match="no VNNI"):
        use_int8("int8", eight, "cpu")


def test_a_variant_without_hash_is_refused(tiny_path, tmp_path, monkeypatch):
    processor(monkeypatch, tmp_path, FAST)
    path = tmp_path / "loose.zip"
    _copy(tiny_path, path, vouched=False)
    codec = Codec(path, "cpu", 1, "int8")
    with pytest.raises(BadBundle, match="no checked file"):
        codec.warm_up(decoder="quality")
