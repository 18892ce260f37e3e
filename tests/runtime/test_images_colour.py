"""Colour spaces in numbers: kept as profiles, or warned of; profiles that do not fit; to sRGB."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from trellic.errors import TrellicWarning
from trellic.images import Picture, colour, from_any, from_bytes, to_bytes, to_srgb
from trellic.images.colour import Space, Unknown, from_code_points, from_gamma, profile

RNG = np.random.default_rng(4)
RGB = RNG.integers(0, 256, (20, 24, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
P3 = from_code_points(12, 13)
P3_TO_SRGB = np.array(
    [[1.22494, -0.22494, 0], [-0.042057, 1.042057, 0], [-0.019638, -0.078636, 1.098274]]
)
CHRM_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
CHRM_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def saved(array: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def png(array: np.ndarray, **chunks: bytes) -> bytes:
    extra = PngInfo()
    for name, data in chunks.items():
        extra.add(name.encode(), data)
    return saved(array, pnginfo=extra)


def avif(primaries: int, transfer: int) -> bytes:
    data = saved(RGB, "AVIF")
    at = data.index(b"nclx") + 4
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def linear(samples: np.ndarray) -> np.ndarray:
    x = samples / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def coded(light: np.ndarray) -> np.ndarray:
    y = np.clip(light, 0, 1)
    return 255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)


def shown(picture: Picture) -> np.ndarray:
    """Return what a program with colour management shows, in sRGB."""
    return to_srgb(picture).pixels.astype(float)


# ---- numbers in files ----


@pytest.mark.parametrize(
    "data",
    [
        png(RGB, cICP=bytes([12, 13, 0, 1])),
        png(RGB, cHRM=struct.pack(">8I", *CHRM_P3)),
        png(RGB, cHRM=struct.pack(">8I", *CHRM_P3), gAMA=struct.pack(">I", 45455)),
        avif(12, 13),
    ],
)
@pytest.mark.parametrize("through_pillow", [False, True])
def test_display_p3_in_numbers_becomes_a_profile(data, through_pillow):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = Image.open(io.BytesIO(data))
        picture = from_any(image) if through_pillow else from_bytes(data)
    assert colour.space_of(picture.icc) == "RGB"
    right = coded(linear(picture.pixels.astype(float)) @ P3_TO_SRGB.T)
    assert np.abs(shown(picture) - right).max() < 1.5
    assert from_bytes(to_bytes(picture, ".png")).icc == picture.icc


@pytest.mark.parametrize("array", [RGB, GREY])
def test_linear_light_becomes_a_profile(array):
    picture = from_bytes(png(array, gAMA=struct.pack(">I", 100000)))
    assert colour.space_of(picture.icc) == ("RGB" if array.ndim == 3 else "GRAY")
    assert np.abs(shown(picture) - coded(array / 255)).max() < 1


def test_a_program_s_copy_keeps_gamma():
    image = Image.open(io.BytesIO(png(RGB, gAMA=struct.pack(">I", 100000))))
    assert from_any(image.rotate(90, expand=True)).icc is not None


def test_qoi_calls_itself_linear_without_a_reason():
    data = saved(RGB, "QOI")
    assert data[13] == 1  # Pillow writes that of all pictures
    assert from_bytes(data).icc is None


@pytest.mark.parametrize(
    "data",
    [
        png(RGB, cICP=bytes([1, 13, 0, 1])),
        png(RGB, gAMA=struct.pack(">I", 45455)),
        png(RGB, gAMA=struct.pack(">I", 45455), cHRM=struct.pack(">8I", *CHRM_SRGB)),
        png(RGB, sRGB=b"\0", gAMA=struct.pack(">I", 60000)),
        png(RGB, cICP=bytes([1, 13, 0, 1]), gAMA=struct.pack(">I", 100000)),
        avif(1, 13),
        avif(2, 2),
        avif(1, 1),
    ],
)
def test_what_is_srgb_gets_no_profile(data):
    assert from_bytes(data).icc is None


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("through_pillow", [False, True])
def test_hdr_is_warned_of(transfer, name, through_pillow):
    for data in (png(RGB, cICP=bytes([9, transfer, 0, 1])), avif(9, transfer)):
        image = Image.open(io.BytesIO(data))
        with pytest.warns(TrellicWarning, match=f"HDR picture .{name}") as caught:
            picture = from_any(image) if through_pillow else from_bytes(data)
        assert len(caught) == 1
        assert picture.icc is None


@pytest.mark.parametrize(
    "data",
    [
        png(RGB, cICP=bytes([9, 10, 0, 1])),
        png(RGB, cICP=bytes([77, 13, 0, 1])),
        png(RGB, gAMA=bytes(4)),
        png(RGB, gAMA=b"\xff" * 4),
        png(RGB, cHRM=bytes(32)),
        png(RGB, cHRM=b"\xff" * 32),
        png(RGB, cHRM=struct.pack(">8I", *[33333] * 8)),
        avif(10, 13),
    ],
)
def test_what_cannot_be_kept_is_warned_of(data):
    with pytest.warns(TrellicWarning, match="colour space .* cannot be kept") as caught:
        assert from_bytes(data).icc is None
    assert len(caught) == 1


def test_a_profile_goes_before_numbers():
    data = png(RGB, cHRM=struct.pack(">8I", *CHRM_P3))
    own = profile(from_code_points(9, 14), grey=False)
    image = Image.open(io.BytesIO(data))
    image.info["icc_profile"] = own
    assert from_any(image).icc == own


@pytest.mark.parametrize("kind", [b"DEBM", bytes(4)])
def test_colours_in_a_bmp_header(kind):
    data = saved(RGB, "BMP")
    own = profile(P3, grey=False)
    head = (
        data[14:54] + bytes(16) + kind + b"\1" * 48 + bytes(4) + struct.pack("<II", 124, len(own))
    )
    whole = data[:10] + struct.pack("<I", 138 + len(own)) + struct.pack("<I", 124)
    whole += head[4:].ljust(120, b"\0") + own + data[54:]
    if kind == b"DEBM":
        picture = from_bytes(whole)
        assert picture.icc == own
    else:
        with pytest.warns(TrellicWarning, match="colour space"):
            picture = from_bytes(whole)
    np.testing.assert_array_equal(picture.pixels, RGB)


# ---- profiles ----


def test_our_srgb_profile_is_that_of_lcms():
    ours = io.BytesIO(profile(Space(), grey=False))
    srgb = ImageCms.createProfile("sRGB")
    image = Image.fromarray(RGB)
    same = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(ours), srgb)
    assert np.abs(np.asarray(same).astype(int) - RGB).max() <= 1


def test_every_colour_space_makes_a_profile_that_lcms_takes():
    srgb, made = ImageCms.createProfile("sRGB"), 0
    for primaries in range(256):
        for transfer in range(20):
            try:
                space = from_code_points(primaries, transfer)
            except Unknown:
                continue
            for mode in ("RGB", "L") if space else ():
                source = io.BytesIO(profile(space, grey=mode == "L"))
                ImageCms.buildTransform(source, srgb, mode, "RGB")
                made += 1
    assert made > 150


def test_gamma_near_that_of_srgb_is_srgb():
    assert from_gamma(0.45455, None) is None
    assert from_gamma(0.4545, None) is None
    assert from_gamma(0.55556, None) == Space(None, (1 / 0.55556,))


@pytest.mark.parametrize(
    ("space", "array", "fits"),
    [
        ("CMYK", RGB, False),
        ("Lab ", RGB, False),
        ("GRAY", RGB, False),
        ("CMYK", GREY, False),
        ("GRAY", GREY, True),
        ("RGB ", GREY, True),
        ("RGB ", RGB, True),
    ],
)
def test_a_profile_of_other_pixels_is_left_out_with_a_warning(space, array, fits):
    icc = profile(Space(), grey=False)
    image = Image.fromarray(array)
    image.info["icc_profile"] = icc = icc[:16] + space.encode() + icc[20:]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = from_any(image)
    assert picture.icc == (icc if fits else None)
    assert [type(w.message) for w in caught] == ([] if fits else [TrellicWarning])


# ---- to sRGB ----


def test_stripping_a_wide_gamut_picture_converts_it():
    picture = Picture(RGB, icc=profile(P3, grey=False), exif=b"II*\0")
    stripped = to_srgb(picture)
    right = coded(linear(RGB.astype(float)) @ P3_TO_SRGB.T)
    assert stripped.icc is None
    assert np.abs(stripped.pixels - right).max() < 1.5
    assert np.abs(stripped.pixels.astype(int) - RGB).max() > 10


def test_what_is_srgb_stays_bit_for_bit():
    for icc in (profile(Space(), grey=False), None):
        assert to_srgb(Picture(RGB, icc=icc)).pixels is RGB
    assert to_srgb(Picture(GREY, icc=profile(P3, grey=False))).pixels is GREY


def test_a_broken_profile_is_left_out_with_a_warning():
    with pytest.warns(TrellicWarning, match="unusable colour profile"):
        picture = to_srgb(Picture(RGB, icc=profile(P3, grey=False)[:200]))
    assert picture.icc is None
    assert picture.pixels is RGB


def test_large_pictures_are_converted_in_strips():
    tall = np.repeat(RGB, 60, axis=0)
    icc = profile(P3, grey=False)
    whole = to_srgb(Picture(tall, icc=icc)).pixels
    np.testing.assert_array_equal(
        whole, np.repeat(to_srgb(Picture(RGB, icc=icc)).pixels, 60, axis=0)
    )
