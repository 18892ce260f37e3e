"""Colours under alpha 0, and what the encoder does with a picture before it codes it."""

from __future__ import annotations

import numpy as np
import pytest

from trellic import bitstream
from trellic.images import Picture, colour, fill_clear, to_srgb
from trellic.images.fill import _STRIP

RNG = np.random.default_rng(8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y % 256, x % 256, (x + y) // 2 % 256], axis=-1).astype(np.uint8)


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    far = np.hypot(y - height / 2, x - width / 2)
    return np.clip((min(height, width) / 3 - far) * 64, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 96), (1, 7), (7, 1), (33, 31), (2 * _STRIP + 5, 9)])
@pytest.mark.parametrize("grey", [False, True])
def test_only_clear_pixels_change_and_alpha_does_not(shape, grey):
    pixels = RNG.integers(0, 256, shape if grey else (*shape, 3), dtype=np.uint8)
    alpha = RNG.choice(np.array([0, 0, 0, 1, 255], np.uint8), shape)
    alpha.flat[0] = 9
    before = pixels.copy()
    filled = fill_clear(Picture(pixels, alpha, b"icc", b"II*\0", b"xmp"))
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(filled.pixels[alpha > 0], pixels[alpha > 0])
    assert filled.alpha is alpha
    assert (filled.icc, filled.exif, filled.xmp) == (b"icc", b"II*\0", b"xmp")


def test_what_is_under_alpha_0_makes_no_difference():
    alpha = disc(90, 120)
    shown = np.where(alpha[..., None] > 0, smooth(90, 120), 0)
    noise = np.where(alpha[..., None] > 0, shown, RNG.integers(0, 256, shown.shape))
    one, other = (fill_clear(Picture(p.astype(np.uint8), alpha)) for p in (shown, noise))
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_one_colour_is_continued_without_a_trace():
    alpha = disc(77, 130)
    pixels = np.where(alpha[..., None] > 0, np.uint8([200, 17, 90]), 0).astype(np.uint8)
    assert (fill_clear(Picture(pixels, alpha)).pixels == [200, 17, 90]).all()


def test_there_is_no_step_at_the_edge():
    alpha = disc(120, 120)
    photo = smooth(120, 120)
    filled = fill_clear(Picture(np.where(alpha[..., None] > 0, photo, 0).astype(np.uint8), alpha))
    steps = np.abs(np.diff(filled.pixels.astype(int), axis=1)).max(axis=-1)
    assert steps.max() < 16


@pytest.mark.parametrize("value", [0, 1, 255])
def test_nothing_to_fill_is_no_copy(value):
    picture = Picture(smooth(5, 5), np.full((5, 5), value, np.uint8))
    assert fill_clear(picture) is picture
    assert fill_clear(Picture(picture.pixels)).pixels is picture.pixels


def test_strips_meet():
    """The same picture, below so many rows that it lies in another strip."""
    alpha = disc(60, 60)
    shown = np.where(alpha[..., None] > 0, smooth(60, 60), 0).astype(np.uint8)
    above = _STRIP - 32
    tall = np.concatenate([np.zeros((above, 60, 3), np.uint8), shown])
    tall_alpha = np.concatenate([np.zeros((above, 60), np.uint8), alpha])
    low = fill_clear(Picture(tall, tall_alpha)).pixels[above:]
    clear_steps = np.abs(np.diff(low.astype(int), axis=0)).max(axis=-1)
    assert clear_steps.max() < 16


def test_the_encoder_fills(family):
    alpha = disc(96, 96)
    photo = smooth(96, 96)
    black = np.where(alpha[..., None] > 0, photo, 0).astype(np.uint8)
    one, other = (family.encode_picture(Picture(p, alpha)).data for p in (photo, black))
    assert one == other
    np.testing.assert_array_equal(bitstream.read(one).chunks.alpha, alpha)


def test_stripping_converts_to_srgb_first(family):
    wide = colour.profile(colour.from_code_points(12, 13), grey=False)
    picture = Picture(smooth(96, 96), icc=wide, exif=b"II*\0\x08\0\0\0" + bytes(6))
    stripped = family.encode_picture(picture, strip=True).data
    assert stripped == family.encode_picture(to_srgb(picture), strip=True).data
    assert stripped != family.encode_picture(Picture(picture.pixels), strip=True).data
    chunks = bitstream.read(stripped).chunks
    assert (chunks.icc, chunks.exif, chunks.xmp) == (None, None, None)
