"""Patches: their chunk, which blocks become patches, and all that reads or edits such files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from tests.data import make_patches

from trellic import bitstream, images
from trellic.bitstream import Patches
from trellic.bitstream.container import assemble, stored_of
from trellic.bitstream.fields import pack_varint
from trellic.bitstream.front import PATCHES
from trellic.bitstream.patches import (
    in_pixels,
    mask_shape,
    pack_mask,
    pack_mask_plainly,
    pack_patches,
    read_patches,
    slice_areas,
)
from trellic.errors import BadParameter, CorruptStream, TrellicWarning
from trellic.images import Picture
from trellic.images.drawn import drawn_blocks, fewer_colours
from trellic.images.lossless import pack_pixels, unpack_pixels
from trellic.limits import PATCH_SIDE
from trellic.pipeline.patches import paste, spread
from trellic.pipeline.patching import BETTER
from trellic.pipeline.region import to_rectangle

SAMPLES = Path(__file__).parents[2] / "samples"
HEIGHT, WIDTH = 203, 270
DIGEST = "1b5bf765abd49cdad662677e9a7b33fce6fe6937978f97fefc47cd0f3aac95d5"


def screenshot(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Text, boxes and lines on white, and noise like a photo in a corner."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, 14), fill=(30, 60, 140))
    for line, top in enumerate(range(20, height, 14)):
        draw.text((4, top), f"{line} The quick brown fox jumps over a lazy dog 0123456789", "black")
    pixels = np.array(image)
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    pixels[-64:, -64:] = noise
    return pixels


@pytest.fixture(scope="module")
def screen() -> np.ndarray:
    return screenshot()


@pytest.fixture(scope="module")
def data(tiny, screen) -> bytes:
    return tiny.encode(screen, quality=80, trellis=8, patches="auto")


@pytest.fixture(scope="module")
def stream(data) -> bitstream.Stream:
    return bitstream.read(data)


def seen_by(patches: Patches) -> np.ndarray:
    """Pixels of a screenshot that patches cover."""
    return spread(patches.mask, PATCH_SIDE)[:HEIGHT, :WIDTH]


# ---- the chunk ----


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_masks_are_packed_as_the_reference_does(data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    bits = data.draw(st.integers(0, 2 ** (shape[0] * shape[1]) - 1))
    mask = np.array([bits >> n & 1 for n in range(shape[0] * shape[1])], bool).reshape(shape)
    assert pack_mask(mask) == pack_mask_plainly(mask)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 2**31), st.booleans())
def test_chunks_of_odd_sizes_come_back(height, width, seed, grey):
    rng = np.random.default_rng(seed)
    side = 16
    count = -(-height // 256) * -(-width // 256)
    header = bitstream.Header(
        width=width,
        height=height,
        quality16=800,
        trellis=8,
        steps=2,
        stream_id=b"abcd",
        lanes=(1,) * count,
        grey=grey,
        slice_side=side,
    )
    mask = rng.random(mask_shape(height, width)) < 0.5
    mask[0, 0] = True
    shape = (height, width) if grey else (height, width, 3)
    pixels = rng.integers(0, 4, shape).astype(np.uint8)
    parts = []
    for area in slice_areas(header):
        part = in_pixels(area, height, width).index()
        parts.append(pack_pixels(pixels[part]) if mask[area.index()].any() else None)
    read = read_patches(pack_patches(Patches(mask, tuple(parts)), header), header)
    assert (read.mask == mask).all()
    assert read.data == tuple(parts)
    shown = np.full_like(pixels, 99)
    paste(shown, read, header, to_rectangle(None, width, height))
    seen = spread(mask, PATCH_SIDE)[:height, :width]
    assert (shown[seen] == pixels[seen]).all()
    assert (shown[~seen] == 99).all()


def test_what_does_not_fit_is_not_written(stream):
    patches = stream.patches
    for wrong in (
        Patches(patches.mask[1:], patches.data),
        Patches(np.zeros_like(patches.mask), patches.data),
        Patches(patches.mask, (None,)),
    ):
        with pytest.raises(BadParameter):
            pack_patches(wrong, stream.header)


def forged(data: bytes, stored: bytes) -> bytes:
    """Put another chunk in place of a file's, with checks that hold."""
    contents, stream = bitstream.read_contents(data), bitstream.read_prefix(data)
    chunks = stored_of(memoryview(data), contents) | {PATCHES: stored}
    return assemble(contents.header, chunks, stream.segments)


def chunk(mask: bytes, *parts: bytes) -> bytes:
    packed = zlib.compress(mask)
    lengths = [pack_varint(len(part)) for part in parts]
    return b"".join([pack_varint(len(packed)), packed, *lengths, *parts])


