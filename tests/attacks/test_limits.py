"""Limits of a call: a stranger's bytes take no more pixels, memory or time than was allowed."""

from __future__ import annotations

import io
import pickle
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trellic
import trellic.pillow  # registers .tlc
from trellic import Limits, bitstream, images, limited
from trellic.bitstream import Header, Stream
from trellic.codec import Codec
from trellic.constants import LARGE_PIXELS, MAX_PIXELS
from trellic.errors import (
    BadParameter,
    Cancelled,
    DeadlineExceeded,
    ImageTooLarge,
    TrellicWarning,
)
from trellic.pipeline import memory
from trellic.support import bounds

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
SMALL = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def codec():
    return Codec(TINY, device="cpu", threads=1)


@pytest.fixture(scope="module")
def large():
    """A picture of four slices and four tiles."""
    return np.random.default_rng(2).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)


def webp_of_one_colour(side: int) -> bytes:
    """34 bytes: a lossless WebP of one colour, which took 123 s and 4.2 GB at 16383 a side."""
    bits = 0x2F | (side - 1) << 8 | (side - 1) << 22
    at = 40  # behind the signature, the sides, alpha and version
    at += 3  # no transform, no cache of colours, no codes of codes
    for _ in range(5):  # codes of one symbol: 0
        bits |= 1 << at
        at += 4
    data = bits.to_bytes(14, "little")
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def huge_stream(codec: Codec, side: int = 8192) -> bytes:
    steps = len(codec.bundle.manifest.layout.steps)
    stream_id = bytes.fromhex(codec.bundle.manifest.stream_id)
    slices = (side // 1024) ** 2
    header = Header(side, side, 960, 8, steps, stream_id, (1,) * slices)
    return bitstream.write(Stream(header, [bytes(4)] * (1 + steps * slices)))


# ---- pixels and memory ----


def test_the_bomb_is_a_picture():
    data = webp_of_one_colour(7)
    assert len(data) == 34
    assert images.from_bytes(data).pixels.shape[:2] == (7, 7)


@pytest.mark.parametrize(
    "way",
    [
        lambda data: images.from_bytes(data),
        lambda data: images.from_any(Image.open(io.BytesIO(data))),
        lambda data: Codec(TINY, limits="service").encode(Image.open(io.BytesIO(data))),
    ],
)
def test_a_small_file_of_many_pixels(way):
    data = webp_of_one_colour(8192)
    Codec(TINY)  # the first one frees a block that it never touches
    tracemalloc.start()
    try:
        with limited("service"), pytest.raises(ImageTooLarge, match="33554432"):
            way(data)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_streams_of_many_pixels(codec):
    data = huge_stream(codec)
    held = Codec(TINY, device="cpu", threads=1, limits="service")
    for decode in (held.decode, held.decode_picture, held.decode_timed):
        with pytest.raises(ImageTooLarge, match="at most 33554432 pixels"):
            decode(data)
    with pytest.raises(ImageTooLarge, match="at most 33554432"):
        held.decode_batch([data])
    for decode in (codec.decode, bitstream.read):
        with limited("service"), pytest.raises(ImageTooLarge, match="at most 33554432 pixels"):
            decode(data)


def test_the_tighter_limit_holds(codec):
    data = codec.encode(SMALL)
    with limited(Limits(max_pixels=599)), pytest.raises(ImageTooLarge, match="at most 599"):
        codec.decode(data)
    with limited("service"), pytest.raises(ImageTooLarge, match="at most 599"):
        codec.decode(data, max_pixels=599)
    with (
        limited(Limits(max_pixels=599)),
        limited("service"),
        pytest.raises(ImageTooLarge, match="at most 599"),
    ):
        codec.decode(data)
    with limited(Limits(max_pixels=600)):
        assert codec.decode(data).shape == SMALL.shape


def test_memory(codec, large):
    least = memory.LIBRARIES + 1
    with limited(Limits(max_memory=least)):
        with pytest.raises(ImageTooLarge, match=r"encoding 1600x1600 pixels takes up to"):
            codec.encode(large)
        with pytest.raises(ImageTooLarge, match="takes up to"):
            codec.encode(large, max_memory=10**12)
        with pytest.raises(BadParameter, match="max_memory"):
            codec.encode(large, max_memory="much")


def test_limits_end_with_their_block(codec):
    with pytest.raises(ImageTooLarge), limited(Limits(max_pixels=1)):
        codec.encode(SMALL)
    assert codec.encode(SMALL)


def test_limits_are_those_of_a_thread(codec):
    found = []
    with limited(Limits(max_pixels=1)):
        other = threading.Thread(target=lambda: found.append(codec.encode(SMALL)))
        other.start()
        other.join()
    assert found == [codec.encode(SMALL)]


NO_LIMITS = pytest.mark.parametrize("value", [0, -1, float("nan"), "2G", True])


@NO_LIMITS
@pytest.mark.parametrize("name", ["max_pixels", "max_memory", "deadline", "cancel"])
def test_limits_that_are_none(name, value):
    with pytest.raises(BadParameter, match=name):
        Limits(**{name: value})


@NO_LIMITS
@pytest.mark.parametrize("name", ["max_pixels", "max_memory"])
def test_limits_of_one_call_that_are_none(codec, name, value):
    with pytest.raises(BadParameter, match=f"{name} .*; expected a positive number of"):
        codec.decode(codec.encode(SMALL), **{name: value})


@NO_LIMITS
def test_limits_of_pictures_that_are_none(codec, value):
    with pytest.raises(BadParameter, match="max_memory"):
        codec.encode(SMALL, max_memory=value)
    with pytest.raises(BadParameter, match="max_pixels"):
        images.from_any(SMALL, value)


@pytest.mark.parametrize("limits", ["home", 5, {"deadline": 5}])
def test_profiles_that_are_none(limits):
    expected = "expected trellic.Limits, or 'service'"
    with pytest.raises(BadParameter, match=expected):
        Codec(TINY, limits=limits)
    with pytest.raises(BadParameter, match=expected), limited(limits):
        pass


def test_limits_go_along_with_a_codec(codec):
    held = Codec(TINY, device="cpu", threads=1, limits=Limits(max_pixels=599))
    again = pickle.loads(pickle.dumps(held))
    assert "max_pixels=599" in repr(again)
    with pytest.raises(ImageTooLarge):
        again.decode(codec.encode(SMALL))
    assert "limits" not in repr(codec)


# ---- time ----


class Hook:
    """Cancels at a call of its own number, and counts."""

    def __init__(self, at: int | None = None) -> None:
        self.calls, self._at = 0, at

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls == self._at


CALLS = {
    "encode": lambda codec, large, data: codec.encode(large, trellis=0),
    "decode": lambda codec, large, data: codec.decode(data),
    "max_bytes": lambda codec, large, data: codec.encode(large, trellis=0, max_bytes=400_000),
    "region": lambda codec, large, data: codec.decode(data, region=(1000, 1000, 100, 100)),
}


@pytest.fixture(scope="module")
def stream(codec, large):
    return codec.encode(large, trellis=0)


@pytest.mark.slow("pictures of several slices and tiles")
@pytest.mark.parametrize(
    ("name", "least"), [("encode", 9), ("decode", 9), ("max_bytes", 20), ("region", 2)]
)
def test_a_hook_is_asked_between_slices_and_tiles(codec, large, stream, name, least):
    call = CALLS[name]
    counting = Hook()
    with limited(Limits(cancel=counting)):
        result = call(codec, large, stream)
    assert counting.calls >= least
    for at in {1, counting.calls // 2, counting.calls}:
        hook = Hook(at)
        with limited(Limits(cancel=hook)), pytest.raises(Cancelled):
            call(codec, large, stream)
        assert hook.calls == at
    assert np.array_equal(call(codec, large, stream), result)  # nothing is left of it


@pytest.mark.parametrize("name", CALLS)
def test_a_deadline(monkeypatch, codec, large, stream, name):
    """Whatever the clock says: it jumps, so that the first question comes too late."""
    now = iter(range(0, 10**6, 10))
    monkeypatch.setattr(bounds.time, "monotonic", lambda: next(now))
    with limited(Limits(deadline=5)), pytest.raises(DeadlineExceeded, match="not done after 5 s"):
        CALLS[name](codec, large, stream)


def test_a_deadline_is_counted_anew_for_each_picture(monkeypatch, codec):
    now = iter(range(10**6))
    monkeypatch.setattr(bounds.time, "monotonic", lambda: next(now))
    counting = Hook()
    with limited(Limits(cancel=counting)):
        codec.encode(SMALL)
    held = Codec(TINY, device="cpu", threads=1, limits=Limits(deadline=counting.calls + 50))
    assert len(held.encode_batch([SMALL] * 40)) == 40


def test_loading_ahead_is_not_limited(monkeypatch):
    monkeypatch.setattr(bounds.time, "monotonic", iter(range(0, 10**6, 10)).__next__)
    held = Codec(TINY, device="cpu", threads=1, limits=Limits(deadline=5))
    held.warm_up(trellis=8, decoder="quality")
    with pytest.raises(DeadlineExceeded):
        held.encode(SMALL)


# ---- defaults, and the command line ----


def test_large_pictures_are_warned_of_unless_they_were_chosen(recwarn):
    sides = (8193, 8192)
    assert LARGE_PIXELS < sides[0] * sides[1] < MAX_PIXELS
    with pytest.warns(TrellicWarning, match=r"67 megapixels.*--max-pixels"):
        images.picture.check_size(*sides, MAX_PIXELS)
    recwarn.clear()
    images.picture.check_size(8192, 8192, MAX_PIXELS)
    images.picture.check_size(*sides, MAX_PIXELS - 1)
    with pytest.raises(ImageTooLarge):
        images.picture.check_size(60_000, 60_000, MAX_PIXELS)
    assert not recwarn


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(SMALL).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_the_profile_on_the_command_line(tmp_path, trellic, codec, photo):
    (tmp_path / "bomb.webp").write_bytes(webp_of_one_colour(8192))
    (tmp_path / "bomb.tlc").write_bytes(huge_stream(codec))
    for command, source, target in (
        ("encode", "bomb.webp", "a.tlc"),
        ("decode", "bomb.tlc", "a.png"),
    ):
        result = trellic(command, tmp_path / source, tmp_path / target, "--limits", "service")
        assert (result.code, result.out) == (1, "")
        assert "at most 33554432 pixels" in result.err
    model = ("--model", TINY, "--limits", "service")
    assert trellic("encode", photo, tmp_path / "a.tlc", *model).code == 0
    assert (tmp_path / "a.tlc").read_bytes() == codec.encode(SMALL)
    assert trellic("encode", photo, tmp_path / "b.tlc", "--limits", "home").code == 2


def test_the_deadline_on_the_command_line(tmp_path, trellic, photo, monkeypatch):
    monkeypatch.setenv("TRELLIC_MODELS", str(TINY.parent))
    assert trellic("encode", photo, tmp_path / "a.tlc", "--model", "tiny").code == 0
    for arguments in (
        ("encode", photo, tmp_path / "b.tlc", "--model", "tiny"),
        ("decode", tmp_path / "a.tlc", tmp_path / "b.png"),
    ):
        result = trellic(*arguments, "--deadline", "1e-9")
        assert (result.code, result.out) == (1, "")
        assert "not done after 1e-09 s; raise --deadline" in result.err
        assert not arguments[2].exists()
        assert trellic(*arguments, "--deadline", "1000").code == 0
    for wrong in ("0", "-1", "nan", "soon"):
        assert trellic("encode", photo, tmp_path / "c.tlc", "--deadline", wrong).code == 2


def test_what_the_package_shows():
    assert trellic.limited is limited
    assert trellic.Limits is Limits
