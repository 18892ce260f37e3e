"""Models whose free transforms see the quality: everyone tells them the level's."""

from __future__ import annotations

import numpy as np
import pytest

from trellic.codec import Codec
from trellic.engines.openvino import has_bf16
from trellic.errors import EngineError
from trellic.images import Picture
from trellic.pipeline import memory

from .family import make_seeing, noise


@pytest.fixture(scope="module")
def path(tiny_path, tmp_path_factory):
    return make_seeing(tiny_path, tmp_path_factory.mktemp("seeing") / "seeing.zip")


@pytest.fixture(scope="module")
def seeing(path):
    return Codec.load(str(path), device="cpu", threads=1)


@pytest.fixture
def told(seeing, monkeypatch):
    """What encoder and decoder were told, call by call."""
    calls = {"encoder": [], "decoder": []}
    engines = {"encoder": seeing._pool.encoder(), "decoder": seeing._pool.decoder("quality")}

    def watched(part):
        def run(inputs):
            calls[part].append(inputs["quality"].tolist())
            return engines[part](inputs)

        return run

    monkeypatch.setattr(seeing._pool, "encoder", lambda: watched("encoder"))
    monkeypatch.setattr(seeing._pool, "decoder", lambda _: watched("decoder"))
    return calls


def error(a, b):
    return np.square(a.astype(float) - b).mean()


@pytest.mark.parametrize("trellis", [0, 8])
@pytest.mark.parametrize("quality", [1, 37.5, 100])
def test_both_sides_are_told_the_level(seeing, told, quality, trellis):
    data = seeing.encode(noise(64, 80), quality=quality, trellis=trellis)
    seeing.decode(data)
    seeing.decode(data, region=(0, 0, 16, 16))
    level = seeing.bundle.levels.at(round(16 * quality), trellis)
    assert told == {"encoder": [[level.quality]], "decoder": [[level.quality]] * 2}
    assert abs(level.quality - quality) <= 15  # the trellis's offset


def test_tiles_are_told_too(seeing, told, monkeypatch):
    monkeypatch.setattr(memory, "SIDES", (4,))
    data = seeing.encode(noise(128, 150), quality=70, trellis=0)
    seeing.decode(data)
    assert min(len(told["encoder"]), len(told["decoder"])) > 1
    assert {tuple(call) for call in [*told["encoder"], *told["decoder"]]} == {(70.0,)}


def test_it_helps_that_they_know(seeing, tiny):
    """At a high quality latents are larger, as if the quality were higher still."""
    pixels = noise(96, 96)
    for quality, larger in ((80, True), (20, False)):
        own, other = (c.encode(pixels, quality=quality) for c in (seeing, tiny))
        assert (len(own) > len(other)) == larger
        errors = [error(c.decode(d), pixels) for c, d in ((seeing, own), (tiny, other))]
        assert (errors[0] < errors[1]) == larger


def test_a_target_analyses_at_every_try(seeing, tiny, told):
    pixels = noise(128, 128)
    tried = seeing.encode_picture(Picture(pixels), max_bytes=600, trellis=8)
    assert 0.97 * 600 <= len(tried.data) <= 600
    assert len(told["encoder"]) == len({tuple(call) for call in told["encoder"]}) > 1
    seen = seeing.bundle.levels.at(round(16 * tried.quality), 8).quality
    assert [seen] in told["encoder"]
    again = seeing.encode(pixels, quality=tried.quality, trellis=8)
    assert again == tried.data


def test_a_model_that_sees_none_analyses_once(tiny, monkeypatch):
    calls, run = [], tiny._pool.encoder()
    monkeypatch.setattr(tiny._pool, "encoder", lambda: lambda i: (calls.append(1), run(i))[1])
    tiny.encode(noise(128, 128), max_bytes=600)
    assert calls == [1]


def test_an_engine_misses_its_quality(seeing):
    image = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(EngineError, match="quality"):
        seeing._pool.encoder()({"image": image})


@pytest.mark.skipif(not has_bf16(), reason="no OpenVINO that computes in bfloat16")
def test_in_bfloat16(path, seeing):
    pixels = noise(96, 96)
    fast = Codec.load(str(path), device="cpu", threads=1, precision="bf16")
    data = fast.encode(pixels, quality=80)
    assert error(fast.decode(data), pixels) < 1.1 * error(seeing.decode(data), pixels)