def test_hostile_chunks_are_one_error(tiny, data, stream):
    mask, part = pack_mask(stream.patches.mask), stream.patches.data[0]
    outside = bytes([*mask[:-1], mask[-1] | 1])  # 63 blocks: the last bit is no block
    assert stream.patches.mask.size == 63
    wide = part[:1] + (16382 | 16382 << 14).to_bytes(4, "little") + part[5:]
    alpha = part[:4] + bytes([part[4] | 0x10]) + part[5:]
    bad = {
        "too early": chunk(mask),
        "follow the patches": chunk(mask, part) + b"\0",
        "outside of the picture": chunk(outside, part),
        "or none": chunk(bytes(len(mask)), part),
        "inflates to more": chunk(mask * 1000, part),
        "a mask of patches of 1 bytes": chunk(b"\xff", part),
        "16383x16383": chunk(mask, wide),
        "further bits 1": chunk(mask, alpha),
        "not VP8L": chunk(mask, b"junk!" + part),
        "not exactly one zlib": pack_varint(3) + zlib.compress(mask),
        "does not inflate": pack_varint(4) + b"junk",
    }
    for text, stored in bad.items():
        with pytest.raises(CorruptStream, match=text):
            tiny.decode(forged(data, stored))
    for length in range(0, len(part), max(1, len(part) // 12)):
        with pytest.raises(CorruptStream):
            tiny.decode(forged(data, chunk(mask, part[:length])))
    rng = np.random.default_rng(0)
    for at in rng.integers(5, len(part), 25):
        broken = bytearray(part)
        broken[at] ^= 1 << rng.integers(8)
        with contextlib.suppress(CorruptStream):  # VP8L has no check of its own
            tiny.decode(forged(data, chunk(mask, bytes(broken))))


def test_a_patch_that_does_not_decode_is_left_out_at_best_effort(tiny, data, stream):
    part = stream.patches.data[0]
    broken = forged(data, chunk(pack_mask(stream.patches.mask), part[: len(part) // 2]))
    plain = tiny._decoding.shown(stream)
    with pytest.warns(TrellicWarning, match="the patches chunk"):
        shown = tiny.decode(broken, best_effort=True)
    assert (shown == plain).all()
    span = bitstream.read_contents(data).chunks[PATCHES]
    flipped = bytearray(data)
    flipped[span.offset + 9] ^= 1
    with pytest.raises(CorruptStream, match="checksum"):
        tiny.decode(bytes(flipped), region=(0, 0, 8, 8))
    with pytest.warns(TrellicWarning, match="the patches chunk"):
        assert tiny.decode(bytes(flipped), best_effort=True).shape == plain.shape


# ---- the choice ----


def test_drawn_blocks(screen):
    drawn = drawn_blocks(screen, PATCH_SIDE)
    assert drawn.shape == mask_shape(HEIGHT, WIDTH)
    assert drawn.mean() > 0.6
    assert not drawn[-1, -1]
    grey = drawn_blocks(screen[..., 0], PATCH_SIDE)
    assert (grey == drawn).all()


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.png")), ids=lambda path: path.stem)
def test_photos_have_no_patches(path):
    pixels = images.read(path).pixels
    assert not drawn_blocks(pixels, PATCH_SIDE).any()
    assert not drawn_blocks(np.zeros_like(pixels), PATCH_SIDE).any()


def test_photos_do_not_change(tiny):
    rng = np.random.default_rng(2)
    photo = rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)
    assert tiny.encode(photo, patches="auto") == tiny.encode(photo)


def test_few_colours_keep_the_common_ones(screen):
    few = fewer_colours(screen, 8)
    assert len(np.unique(few.reshape(-1, 3), axis=0)) <= 8
    white = (screen == 255).all(2)
    assert (few[white] == 255).all()
    grey = fewer_colours(screen[..., 0], 4)
    assert grey.shape == screen.shape[:2]


def test_lossless_pixels_come_back(screen):
    assert (unpack_pixels(pack_pixels(screen), HEIGHT, WIDTH) == screen).all()
    with pytest.raises(CorruptStream):
        unpack_pixels(pack_pixels(screen)[:40], HEIGHT, WIDTH)


# ---- whole files ----


def test_the_golden_file_decodes_as_ever(tiny):
    data = make_patches.GOLDEN.read_bytes()
    assert hashlib.sha256(data).hexdigest() == DIGEST
    stream = bitstream.read(data)
    assert (stream.patches.mask == make_patches.stored()).all()
    assert stream.header.slices == 2
    seen = spread(make_patches.stored(), PATCH_SIDE)[: make_patches.HEIGHT, : make_patches.WIDTH]
    shown = tiny.decode(data)
    assert (shown[seen] == make_patches.drawn()[seen]).all()
    assert (shown[~seen] == tiny._decoding.shown(stream)[~seen]).all()


def test_screens_are_smaller_and_better(tiny, screen, data, stream):
    plain = tiny.encode(screen, quality=80, trellis=8)
    assert bitstream.read(plain).patches is None
    assert len(data) < len(plain)
    seen = seen_by(stream.patches)
    assert seen.sum() > 0.5 * seen.size
    shown = tiny.decode(data)
    errors = [((one.astype(int) - screen)[seen] ** 2).sum() for one in (shown, tiny.decode(plain))]
    assert errors[0] <= BETTER * errors[1]
    white = seen & (screen == 255).all(2)
    assert white.any()
    assert (shown[white] == 255).all()
    assert not seen[-32:, -32:].any()


def test_regions_and_previews(family, screen):
    data = family.encode(screen, quality=80, trellis=8, patches="auto")
    whole = family.decode(data)
    x, y, wide, high = 37, 41, 101, 77
    part = family.decode(data, region=(x, y, wide, high))
    patched = seen_by(bitstream.patches_of(data))
    inside = patched[y : y + high, x : x + wide]
    assert (part[inside] == whole[y : y + high, x : x + wide][inside]).all()
    scales = {info.scale: name for name, info in family.decoders.items() if info.kind == "picture"}
    assert len(scales) > 1
    for scale, name in scales.items():
        small = family.decode(data, decoder=name)
        assert small.shape == (-(-HEIGHT // scale), -(-WIDTH // scale), 3)
        means = whole[: 64 // scale * scale, :64].reshape(64 // scale, scale, 64 // scale, scale, 3)
        wanted = means.mean((1, 3))
        assert np.abs(small[: 64 // scale, : 64 // scale] - wanted).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_alpha(tiny, screen, mode):
    image = Image.fromarray(screen).convert(mode)
    if "A" in mode:
        image.putalpha(
            Image.fromarray(
                np.where(np.arange(WIDTH) < 200, 255, 90)[None].repeat(HEIGHT, 0).astype(np.uint8)
            )
        )
    data = tiny.encode(image, quality=80, trellis=8, patches="auto")
    assert bitstream.read(data).patches is not None
    shown = tiny.decode(data)
    assert shown.shape == np.asarray(image).shape
    wanted = np.asarray(image)
    assert "A" not in mode or (shown[..., -1] == wanted[..., -1]).all()
    white = seen_by(bitstream.patches_of(data)) & (screen == 255).all(2)
    assert (shown[white] == wanted[white]).all()


def test_sizes_count_patches(tiny, screen):
    budget = 6000
    data = tiny.encode(screen, max_bytes=budget, trellis=0, patches="auto")
    assert len(data) <= budget


def test_options_are_checked(tiny, screen, trellic, tmp_path):
    with pytest.raises(BadParameter, match="'auto' or 'off'"):
        tiny.encode(screen, patches="on")


def test_progressive_files_and_cuts(tiny, screen):
    data = tiny.encode(screen, quality=70, trellis=0, progressive=True, patches="auto")
    patches = bitstream.patches_of(data)
    assert patches is not None
    shorter = bitstream.cut(data, passes=2).data
    assert bitstream.patches_of(shorter).data == patches.data
    with pytest.raises(BadParameter, match="patches and one pass"):
        bitstream.cut(data, max_bytes=len(patches.data[0]))
    shown = list(tiny.decode_progressive([data[: len(shorter)], data[len(shorter) :]]))
    assert (shown[-1] == tiny.decode(data)).all()
    seen = seen_by(patches)
    assert (shown[0][seen] == shown[-1][seen]).all()


def test_transcoding_keeps_patches(tiny, data, stream):
    smaller = tiny.transcode(data, quality=40)
    assert bitstream.patches_of(smaller).data == stream.patches.data
    assert len(smaller) < len(data)


def test_edits(tiny, data, stream):
    picture = tiny.decode_picture(data)
    assert tiny.encode_again(picture, data).data == data
    pixels = picture.pixels.copy()
    pixels[70:80, 70:80] = (250, 3, 7)  # in a patch
    edited = tiny.encode_again(Picture(pixels), data).data
    assert (tiny.decode(edited) == pixels).all()
    pixels[-20:, -20:] = 0  # beside them
    edited = tiny.encode_again(Picture(pixels), data).data
    seen = seen_by(stream.patches)
    assert (tiny.decode(edited)[seen] == pixels[seen]).all()


def test_commands(tiny_path, screen, trellic, tmp_path):
    source, target, back = (tmp_path / name for name in ("a.png", "a.tlc", "b.png"))
    Image.fromarray(screen).save(source)
    options = ("--model", tiny_path, "--patches", "auto", "--trellis", "8")
    assert trellic("encode", source, target, *options).code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trellic("decode", target, back, "--model", tiny_path).code == 0
    found = json.loads(trellic("info", target, "--json").out)
    assert found["patches"] == bitstream.patches_of(target.read_bytes()).blocks
    assert found["parts"]["patches"] > 0
    assert f"{found['patches']} blocks of 32x32 pixels" in trellic("info", target).out
    assert trellic("encode", source, target, "--like", target, "--patches", "auto").code == 2
