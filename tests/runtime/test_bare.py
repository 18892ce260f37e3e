"""Files of patches alone: AV1 data, the choice, and all that reads or edits such files."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from tests.data import make_patches

from trellic import bitstream
from trellic.bitstream import Header, Patches, Stream
from trellic.bitstream.av1 import StillHeader, check_still, still_header
from trellic.bitstream.container import assemble, stored_of
from trellic.bitstream.front import PATCHES
from trellic.bitstream.patches import in_pixels, is_av1, mask_shape, pack_patches, slice_areas
from trellic.codec import Codec
from trellic.errors import (
    BadParameter,
    CorruptStream,
    EngineError,
    ImageTooLarge,
    TargetUnreachable,
    TrellicWarning,
    TruncatedStream,
)
from trellic.geometry import BARE_SLICE_SIDE, DEFAULT_SLICE_SIDE, Rectangle, slice_counts
from trellic.images import Picture
from trellic.images import av1 as images_av1
from trellic.images.av1 import _box, _inner, contained, pack_still, unpack_still
from trellic.pipeline import alone, patching
from trellic.pipeline.alone import STILL, recoded, still_quality
from trellic.pipeline.patches import unpacked
from trellic.scored import encode_scored

SAMPLE = sorted((Path(__file__).parents[2] / "samples").glob("*.png"))[0]
HEIGHT, WIDTH = 210, 300
DIGEST = "56c9847d1d4dc71a7a4e3d00e8c05a48b4bd9b4f745820568d3e2db71ad7c49f"

CONTAINERS = {  # digests of files of AV1 data, by whether they are grey
    False: "f461ad9629f5156fd32d42816e7a38f49f1aa78d9b19da9e42f71d78734c2860",
    True: "86de1032ce88aa1333ce56d847d4b1b3ffed7c3adeaa81957ddaf322a43b5c0c",
}


def smooth_screen(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Smoothed text on white, and a soft pattern of many colours."""
    image = Image.new("RGB", (width * 2, height * 2), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 2 * width, 40), fill=(30, 60, 140))
    for line, top in enumerate(range(50, 2 * height, 28)):
        draw.text((8, top), f"{line} The quick brown fox jumps over a dog", "black", font_size=22)
    pixels = np.array(image.filter(ImageFilter.GaussianBlur(0.6)).resize((width, height)))
    y, x = np.mgrid[:60, :60]
    soft = [128 + 100 * np.sin(x / a + y * y / b) for a, b in ((7, 90), (9, 70), (12, 50))]
    pixels[10:70, -70:-10] = np.stack(soft, 2)
    return pixels


@pytest.fixture(scope="module")
def screen() -> np.ndarray:
    return smooth_screen()


@pytest.fixture(scope="module")
def data(photo, screen) -> bytes:
    return photo.encode(screen, quality=80, trellis=8, patches="auto")


@pytest.fixture(scope="module")
def stream(data) -> Stream:
    return bitstream.read(data)


@pytest.fixture(scope="module")
def photo() -> Codec:
    """The model that ships: the tiny one's files are smaller and worse than any AV1 picture."""
    return Codec.load("photo", device="cpu", threads=1)


# ---- AV1 data ----


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 90), st.integers(1, 90), st.booleans(), st.integers(0, 2**31))
def test_av1_data_say_what_they_are_and_come_back(height, width, grey, seed):
    shape = (height, width) if grey else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    data = pack_still(pixels, 100)
    check_still(data, height, width, grey=grey)
    found = still_header(data[2 : 2 + data[1]])
    assert found == StillHeader(0 if grey else 1, width, height, deep=False, grey=grey)
    shown = unpack_still(data, height, width, grey=grey)
    assert np.abs((shown[..., 1] if grey else shown).astype(int) - pixels).max() <= 4


def test_film_grain_and_what_follows_the_header_are_refused(screen):
    pixels, file = Image.fromarray(screen), io.BytesIO()
    grain = {"film-grain-test": "1"}
    pixels.save(file, "AVIF", subsampling="4:4:4", range="full", codec="aom", advanced=grain)
    data = images_av1._inner(file.getvalue(), b"mdat").removeprefix(b"\x12\0")
    with pytest.raises(CorruptStream, match="film grain"):
        check_still(data, HEIGHT, WIDTH, grey=False)
    good = pack_still(screen, 40)
    end = 2 + good[1]
    longer = bytes([good[0], good[1] + 1]) + good[2:end] + b"\0" + good[end:]
    with pytest.raises(CorruptStream, match="does not end where it should"):
        check_still(longer, HEIGHT, WIDTH, grey=False)


