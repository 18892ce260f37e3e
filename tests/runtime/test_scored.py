"""Encoding to a score: the search, what it refuses, and real pictures."""

import json
import sys

import numpy as np
import pytest

from trellic import images
from trellic.errors import BadParameter, ImageTooLarge, MissingExtra, TargetUnreachable
from trellic.images import Picture
from trellic.scored import MAX_SCORED, WITHIN, encode_scored, search, ssimulacra2


@pytest.mark.parametrize("wanted", [-20.0, 20.0, 55.5, 80.0, 89.0])
@pytest.mark.parametrize(
    "curve",
    [lambda q: q, lambda q: 92 - 3 * (100 - q) ** 0.85, lambda q: 95 - 115 * np.exp(-q / 30)],
    ids=["line", "bent", "saturating"],
)
def test_the_search_ends_soon_and_near(curve, wanted):
    tries = []

    def score(quality):
        assert quality not in tries
        assert 1 <= quality <= 100
        assert (16 * quality) % 1 == 0
        tries.append(quality)
        return float(curve(quality))

    found = search(score, wanted)
    reached = min(max(wanted, curve(1.0)), curve(100.0))
    assert abs(curve(found) - reached) <= WITHIN
    assert len(tries) <= 8


def test_a_score_that_jumps_ends_the_search_too():
    assert search(lambda quality: 30.0 if quality < 47 else 60.0, 50.0) >= 47


def wave(height=72, width=88):
    y, x = np.mgrid[:height, :width]
    planes = [128 + 60 * np.sin(x / 7 + k) * np.cos(y / 9 - k) for k in range(3)]
    return np.stack(planes, 2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("grey", [False, True])
def test_a_picture_gets_its_score(tiny, grey):
    pytest.importorskip("ssimulacra2")
    pixels = wave()[:, :, 0] if grey else wave()
    picture = Picture(pixels, alpha=np.full(pixels.shape[:2], 200, np.uint8))
    ends = [
        ssimulacra2(
            pixels, tiny.decode_picture(tiny.encode_picture(picture, quality=q).data).pixels
        )
        for q in (1, 100)
    ]
    wanted = 0.3 * ends[0] + 0.7 * ends[1]
    scored = encode_scored(tiny, picture, wanted)
    decoded = tiny.decode_picture(scored.encoded.data)
    assert scored.score == ssimulacra2(pixels, decoded.pixels)
    assert abs(scored.score - wanted) <= WITHIN
    assert decoded.alpha is not None
    with pytest.raises(TargetUnreachable, match=f"this picture has {ends[0]:.1f} at quality 1"):
        encode_scored(tiny, picture, ends[1] + 2 * WITHIN)


@pytest.mark.parametrize("wanted", [100, float("nan"), "high", None])
def test_a_score_that_is_none_is_refused(tiny, wanted):
    with pytest.raises(BadParameter, match="a number below 100"):
        encode_scored(tiny, Picture(wave()), wanted)


def test_the_command_meets_a_score_and_says_it(tiny_path, tmp_path, trellic, monkeypatch):
    pytest.importorskip("ssimulacra2")
    images.write(tmp_path / "a.png", Picture(wave()))
    command = ["encode", tmp_path / "a.png", tmp_path / "a.tlc", "--model", tiny_path]
    result = trellic(*command, "--device", "cpu", "--ssimulacra2", -63.6, "--json")
    assert result.code == 0, result.err
    fields = json.loads(result.out)
    assert abs(fields["ssimulacra2"] + 63.6) <= WITHIN
    assert fields["bytes"] == (tmp_path / "a.tlc").stat().st_size
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    (tmp_path / "a.tlc").unlink()
    result = trellic(*command, "--device", "cpu", "--ssimulacra2", -63.6)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "[score]" in result.err
    assert not (tmp_path / "a.tlc").exists()


def test_what_cannot_be_scored_is_refused(monkeypatch):
    with pytest.raises(BadParameter, match="sides of 8 pixels"):
        ssimulacra2(wave()[:7], wave()[:7])
    side = int(MAX_SCORED**0.5) + 1
    with pytest.raises(ImageTooLarge, match="at most 16 megapixels"):
        ssimulacra2(*[np.broadcast_to(np.uint8(0), (side, side, 3))] * 2)
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(MissingExtra, match=r"pip install .*\[score\]'"):
        ssimulacra2(wave(), wave())
