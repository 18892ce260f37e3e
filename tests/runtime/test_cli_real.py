"""The command line and the Pillow plugin with the real codec and the tiny model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trellic.pillow
from trellic import images
from trellic.codec import Codec
from trellic.images import Picture

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
SAMPLES = Path(__file__).parents[2] / "samples"
RNG = np.random.default_rng(6)
MODEL = ("--model", "tiny", "--device", "cpu")


@pytest.fixture(autouse=True)
def only_the_tiny_model(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIC_MODELS", str(TINY.parent))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    trellic.pillow._codec.cache_clear()


@pytest.fixture(scope="module")
def codec():
    return Codec(str(TINY), "cpu")


@pytest.fixture(scope="module")
def crop():
    return Picture(images.read(SAMPLES / "osprey.png").pixels[60:200, 150:360].copy())


@pytest.fixture
def photo(tmp_path, crop):
    images.write(tmp_path / "photo.png", crop)
    return tmp_path / "photo.png"


@pytest.fixture
def stream(tmp_path, photo, trellic):
    assert trellic("encode", photo, tmp_path / "stream.tlc", *MODEL).code == 0
    return tmp_path / "stream.tlc"


@pytest.mark.parametrize("trellis", [0, 8, 128])
def test_commands_write_what_the_codec_makes(tmp_path, photo, trellic, codec, crop, trellis):
    target = tmp_path / "a.tlc"
    result = trellic("encode", photo, target, *MODEL, "-q", 40, "--trellis", trellis, "--json")
    assert (result.code, result.err) == (0, "")
    fields = json.loads(result.out)
    encoded = codec.encode_picture(crop, quality=40, trellis=trellis)
    assert target.read_bytes() == encoded.data
    assert (fields["bytes"], fields["lanes"]) == (len(encoded.data), encoded.lanes)
    assert (fields["quality"], fields["trellis"], fields["model"]) == (40, trellis, "tiny")
    result = trellic("decode", target, tmp_path / "back.png", "--json")
    assert (result.code, result.err) == (0, "")
    back = images.read(tmp_path / "back.png")
    np.testing.assert_array_equal(back.pixels, codec.decode(encoded.data))


def test_decode_takes_a_bundle_that_is_not_installed(tmp_path, stream, trellic, monkeypatch, codec):
    monkeypatch.setenv("TRELLIC_MODELS", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    bundle = shutil.copy(TINY, tmp_path / "elsewhere")
    back = tmp_path / "back.png"
    refused = trellic("decode", stream, back)
    assert refused.code == 1
    assert "not installed" in refused.err
    result = trellic("decode", stream, back, "--model", bundle, "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    expected = codec.decode(stream.read_bytes())
    np.testing.assert_array_equal(images.read(back).pixels, expected)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("photo", "stream id"),
        ("nothing.zip", "no bundle at 'nothing.zip'"),
        ("none", "no model 'none'"),
    ],
)
def test_decode_with_a_wrong_model_is_refused(tmp_path, stream, trellic, model, said):
    result = trellic("decode", stream, tmp_path / "back.png", "--model", model)
    assert result.code == 1
    assert said in result.err
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert not (tmp_path / "back.png").exists()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (65, 17)])
def test_kinds_of_pictures(tmp_path, trellic, mode, size):
    pixels = RNG.integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("RGB").quantize(9) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "a.png")
    assert trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc", *MODEL).code == 0
    assert trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png").code == 0
    with Image.open(tmp_path / "b.png") as again:
        assert again.size == size
        assert again.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
        if mode.endswith("A"):
            np.testing.assert_array_equal(np.array(again)[..., -1], pixels[..., 3])


def test_targets_are_met_from_below(tmp_path, photo, trellic):
    sizes = {}
    for quality in (10, 90):
        trellic("encode", photo, tmp_path / "a.tlc", *MODEL, "-q", quality)
        sizes[quality] = (tmp_path / "a.tlc").stat().st_size
    budget = (sizes[10] + sizes[90]) // 2
    trellic("encode", photo, tmp_path / "a.tlc", *MODEL, "--max-bytes", budget)
    assert sizes[10] <= (tmp_path / "a.tlc").stat().st_size <= budget
    bpp = 8 * budget / (140 * 210)
    result = trellic("encode", photo, tmp_path / "a.tlc", *MODEL, "--bpp", bpp, "--json")
    assert 0 < json.loads(result.out)["bpp"] <= bpp
    for impossible in (["--max-bytes", 40], ["--bpp", "0.001"], ["--bpp", 500]):
        result = trellic("encode", photo, tmp_path / "c.tlc", *MODEL, *impossible)
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert not (tmp_path / "c.tlc").exists()


def test_damage_never_makes_a_picture(tmp_path, stream, trellic):
    whole = stream.read_bytes()
    for at in [*RNG.integers(0, len(whole), 25).tolist(), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(RNG.integers(8))
        stream.write_bytes(damaged)
        result = trellic("decode", stream, tmp_path / "b.png")
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert result.err.startswith("error: ")
        assert not (tmp_path / "b.png").exists()


def test_info_knows_the_model(stream, trellic):
    fields = json.loads(trellic("info", stream, "--json").out)
    assert fields["model"] == "tiny"
    assert sum(fields["parts"].values()) == stream.stat().st_size


def test_models(tmp_path, trellic, monkeypatch):
    fields = [json.loads(line) for line in trellic("models", "--json").out.splitlines()]
    tiny = next(model for model in fields if model["name"] == "tiny")
    assert tiny["path"] == str(TINY)
    assert tiny["decoders"]["quality"]["kmac_per_pixel"] > 0
    out = trellic("models").out
    assert "tiny" in out
    assert "decoder quality" in out
    shutil.copy(TINY, tmp_path / "mine.zip")
    monkeypatch.setenv("TRELLIC_MODELS", "")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "data"))
    result = trellic("models", "add", tmp_path / "mine.zip")
    assert (result.code, result.err) == (0, "")
    assert "tiny" in trellic("models").out
    damaged = bytearray(TINY.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "mine.zip").write_bytes(damaged)
    result = trellic("models", "add", tmp_path / "mine.zip")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)


def test_bench(photo, trellic):
    fields = json.loads(trellic("bench", photo, *MODEL, "--repeat", 1, "--json").out)
    for direction in ("encode", "decode"):
        stages = fields[direction]["median"]
        assert len(stages) > 2
        assert sum(stages.values()) <= 2.05 * stages["total"]


def test_plugin(tmp_path, crop, codec):
    image = images.to_pil(crop)
    image.save(tmp_path / "a.tlc", model="tiny", device="cpu", quality=30, trellis=4)
    data = (tmp_path / "a.tlc").read_bytes()
    assert data == codec.encode_picture(crop, quality=30, trellis=4).data
    with Image.open(tmp_path / "a.tlc") as again:
        np.testing.assert_array_equal(np.array(again), codec.decode(data))
    with pytest.raises(ValueError, match="quality 0"):
        image.save(tmp_path / "b.tlc", model="tiny", quality=0)
    assert not (tmp_path / "b.tlc").exists()


def test_example_of_the_plugin(monkeypatch):
    import doctest

    from trellic.model import bundle

    monkeypatch.setattr(bundle, "find", lambda model: TINY)  # in place of photo
    result = doctest.testmod(trellic.pillow)
    assert (result.failed, result.attempted > 5) == (0, True)


@pytest.mark.slow("two processes that load everything anew, as a user starts them")
def test_new_processes(tmp_path, photo, stream):
    """Encode and decode as a user does; the same bytes, and nothing else said."""

    def run(*arguments):
        command = [sys.executable, "-m", "trellic", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))

    done = run("encode", photo, tmp_path / "a.tlc", *MODEL)
    assert done.returncode == 0
    assert (tmp_path / "a.tlc").read_bytes() == stream.read_bytes()
    done = run("decode", tmp_path / "a.tlc", tmp_path / "a.png", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["width"] == 210
    (tmp_path / "a.tlc").write_bytes(stream.read_bytes()[:99])
    done = run("decode", tmp_path / "a.tlc", tmp_path / "b.png")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ")
