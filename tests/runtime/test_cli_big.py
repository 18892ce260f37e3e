"""``--region`` and ``--max-memory`` on the command line, and what they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from trellic import bitstream, images
from trellic.cli import options
from trellic.images import Picture

ROOT = Path(__file__).parents[2]
MODEL = ("--model", "tiny", "--device", "cpu")


@pytest.fixture(autouse=True)
def only_the_tiny_model(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIC_MODELS", str(ROOT / "tests" / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def stream(tmp_path, trellic):
    """A stream of two slices, with alpha, whose source lies on its side."""
    pixels = images.read(ROOT / "samples" / "osprey.png").pixels
    tall = np.concatenate([pixels.swapaxes(0, 1)] * 2)[:1300, :200].copy()
    alpha = (np.arange(1300 * 200) % 256).astype(np.uint8).reshape(1300, 200)
    images.write(tmp_path / "photo.png", Picture(tall, alpha))
    assert trellic("encode", tmp_path / "photo.png", tmp_path / "a.tlc", *MODEL).code == 0
    assert bitstream.read_header((tmp_path / "a.tlc").read_bytes()).slices == 2
    return tmp_path / "a.tlc"


def decode(trellic, stream, name, *more):
    target = stream.with_name(name)
    result = trellic("decode", stream, target, "--device", "cpu", "--json", *more)
    assert result.code == 0, result.err
    return json.loads(result.out), images.read(target)


def test_a_region_of_a_file(trellic, stream):
    _, whole = decode(trellic, stream, "whole.png")
    fields, part = decode(trellic, stream, "part.png", "--region", "30,1000,150,90")
    assert (fields["width"], fields["height"]) == (150, 90)
    assert fields["region"] == [30, 1000, 150, 90]
    assert np.abs(part.pixels.astype(int) - whole.pixels[1000:1090, 30:180]).max() <= 1
    np.testing.assert_array_equal(part.alpha, whole.alpha[1000:1090, 30:180])


def test_a_region_does_without_the_rest_of_the_file(trellic, stream):
    _, whole = decode(trellic, stream, "whole.png")
    data = bytearray(stream.read_bytes())
    data[-5] ^= 1  # in the last slice
    stream.write_bytes(data)
    _, part = decode(trellic, stream, "part.png", "--region", "0,0,200,600")
    np.testing.assert_array_equal(part.alpha, whole.alpha[:600])
    assert np.abs(part.pixels.astype(int) - whole.pixels[:600]).max() <= 1
    result = trellic("decode", stream, stream.with_name("b.png"), "--region", "0,900,200,200")
    assert result.code == 1
    assert "checksum" in result.err


def test_regions_are_those_of_the_picture_as_it_is_shown(tmp_path, trellic):
    """EXIF orientation is applied before coding: what lies on its side is coded upright."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:, :10] = 255  # its left is the upper edge once it is upright
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif.tobytes())
    assert trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc", *MODEL, "-q", 90).code == 0
    _, part = decode(trellic, tmp_path / "a.tlc", "part.png", "--region", "0,0,40,5")
    assert part.pixels.shape == (5, 40, 3)
    assert part.pixels.mean() > 128
    _, part = decode(trellic, tmp_path / "a.tlc", "part.png", "--region", "0,40,40,20")
    assert part.pixels.mean() < 60


@pytest.mark.parametrize("region", ["0,0,201,10", "0,1300,1,1", "0,0,0,1", "5,5,10,0"])
def test_regions_outside_of_the_picture(trellic, stream, region):
    target = stream.with_name("b.png")
    result = trellic("decode", stream, target, "--region", region)
    assert result.code == 1
    assert result.err.startswith(f"error: {stream}: region {region} of a picture of 200x1300")
    assert result.err.count("\n") == 1
    assert not target.exists()


@pytest.mark.parametrize("region", ["", "1,2,3", "1,2,3,4,5", "-1,0,5,5", "a,b,c,d", "0,0,1.5,2"])
def test_regions_that_are_none(trellic, stream, region):
    result = trellic("decode", stream, stream.with_name("b.png"), f"--region={region}")
    assert result.code == 2
    assert "not X,Y,WIDTH,HEIGHT" in result.err


def test_a_region_of_what_is_no_stream(tmp_path, trellic):
    for content in (b"", b"no stream"):
        (tmp_path / "a.tlc").write_bytes(content)
        result = trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png", "--region", "0,0,1,1")
        assert (result.code, result.err.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2G", 2e9), ("1.5GiB", 1.5 * 2**30), ("800mb", 8e8), ("64k", 64e3), ("12345", 12345)],
)
def test_sizes(text, size):
    assert options.size(text) == size


@pytest.mark.parametrize("text", ["", "G", "2 G", "-1G", "1e9", "2X", "5i", "nan", "0", "0.1"])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_sizes_that_are_none(trellic, stream, command, text):
    source, target = stream.with_name("photo.png"), stream.with_name("b.tlc")
    if command == "decode":
        source, target = stream, stream.with_name("b.png")
    result = trellic(command, source, target, f"--max-memory={text}")
    assert result.code == 2
    assert not target.exists()


def test_a_limit_is_met_or_refused(trellic, stream):
    photo, target = stream.with_name("photo.png"), stream.with_name("b.tlc")
    result = trellic("encode", photo, target, *MODEL, "--max-memory", "100M")
    assert result.code == 1
    assert "reading a picture of 200x1300 pixels takes up to" in result.err
    assert "expected at most 100 MB" in result.err
    result = trellic("decode", stream, stream.with_name("b.png"), "--max-memory", "100M")
    assert result.code == 1
    assert "writing a picture of 200x1300 pixels takes up to" in result.err
    assert "--region" in result.err
    assert not target.exists()
    assert trellic("encode", photo, target, *MODEL, "--max-memory", "1G").code == 0
    assert target.read_bytes() == stream.read_bytes()


@pytest.mark.long
@pytest.mark.slow("processes of their own, whose peak memory the system reports")
@pytest.mark.skipif(sys.platform == "win32", reason="os.wait4")
@pytest.mark.parametrize(("model", "decoder"), [("photo", "quality"), ("cifar", "quality")])
def test_peak_memory_is_below_its_bound(tmp_path, monkeypatch, model, decoder):
    """In processes of their own, with the models that the constants were measured with."""
    report = tmp_path / "big.json"
    monkeypatch.delenv("TRELLIC_MODELS")
    what = ["--model", model, "--decoder", decoder, "--megapixels", "1.5"]
    command = [sys.executable, "-m", "benchmarks.big", *what, "--out", report, "--no-plot"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (result,) = json.loads(report.read_text())["results"]
    assert result["megapixels"] == pytest.approx(1.5, rel=0.01)
    for name in ("encode", "decode", "region"):
        assert 100e6 < result[name]["peak_bytes"] <= result[name]["bound"]
    assert result["region"]["region"][2:] == [1024, 1024]
