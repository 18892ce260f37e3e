"""A bundle with fewer decoders: the same streams, smaller, under its own name."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from trellic import Codec
from trellic.errors import BadParameter
from trellic.model.bundle import Bundle, find
from trellic_export import cli
from trellic_export.bundle import digests, members, write_bundle
from trellic_export.slim import slim


@pytest.fixture
def full(tmp_path) -> Bundle:
    """The model for photos, with a graph in another precision (a copy of the first)."""
    photo = Bundle(find("photo"))
    info = photo.manifest.decoders["fast"]
    files = members(photo)
    files["graphs/fast-int8.onnx"] = files[info.graph.file]
    graph = info.graph.model_copy(update={"int8": "graphs/fast-int8.onnx"})
    decoders = photo.manifest.decoders | {"fast": info.model_copy(update={"graph": graph})}
    changed = {"decoders": decoders, "sha256": digests(files), "name": "full"}
    out = tmp_path / "full.zip"
    write_bundle(out, photo.manifest.model_copy(update=changed), files)
    return Bundle(out)


@pytest.mark.slow("the models that ship")
def test_what_is_left_out_is_gone_and_the_rest_is_the_same(full, tmp_path, capsys):
    out = tmp_path / "small.zip"
    assert cli.main([str(full.path), str(out), "--only", "fast,preview"]) == 0
    assert "model 'small', decoders fast, preview" in capsys.readouterr().out
    made = Bundle(out)
    assert list(made.manifest.decoders) == ["fast", "preview"]
    assert made.manifest.stream_id == full.manifest.stream_id
    with zipfile.ZipFile(full.path) as old, zipfile.ZipFile(out) as new:
        names = set(new.namelist()) - {"manifest.json"}
        assert names == set(made.manifest.sha256)
        assert all(old.read(name) == new.read(name) for name in names)
        assert not any("int8" in name or "quality" in name for name in names)
    assert made.manifest.decoders["fast"].graph.variants == {}
    assert out.stat().st_size < 0.7 * Path(full.path).stat().st_size


@pytest.mark.slow("the models that ship")
def test_streams_are_the_same_and_decode_with_either(full, tmp_path):
    out = tmp_path / "small.zip"
    slim(full, ["fast"], out)
    pixels = np.random.default_rng(1).integers(0, 255, (40, 56, 3), np.uint8)
    small, large = (Codec.load(str(path), device="cpu", threads=1) for path in (out, full.path))
    data = small.encode(pixels, quality=40)
    assert data == large.encode(pixels, quality=40)
    assert np.array_equal(small.decode(data, decoder="fast"), large.decode(data, decoder="fast"))
    with pytest.raises(BadParameter, match="quality"):
        small.decode(data, decoder="quality")


@pytest.mark.parametrize(
    ("first", "message"),
    [("photo", "decoders fats; expected one or more of quality"), ("a.pt", "--only without a")],
)
def test_what_is_wrong_is_said(full, first, message, tmp_path):
    path = full.path if first == "photo" else tmp_path / first
    with pytest.raises(BadParameter, match=message):
        cli.main([str(path), str(tmp_path / "small.zip"), "--only", "fats"])
    assert not (tmp_path / "small.zip").exists()