def test_the_programs_limit_of_pillow_does_not_matter(photo, data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert photo.decode(data).shape == (HEIGHT, WIDTH, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_more_quality_is_more_bytes_and_less_error(screen):
    made = [pack_still(screen, quality) for quality in (10, 50, 90)]
    errors = [
        np.square(unpack_still(one, HEIGHT, WIDTH, grey=False).astype(int) - screen).mean()
        for one in made
    ]
    assert sorted(made, key=len) == made
    assert sorted(errors, reverse=True) == errors


def reheadered(data: bytes, *, at: int, bits: str) -> bytes:
    """Change bits of the sequence header of AV1 data."""
    length = data[1]
    text = "".join(f"{byte:08b}" for byte in data[2 : 2 + length])
    text = text[:at] + bits + text[at + len(bits) :]
    return data[:2] + int(text, 2).to_bytes(length, "big") + data[2 + length :]


def test_other_av1_data_is_refused_before_it_is_decoded(screen):
    data, grey = pack_still(screen, 50), pack_still(screen[..., 1].copy(), 50)
    body = 2 + data[1]
    sizes = 18  # bits of profile, flags, level and the widths of both sizes
    deep = sizes + 9 + 8 + 6  # 300 and 210 take 9 and 8 bits; then six tools
    bad = {
        "not a still picture": reheadered(data, at=3, bits="0"),
        "profile 2": reheadered(data, at=0, bits="010"),
        "300x210 pixels, profile 1, more than 8 bits": reheadered(data, at=deep, bits="1"),
        "1x210": reheadered(data, at=sizes, bits="0" * 9),
        "profile 0, 8 bits, grey": grey,
        "2 bytes follow the frame": data + b"\x12\0",
        "unit 0x12": b"\x12\0" + data,
        "unit 0x0a": data[:body] * 2 + data[body:],
        "ends too early": data[:-1],
        "sequence header of an AV1 patch ends": b"\x0a\x02" + data[2:4] + data[body:],
    }
    for text, wrong in bad.items():
        with pytest.raises(CorruptStream, match=text):
            check_still(wrong, HEIGHT, WIDTH, grey=False)
    for length in range(body):
        with pytest.raises(CorruptStream):
            check_still(data[:length], HEIGHT, WIDTH, grey=False)


def sequence_header(profile: int, width: str, height: str, last: str) -> bytes:
    """Return a sequence header; widths in bits, and the last bits: six tools, depth and grey."""
    sizes = f"{len(width) - 1:04b}{len(height) - 1:04b}{width}{height}"
    bits = f"{profile:03b}1101001{sizes}{last}"
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_sequence_headers_are_read_to_their_last_bit():
    """Of profile 0, the last one read is that of grey; a bit less is an error."""
    for last, found in (("00000000", (False, False)), ("11111110", (True, False))):
        data = sequence_header(0, "101", "011", last)
        assert len(data) == 4
        assert still_header(data) == StillHeader(0, 6, 4, *found)
        with pytest.raises(CorruptStream, match=r"^the sequence header of an AV1 patch ends too e"):
            still_header(data[:-1])
    assert still_header(sequence_header(0, "101", "011", "00000001")).grey
    longer = sequence_header(0, "101", "011", "00000000" + "1" * 8)  # what follows is not read
    assert still_header(longer) == StillHeader(0, 6, 4, deep=False, grey=False)


GREY_TAIL = "00000001010"  # tools, 8 bits, grey; no colours, range, no film grain
IDENTITY = "1" + f"{0x010D00:024b}"  # colours that are RGB, which has no range


@pytest.mark.parametrize(
    ("profile", "width", "last", "ends"),
    [
        (0, "1", GREY_TAIL + "1", True),
        (0, "10", GREY_TAIL + "10000000", True),
        (0, "10", GREY_TAIL, False),
        (0, "1", GREY_TAIL + "100000000", False),
        (0, "1", GREY_TAIL + "0", False),
        (0, "1", "00000001" + IDENTITY + "101", True),
        (1, "10", "0000000" + IDENTITY + "001", True),  # one bit of chroma in place of it
    ],
)
def test_sequence_headers_end_with_a_bit_of_1_in_their_last_byte(profile, width, last, ends):
    header = sequence_header(profile, width, "0", last)
    data = bytes([0x0A, len(header)]) + header + b"\x32\0"
    with contextlib.nullcontext() if ends else pytest.raises(CorruptStream, match="does not end"):
        check_still(data, 1, 1 + int(width, 2), grey=profile == 0)


def test_what_is_wrong_with_av1_data_is_said():
    header = sequence_header(0, "101", "011", "00000000")
    data = bytes([0x0A, len(header)]) + header + b"\x32\0"
    with pytest.raises(CorruptStream) as found:
        check_still(data, 4, 6, grey=True)
    assert "an AV1 patch of 6x4 pixels, profile 0, 8 bits, colour" in str(found.value)
    assert "6x4 pixels, profile 0, 8 bits, grey" in str(found.value)
    with pytest.raises(CorruptStream, match=r"unit 0x33.*0x32"):
        check_still(data[:-2] + b"\x33\0", 4, 6, grey=True)
    with pytest.raises(CorruptStream, match="size of an AV1 unit is a varint of more than 4"):
        check_still(b"\x0a" + b"\xff" * 5, 4, 6, grey=True)
    with pytest.raises(CorruptStream, match=r"^an AV1 patch that is not a still picture"):
        still_header(bytes([header[0] & ~8]) + header[1:])


@pytest.mark.parametrize(("grey", "digest"), CONTAINERS.items())
def test_the_container_of_av1_data_is_what_it_was(grey, digest):
    """No library needs to be here for that, and each reads other parts of it."""
    profile = 0 if grey else 1
    data = bytes([0x0A, 6, profile << 5 | 0x18 | 2, 0x40]) + bytes(range(30))
    file = contained(data, 210, 300, grey=grey)
    assert file.endswith(b"mdat" + data)
    offset = file.index(b"iloc") + 4 + 14
    start, length = (int.from_bytes(file[i : i + 4], "big") for i in (offset, offset + 4))
    assert file[start : start + length] == data
    assert hashlib.sha256(file).hexdigest() == digest


def test_boxes_are_searched_in_order():
    file = _box(b"free", b"abc") + _box(b"mdat", b"defg") + _box(b"mdat", b"h")
    assert _inner(file, b"mdat") == b"defg"
    with pytest.raises(EngineError, match="wrote no box b'meta'"):
        _inner(file, b"meta")


def test_damaged_av1_data_is_one_error(screen):
    data = pack_still(screen, 50)
    rng = np.random.default_rng(0)
    for at in rng.integers(2 + data[1], len(data), 40):
        broken = bytearray(data)
        broken[at] ^= 1 << rng.integers(8)
        with contextlib.suppress(CorruptStream):  # or a wrong picture: AV1 has no check of its own
            check_still(bytes(broken), HEIGHT, WIDTH, grey=False)
            assert unpack_still(bytes(broken), HEIGHT, WIDTH, grey=False).shape == screen.shape


def test_a_pillow_without_avif(monkeypatch, photo, screen, data):
    monkeypatch.setattr(images_av1, "has_av1", lambda: False)
    monkeypatch.setattr(alone, "can_pack", lambda: False)
    with pytest.raises(Exception, match="built without AVIF"):
        photo.decode(data)
    other = photo.encode(screen, quality=80, trellis=8, patches="auto")
    assert not bitstream.read_header(other).bare


# ---- the choice ----


def test_smooth_screens_become_patches_alone(photo, screen, data, stream):
    plain = photo.encode(screen, quality=80, trellis=8)
    assert stream.header.bare
    assert stream.patches.av1 == 1
    assert stream.patches.mask.all()
    assert set(stream.segments) == {b""}
    assert len(data) < len(plain)
    shown, before = photo.decode(data), photo.decode(plain)
    assert (
        np.square(shown.astype(int) - screen).sum() <= np.square(before.astype(int) - screen).sum()
    )
    assert (shown == unpack_still(stream.patches.data[0], HEIGHT, WIDTH, grey=False)).all()


def test_pictures_without_loss_where_that_is_smaller(photo):
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    pixels[::7, ::3] = 0
    found = photo.encode(pixels, quality=90, trellis=0, patches="auto")
    assert (photo.decode(found) == pixels).all()


@pytest.mark.parametrize(
    ("share", "left", "wins"),
    [(0.99, 1.0, True), (1.04, 0.7, True), (1.04, 0.9, False), (1.06, 0.1, False)],
)
def test_more_bytes_only_for_less_error(photo, screen, monkeypatch, share, left, wins):
    plain = bitstream.read(photo.encode(screen, quality=80, trellis=8))
    size = sum(map(len, plain.segments))
    bare = replace(plain, segments=[bytes(round(share * size / 2) * 2)])

    def fixed(*given: object) -> tuple[Stream | None, float]:
        assert given[-1] == round(patching.MORE * size)
        return (bare if share <= patching.MORE else None), left

    monkeypatch.setattr(patching, "alone", fixed)
    mask = np.zeros(mask_shape(HEIGHT, WIDTH), np.bool_)
    mask[0, 0] = True
    made = patching.choose(
        screen, mask, lambda _, __: plain, lambda _: np.full_like(screen, 128), 1280
    )
    assert (made is bare) == wins


def test_no_slice_is_worse_than_in_latents(screen):
    header = Header(WIDTH, HEIGHT, 800, 8, 2, b"abcd", (1,), adapter=b"wxyz")
    plain = Stream(header, [bytes(2), bytes(2), bytes(2)])
    first = still_quality(800)
    found = [pack_still(screen, quality) for quality in (first, first + 8, first + 16)]
    errors = [
        np.square(unpack_still(one, HEIGHT, WIDTH, grey=False).astype(int) - screen).sum()
        for one in found
    ]
    error = np.zeros((HEIGHT, WIDTH), np.int64)
    error[0, 0] = errors[2]  # only the third is good enough
    made, left = alone.alone(screen, error, plain, 10**6)
    assert made is not None
    assert made.patches.data == (found[2],)
    assert left == 1
    assert made.header.adapter is None
    assert alone.alone(screen, error, plain, len(found[2])) != (None, 1)
    assert alone.alone(screen, error, plain, len(found[2]) - 1) == (None, 1)
    whole, left = alone.alone(screen, np.zeros_like(error), plain, 10**6)
    assert (unpacked(whole.patches.data[0], whole_area(), grey=False) == screen).all()
    assert left == 0


def without_latents(pixels: np.ndarray, quality16: int) -> Stream:
    """Return the stream that `alone` is given, whose latents do not matter."""
    height, width = pixels.shape[:2]
    rows, columns = slice_counts(-(-height // 16), -(-width // 16), DEFAULT_SLICE_SIDE)
    lanes = (2,) * (rows * columns)
    header = Header(width, height, quality16, 8, 2, b"abcd", lanes, grey=pixels.ndim == 2)
    return Stream(header, [bytes(2)] * header.segments, {"a": b"b"})


@pytest.mark.parametrize("grey", [False, True])
def test_each_slice_is_the_smaller_of_both_and_has_its_own_bar(grey):
    side = 16 * BARE_SLICE_SIDE
    pixels = smooth_screen(100, side + 60)
    pixels[:, side:] = 255  # the second slice
    pixels = pixels[..., 1].copy() if grey else pixels
    plain = without_latents(pixels, 800)
    quality = still_quality(800)
    first = pack_still(np.ascontiguousarray(pixels[:, :side]), quality)
    shown = unpack_still(first, 100, side, grey=grey)
    shown = shown[..., 1] if grey else shown
    error = np.square(shown.astype(int) - pixels[:, :side])
    allowed = np.zeros(pixels.shape[:2], np.int64)
    allowed[5, 7], allowed[0, -1] = error.sum(), error.sum()
    made, left = alone.alone(pixels, allowed, plain, 10**6)
    assert made is not None
    one, two = made.patches.data
    assert (one, is_av1(two)) == (first, False)
    assert left == 0.5
    assert made.patches.mask.dtype == np.bool_
    assert made.patches.mask.all()
    assert made.patches.mask.shape == mask_shape(*pixels.shape[:2])
    assert made.chunks == plain.chunks
    assert made.segments == [b""] * made.header.segments
    assert made.header == replace(
        plain.header, bare=True, steps=1, lanes=(1, 1), slice_side=BARE_SLICE_SIDE, adapter=None
    )
    fits, _ = alone.alone(pixels, allowed, plain, len(one) + len(two))
    assert fits is not None
    assert fits.patches.data == (one, two)
    assert alone.alone(pixels, allowed, plain, len(one) + len(two) - 1) == (None, 1)

    lower = recoded(made.patches, made.header, 320)
    again = unpacked(one, Rectangle(0, 100, 0, side), grey=grey)
    assert lower.data == (pack_still(again, still_quality(320)), two)
    assert len(lower.data[0]) < len(one)
    assert (lower.mask == made.patches.mask).all()


def test_the_best_of_av1_is_the_last_that_is_tried(screen, monkeypatch):
    tried = []

    def packed(pixels: np.ndarray, quality: int) -> bytes:
        tried.append(quality)
        return pack_still(pixels, quality)

    monkeypatch.setattr(alone, "pack_still", packed)
    nothing = np.zeros((HEIGHT, WIDTH), np.int64)
    first = still_quality(1520)
    assert alone.BEST - alone.STEP < first < alone.BEST
    alone.alone(screen, nothing, without_latents(screen, 1520), 10**6)
    assert tried == [first, alone.BEST]
    tried.clear()
    alone.alone(screen, nothing, without_latents(screen, 1600), 10**6)
    assert tried == [alone.BEST]


def test_without_av1_latents_stay(screen, monkeypatch):
    monkeypatch.setattr(alone, "can_pack", lambda: False)
    much = np.full((HEIGHT, WIDTH), 10**6)
    assert alone.alone(screen, much, without_latents(screen, 800), 10**6) == (None, 1)


def test_squared_errors_do_not_wrap_and_are_summed_over_channels():
    one, other = np.full((2, 3, 3), 255, np.uint8), np.zeros((2, 3, 3), np.uint8)
    assert (alone.squared(one, other) == 3 * 255**2).all()
    assert (alone.squared(other[..., 0], one[..., 0]) == 255**2).all()
    assert alone.squared(one, other).dtype == np.int64
    assert alone.squared(one, other).shape == (2, 3)


def whole_area() -> Rectangle:
    return Rectangle(0, HEIGHT, 0, WIDTH)


@pytest.mark.parametrize("option", ["progressive", "dither"])
def test_what_needs_latents_keeps_them(photo, screen, option):
    value = 7 if option == "dither" else True
    data = photo.encode(screen, quality=80, trellis=0, patches="auto", **{option: value})
    assert not bitstream.read_header(data).bare


def test_the_quality_of_av1_rises_with_ours():
    found = [still_quality(16 * quality) for quality in range(1, 101)]
    assert sorted(found) == found
    assert [still_quality(16 * ours) for ours, _ in STILL] == [theirs for _, theirs in STILL]


# ---- whole files ----


def changed(stream: Stream, **fields: object) -> bytes:
    """Return a file with another header, whose checks hold."""
    header = replace(stream.header, **fields)
    data = bitstream.write(stream)
    return assemble(
        header, stored_of(memoryview(data), bitstream.read_contents(data)), stream.segments
    )


def test_headers_of_patches_alone(stream):
    for wrong in ({"steps": 2}, {"lanes": (2,)}, {"dither": 3}, {"adapter": b"abcd"}):
        with pytest.raises(BadParameter, match="patches alone"):
            replace(stream.header, **{"trellis": 0, **wrong})
    part = stream.patches.mask.copy()
    part[-1, -1] = False
    with pytest.raises(BadParameter, match="leave a part"):
        pack_patches(Patches(part, stream.patches.data), stream.header)


def test_hostile_files_of_patches_alone(photo, data, stream):
    latents = replace(stream, segments=[b"\0\0", *stream.segments[1:]])
    last = replace(stream, segments=[*stream.segments[:-1], b"\0\0"])
    with pytest.raises(CorruptStream, match="segments that are not empty"):
        photo.decode(bitstream.write(latents))
    with pytest.raises(CorruptStream, match="last segment that is not empty"):
        photo.decode(bitstream.write(last))
    with_latents = replace(stream.header, bare=False)
    few = np.zeros_like(stream.patches.mask)
    few[0] = True
    stored = pack_patches(Patches(few, stream.patches.data), with_latents)
    with pytest.raises(CorruptStream, match="leave a part out"):
        photo.decode(assemble(stream.header, {PATCHES: stored}, stream.segments))
    with pytest.raises(CorruptStream, match="neither latents nor patches"):
        photo.decode(assemble(stream.header, {}, stream.segments))
    for length in (len(data) // 2, len(data) - 1):
        with pytest.raises((TruncatedStream, CorruptStream)):
            photo.decode(data[:length])


def test_nothing_is_left_of_a_file_whose_patches_are_damaged(photo, data):
    span = bitstream.read_contents(data).chunks[PATCHES]
    flipped = bytearray(data)
    flipped[span.offset + 9] ^= 1
    for best_effort in (False, True):
        with pytest.raises(CorruptStream, match=r"patches|checksum"):
            photo.decode(bytes(flipped), best_effort=best_effort)


def test_regions_and_small_pictures(photo, data):
    whole = photo.decode(data)
    x, y, wide, high = 37, 41, 101, 77
    part = photo.decode(data, region=(x, y, wide, high))
    assert (part == whole[y : y + high, x : x + wide]).all()
    for name, info in photo.decoders.items():
        if info.kind != "picture":
            with pytest.raises(BadParameter, match="without latents"):
                photo.classify(data, decoder=name)
            continue
        small = photo.decode(data, decoder=name)
        assert small.shape == (-(-HEIGHT // info.scale), -(-WIDTH // info.scale), 3)


def test_several_slices(photo):
    pixels = smooth_screen(100, 2100)
    data = photo.encode(pixels, quality=80, trellis=8, patches="auto")
    stream = bitstream.read(data)
    assert stream.header.bare
    assert stream.header.slices == 2
    assert len(stream.patches.data) == 2
    whole = photo.decode(data)
    for x in (0, 1990, 2010):
        assert (photo.decode(data, region=(x, 3, 90, 50)) == whole[3:53, x : x + 90]).all()


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_alpha(photo, screen, mode):
    image = Image.fromarray(screen).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(np.tile(np.arange(WIDTH) < 200, (HEIGHT, 1))).convert("L"))
    data = photo.encode(image, quality=80, trellis=8, patches="auto")
    assert bitstream.read_header(data).bare
    shown, wanted = photo.decode(data), np.asarray(image)
    assert shown.shape == wanted.shape
    assert mode == "L" or (shown[..., 3] == wanted[..., 3]).all()
    seen = wanted[..., 3] > 0 if mode == "RGBA" else np.ones((HEIGHT, WIDTH), bool)
    assert np.abs(shown.astype(int) - wanted)[seen].mean() < 3


def test_they_arrive_as_one_picture_and_cannot_be_cut(photo, data):
    half = len(data) // 2
    (shown,) = photo.decode_progressive([data[:half], data[half:]])
    assert (shown == photo.decode(data)).all()
    with pytest.raises(BadParameter, match="patches alone"):
        bitstream.cut(data, max_bytes=half)


def test_sizes_are_met(photo, screen, data):
    budget = len(data) - 300
    found = photo.encode(screen, max_bytes=budget, trellis=0, patches="auto")
    assert len(found) <= budget


def test_scores_may_be_exceeded(photo):
    pytest.importorskip("ssimulacra2")
    pixels = np.full((96, 160, 3), 255, np.uint8)
    pixels[8:90:8, ::3] = 0  # lossless in less than latents take
    found = encode_scored(photo, Picture(pixels), 70, patches="auto")
    assert found.score == 100
    assert (photo.decode(found.encoded.data) == pixels).all()
    with pytest.raises(TargetUnreachable):
        encode_scored(photo, Picture(pixels), 99.5)


def test_transcoding_codes_av1_again(photo, data, stream, screen):
    smaller = photo.transcode(data, quality=30)
    header = bitstream.read_header(smaller)
    assert (header.bare, header.quality) == (True, 30)
    assert len(smaller) < len(data)
    assert len(photo.transcode(data, max_bytes=len(data) - 500)) <= len(data) - 500
    with pytest.warns(TrellicWarning, match="no better"):
        assert len(photo.transcode(data, quality=95)) <= len(data) + 16
    assert recoded(stream.patches, stream.header, 1600).data == stream.patches.data


def test_edits(photo, data):
    picture = photo.decode_picture(data)
    assert photo.encode_again(picture, data).data == data
    pixels = picture.pixels.copy()
    pixels[70:90, 70:100] = (250, 3, 7)
    edited = photo.encode_again(Picture(pixels), data).data
    assert is_av1(bitstream.patches_of(edited).data[0])
    assert np.abs(photo.decode(edited).astype(int) - pixels).mean() < 0.7


def test_many_edits_lose_little(photo, screen, data):
    def loss(picture: Picture) -> float:
        return float(np.square(picture.pixels[40:].astype(int) - screen[40:]).mean())

    picture = photo.decode_picture(data)
    before, edited = loss(picture), data
    for number in range(5):
        pixels = picture.pixels.copy()
        pixels[0, number] = (255, 0, 0)
        edited = photo.encode_again(Picture(pixels), edited).data
        picture = photo.decode_picture(edited)
    assert loss(picture) < 1.2 * before


def test_an_area_that_does_not_decode_leaves_the_others(photo):
    stream = bitstream.read(photo.encode(smooth_screen(100, 2100), quality=60, patches="auto"))
    first, second = stream.patches.data
    assert is_av1(first)
    broken = first[: 2 + first[1] + 3] + b"\xff" * (len(first) - 5 - first[1])
    whole = photo.decode(bitstream.write(stream))
    patches = Patches(stream.patches.mask, (broken, second))
    wrong = bitstream.write(replace(stream, patches=patches))
    with pytest.raises(CorruptStream, match="does not decode"):
        photo.decode(wrong)
    with pytest.warns(TrellicWarning, match="the patches chunk"):
        shown = photo.decode(wrong, best_effort=True)
    assert (shown[:, 2048:] == whole[:, 2048:]).all()
    narrow = replace(stream.header, width=2048, lanes=(1,))
    only = Patches(stream.patches.mask[:, :64], (broken,))
    with pytest.raises(CorruptStream, match="does not decode"):
        photo.decode(bitstream.write(Stream(narrow, [b"", b""], patches=only)), best_effort=True)


def test_memory_is_bounded(photo, data):
    with pytest.raises(ImageTooLarge, match="transcoding"):
        photo.transcode(data, quality=10, max_memory=10**6)
    with pytest.raises(ImageTooLarge, match="decoding"):
        photo.decode(data, max_memory=10**6)
    assert photo.decode(data, max_memory=400_000_000).shape == (HEIGHT, WIDTH, 3)


def test_commands(screen, trellic, tmp_path):
    source, target, back = (tmp_path / name for name in ("a.png", "a.tlc", "b.png"))
    Image.fromarray(screen).save(source)
    options = ("--patches", "auto", "--trellis", "8", "-q", "80")
    assert trellic("encode", source, target, *options).code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trellic("decode", target, back).code == 0
    found = json.loads(trellic("info", target, "--json").out)
    assert (found["av1_patches"], found["latents"], found["lengths"]) == (1, False, None)
    assert "1 slice in AV1, no latents" in trellic("info", target).out


def test_a_note_for_screens_once(screen, trellic, tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(screen).save(tmp_path / name)
    folder, out = tmp_path, tmp_path / "out"
    said = trellic("encode", folder / "a.png", folder / "b.png", out).err
    assert said.count("note: ") == 1
    assert "looks drawn; --patches auto" in said
    for options in (("--patches", "auto"), ("--json",), ("--progressive",)):
        assert "note: " not in trellic("encode", folder / "a.png", folder / "c.tlc", *options).err
    Image.fromarray(np.asarray(Image.open(SAMPLE))[:64, :64]).save(folder / "d.png")
    assert "note: " not in trellic("encode", folder / "d.png", folder / "d.tlc").err


def test_the_golden_file_decodes_as_ever(tiny):
    data = make_patches.BARE.read_bytes()
    assert hashlib.sha256(data).hexdigest() == DIGEST
    stream = bitstream.read(data)
    assert [is_av1(part) for part in stream.patches.data] == [True, False]
    shown = tiny.decode(data).astype(int)
    left, right = (in_pixels(area, *shown.shape[:2]).index() for area in slice_areas(stream.header))
    wanted = make_patches.drawn().astype(int)
    assert (shown[right] == wanted[right]).all()
    kept = np.asarray(Image.open(make_patches.BARE_LEFT).convert("RGB")).astype(int)
    assert np.abs(shown[left] - kept).max() <= 1  # colour conversion may round in another way
