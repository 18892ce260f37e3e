"""TIFF files of all layouts: right pixels or one clear refusal."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings

import numpy as np
import PIL
import pytest
from PIL import Image
from tests.runtime.tiffs import LONG, RATIONAL, SHORT, make_tiff

from trellic.errors import BadImage, ImageTooLarge, TrellicWarning
from trellic.images import from_any, from_bytes, to_array

RNG = np.random.default_rng(7)
TYPES = {8: np.uint8, 16: np.uint16}


def noise(bits: int, channels: int) -> np.ndarray:
    samples = RNG.integers(0, 2**bits, (21, 19, channels)).astype(TYPES.get(bits, np.uint32))
    samples[0], samples[1] = 2**bits - 1, 0
    return samples


def expected(samples: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    top = 2**bits - 1
    return np.floor((top - samples if photometric == 0 else samples) / top * 255 + 0.5)


def quiet(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrellicWarning)
        return to_array(from_bytes(data)).astype(float)


LAYOUTS = list(
    itertools.product(
        [(0, ()), (1, ()), (1, (2,)), (2, ()), (2, (0,)), (2, (2,))],
        [1, 2, 4, 8, 10, 12, 16, 32],
        ["<", ">"],
        [False, True],
        [False, True],
        [None, (16, 16)],
        [1, 2],
    )
)


def test_every_layout_is_read_right_or_refused():
    read = 0
    for (photometric, extra), bits, order, planar, deflate, tile, fill_order in LAYOUTS:
        samples = noise(bits, (1 if photometric < 2 else 3) + len(extra))
        layout = {"order": order, "extra": extra, "planar": planar, "fill_order": fill_order}
        data = make_tiff(samples, photometric, bits=bits, deflate=deflate, tile=tile, **layout)
        try:
            got = quiet(data)
        except BadImage as error:
            assert "damaged" not in str(error), layout  # noqa: PT017
            continue
        read += 1
        right = expected(samples, bits, photometric)
        right = right[..., :-1] if extra == (0,) else right
        np.testing.assert_array_equal(got.reshape(right.shape), right, str((bits, layout)))
    assert read > 150


@pytest.mark.parametrize("order", ["<", ">"])
def test_premultiplied_alpha_is_divided_out(order):
    samples = noise(8, 4)
    samples[..., :3] = np.minimum(samples[..., :3], samples[..., 3:])
    got = quiet(make_tiff(samples, 2, order=order, extra=(1,)))
    seen = samples[..., 3] > 100
    right = samples[..., :3] / np.maximum(samples[..., 3:], 1) * 255.0
    np.testing.assert_array_equal(got[..., 3], samples[..., 3])
    assert np.abs(got[..., :3] - right)[seen].max() <= 1


def test_16_bits_of_which_0_is_white():
    samples = noise(16, 1)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_bytes(make_tiff(samples, 0))
    assert len(caught) == 1
    np.testing.assert_array_equal(picture.pixels, expected(samples, 16, 0)[..., 0])
    assert picture.pixels[0].max() == 0


def test_12_bits_are_scaled():
    with pytest.warns(TrellicWarning, match="12-bit"):
        assert from_bytes(make_tiff(noise(12, 1), 1, bits=12)).pixels[0].min() == 255


@pytest.mark.parametrize("bits", [12, 16])
def test_what_pillow_has_loaded_with_other_values_is_refused(bits):
    image = Image.open(io.BytesIO(make_tiff(noise(bits, 1), 0 if bits == 16 else 1, bits=bits)))
    image.load()
    with pytest.raises(BadImage, match=r"loaded by Pillow.*trellic\.images\.read"):
        from_any(image)


@pytest.mark.parametrize("scale", [1, 257])
def test_palettes_of_8_and_of_16_bits(scale):
    colours = RNG.integers(0, 256, (3, 256))
    samples = noise(8, 1)
    tags = {320: (SHORT, tuple(map(int, (colours * scale).ravel())))}
    got = quiet(make_tiff(samples, 3, tags=tags))
    np.testing.assert_array_equal(got, colours[:, samples[..., 0]].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("samples", "photometric", "options", "message"),
    [
        (noise(8, 1), 1, {"sample_format": 2}, "signed 8-bit grey whose white"),
        (noise(16, 1), 1, {"sample_format": 2}, "signed 16-bit grey whose white"),
        (noise(16, 3), 2, {"planar": True}, "16-bit RGB with 3 samples a pixel in separate planes"),
        (noise(8, 3).astype(np.float32), 2, {"sample_format": 3}, "floating-point 32-bit RGB"),
        (noise(16, 2), 1, {"extra": (2,)}, "layout that is not read .16-bit grey with 2 samples"),
        (noise(8, 3), 6, {}, "YCbCr with 3 samples a pixel with subsampled"),
        (noise(8, 3), 6, {"tags": {530: (SHORT, (2, 2))}}, "with subsampled"),
        (noise(8, 4), 5, {"tags": {332: (SHORT, (2,))}}, "other inks than CMYK"),
        (noise(8, 3), 8, {}, "mode LAB"),
        (noise(16, 1), 32803, {}, "16-bit raw camera"),
    ],
)
def test_refusals_name_the_layout(samples, photometric, options, message):
    with pytest.raises(BadImage, match=message) as caught:
        from_bytes(make_tiff(samples, photometric, **options))
    assert "damaged" not in str(caught.value)


def test_ycbcr_of_full_resolution_is_read_unless_its_formula_differs():
    plain = {530: (SHORT, (1, 1))}
    rec_709 = plain | {529: (RATIONAL, ((2126, 10000), (7152, 10000), (722, 10000)))}
    samples = noise(8, 3)
    right = np.array(Image.fromarray(samples, "YCbCr").convert("RGB"))
    if int(PIL.__version__.split(".")[0]) >= 13:
        np.testing.assert_array_equal(quiet(make_tiff(samples, 6, tags=plain)), right)
    else:  # Pillow reads it as if it were subsampled, and finds it too short
        with pytest.raises(BadImage):
            from_bytes(make_tiff(samples, 6, tags=plain))
    with pytest.raises(BadImage, match="coefficients of its own"):
        from_bytes(make_tiff(samples, 6, tags=rec_709))


# ---- thumbnails ----

LARGE = {256: (LONG, (4000,)), 257: (LONG, (3000,)), 262: (SHORT, (2,))}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "made",
    [
        {"tags": {254: (LONG, (1,))}, "after": [LARGE]},
        {"after": [LARGE]},
        {"after": [{256: (LONG, (8,)), 257: (LONG, (8,)), 262: (SHORT, (32803,))}]},
        {"tags": {50706: (1, (1, 4, 0, 0))}},
    ],
)
def test_raw_files_that_begin_with_a_thumbnail_are_refused(made, order):
    with pytest.raises(BadImage, match=r"that is a preview.*raw camera data"):
        from_bytes(make_tiff(noise(8, 3), 2, order=order, **made))


def test_smaller_versions_of_a_picture_do_not_matter():
    smaller = {254: (LONG, (1,)), 256: (LONG, (5,)), 257: (LONG, (5,)), 262: (SHORT, (2,))}
    samples = noise(8, 3)
    np.testing.assert_array_equal(quiet(make_tiff(samples, 2, after=[smaller])), samples)


def test_directories_that_lead_round_in_circles_end():
    data = bytearray(make_tiff(noise(8, 3), 2, tags={254: (LONG, (1,))}, after=[LARGE]))
    entry = data.index((330).to_bytes(2, "little") + (LONG).to_bytes(2, "little"))
    data[entry + 8 : entry + 12] = data[4:8]  # its own first directory
    assert from_bytes(bytes(data)).width == 19


# ---- orientation, resolution, colours ----


@pytest.mark.parametrize("stated", [None, 1, 6])
@pytest.mark.parametrize("through_pillow", [False, True])
def test_the_tag_counts_and_xmp_does_not(stated, through_pillow):
    samples = noise(8, 3)
    xmp = b'<x tiff:Orientation="8"/>'
    tags = {700: (1, tuple(xmp))} | ({274: (SHORT, (stated,))} if stated else {})
    data = make_tiff(samples, 2, tags=tags)
    picture = from_any(Image.open(io.BytesIO(data))) if through_pillow else from_bytes(data)
    right = np.rot90(samples, -1) if stated == 6 else samples
    np.testing.assert_array_equal(picture.pixels, right)
    assert picture.xmp == xmp.replace(b"8", b"1")


def test_an_orientation_that_a_program_deletes_does_not_count():
    samples = noise(8, 3)
    image = Image.open(io.BytesIO(make_tiff(samples, 2, tags={274: (SHORT, (6,))})))
    del image.getexif()[274]
    np.testing.assert_array_equal(from_any(image).pixels, samples)


def test_resolution_is_kept_and_a_missing_one_is_not_made_up():
    tags = {282: (RATIONAL, ((118, 1),)), 283: (RATIONAL, ((59, 1),)), 296: (SHORT, (3,))}
    exif = Image.Exif()
    exif.load(from_bytes(make_tiff(noise(8, 3), 2, tags=tags)).exif)
    assert [round(float(exif[tag]), 2) for tag in (282, 283)] == [299.72, 149.86]
    assert exif[296] == 2
    assert from_bytes(make_tiff(noise(8, 3), 2)).exif is None


def test_colour_tags_become_a_profile():
    wide = ((68, 100), (32, 100), (265, 1000), (69, 100), (15, 100), (6, 100))
    tags = {318: (RATIONAL, ((3127, 10000), (329, 1000))), 319: (RATIONAL, wide)}
    assert from_bytes(make_tiff(noise(8, 3), 2, tags=tags)).icc[16:20] == b"RGB "


def test_cut_off_files_are_called_so():
    data = make_tiff(noise(32, 3), 2, sample_format=3)  # a layout that is not read
    with pytest.raises(BadImage, match="layout that is not read"):
        from_bytes(data)
    cut = data[:8] + data[2000:]  # the tags point beyond the end
    with pytest.raises(BadImage, match="damaged"):
        from_bytes(cut)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_tags_give_a_picture_or_our_error():
    whole = make_tiff(noise(8, 3), 2, tags={254: (LONG, (1,))}, after=[LARGE, LARGE])
    start = int.from_bytes(whole[4:8], "little")
    for _ in range(400):
        data = bytearray(whole)
        for at in RNG.integers(start, len(whole), 3):
            data[at] = RNG.integers(0, 256)
        with contextlib.suppress(BadImage, ImageTooLarge):
            from_bytes(bytes(data), max_pixels=2**20)
