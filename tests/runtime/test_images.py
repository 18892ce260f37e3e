"""Arrays and Pillow images to pictures and back: modes, depth, orientation, metadata."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from trellic import images
from trellic.errors import BadImage, ImageTooLarge, TrellicWarning
from trellic.images import Picture, from_any, to_array, to_pil

RNG = np.random.default_rng(1)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
ALPHA = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


# ---- arrays ----


@pytest.mark.parametrize(
    "shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1), (1, 1, 3), (1, 9, 4)]
)
def test_arrays_of_every_shape_come_back(shape):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    picture = from_any(array)
    assert (picture.height, picture.width) == shape[:2]
    assert picture.grey == (len(shape) == 2 or shape[2] < 3)
    expected = array[..., 0] if shape[2:] == (1,) else array
    np.testing.assert_array_equal(to_array(picture), expected)


def test_a_plain_array_is_not_copied():
    assert np.shares_memory(from_any(RGB).pixels, RGB)


@pytest.mark.parametrize(
    "view", [RGB[::-1], RGB[:, ::2], RGB[..., ::-1], np.asfortranarray(RGB), GREY.T]
)
def test_arrays_in_any_memory_order(view):
    picture = from_any(view)
    assert picture.pixels.flags.c_contiguous
    np.testing.assert_array_equal(picture.pixels, view)


def test_16_bit_arrays_are_rounded_with_one_warning():
    array = np.array([[0, 128, 129, 257, 65535 - 129, 65535 - 128, 65535]], np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_any(array)
    assert len(caught) == 1
    np.testing.assert_array_equal(picture.pixels, [[0, 0, 1, 1, 254, 255, 255]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.float64), r"\.astype\(numpy\.uint8\)"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4, 3), object), "object"),
        (np.zeros((3, 4, 6), np.uint8), "moveaxis"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "1, 4, 4, 3"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 0), np.uint8), "empty"),
        (np.zeros((4, 4, 0), np.uint8), "4, 4, 0"),
        ("photo.png", r"str; .*trellic\.images\.read"),
        (b"\x89PNG", "bytes"),
        ([[1, 2]], "list"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(array, message):
    with pytest.raises(BadImage, match=message) as caught:
        from_any(array)
    assert "\n" not in str(caught.value)


def test_sides_and_pixels_are_bounded():
    assert from_any(np.zeros((1, 65535), np.uint8)).width == 65535
    with pytest.raises(ImageTooLarge, match="65536"):
        from_any(np.zeros((65536, 1), np.uint8))
    from_any(np.zeros((3, 4), np.uint8), max_pixels=12)
    with pytest.raises(ImageTooLarge, match="at most 11 pixels"):
        from_any(np.zeros((3, 4), np.uint8), max_pixels=11)
    with pytest.raises(ImageTooLarge):
        from_any(Image.new("L", (4, 3)), max_pixels=11)


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [(RGB.astype(np.int16), None), (RGB[..., :2], None), (RGB, ALPHA[:4]), (RGB, RGB)],
)
def test_a_picture_checks_its_arrays(pixels, alpha):
    with pytest.raises(BadImage):
        Picture(pixels, alpha)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pixels": [[1]]},
        {"alpha": [[1]]},
        {"icc": "x"},
        {"exif": 5},
        {"xmp": bytearray(b"<x:xmpmeta/>")},
    ],
)
def test_a_picture_checks_its_types(arguments):
    with pytest.raises(BadImage, match=f"{next(iter(arguments))} of type"):
        Picture(**{"pixels": np.zeros((1, 1), np.uint8)} | arguments)


def test_a_picture_passes_through():
    picture = Picture(RGB)
    assert from_any(picture) is picture


# ---- Pillow modes ----


@pytest.mark.parametrize("array", [GREY, RGB, np.dstack([GREY, ALPHA]), np.dstack([RGB, ALPHA])])
def test_pillow_images_of_our_modes_come_back(array):
    image = Image.fromarray(array)
    picture = from_any(image)
    assert picture.mode == image.mode
    assert picture.pixels.flags.writeable
    np.testing.assert_array_equal(to_array(picture), array)
    again = to_pil(picture)
    assert again.mode == image.mode
    np.testing.assert_array_equal(np.array(again), array)


def test_bilevel_is_grey():
    image = Image.fromarray(GREY > 127)
    assert image.mode == "1"
    np.testing.assert_array_equal(from_any(image).pixels, np.where(GREY > 127, 255, 0))


def test_palettes():
    image = Image.fromarray(RGB).quantize(16)
    picture = from_any(image)
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(picture.pixels, np.array(image.convert("RGB")))
    image.info["transparency"] = 3
    picture = from_any(image)
    assert picture.mode == "RGBA"
    np.testing.assert_array_equal(picture.alpha == 0, np.array(image) == 3)
    image.info["transparency"] = bytes(range(16))
    np.testing.assert_array_equal(from_any(image).alpha, np.array(image))


@pytest.mark.parametrize(
    ("mode", "key"), [("L", int(GREY[2, 3])), ("RGB", tuple(map(int, RGB[2, 3])))]
)
def test_a_transparent_colour_becomes_alpha(mode, key):
    image = Image.fromarray(GREY if mode == "L" else RGB)
    image.info["transparency"] = key
    picture = from_any(image)
    assert picture.mode == mode + "A"
    expected = np.array(image.convert(mode + "A"))
    np.testing.assert_array_equal(to_array(picture), expected)
    assert picture.alpha[2, 3] == 0


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA"])
def test_unusual_modes_are_converted(mode):
    source = Image.fromarray(np.dstack([RGB, ALPHA | 1]))
    image = source.convert("P").convert("PA") if mode == "PA" else None
    if mode == "La":
        image = source.convert("LA").convert("La")
    image = image or source.convert("RGB" if mode in ("YCbCr", "HSV") else "RGBA").convert(mode)
    expected = image.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}.get(mode, "RGB"))
    np.testing.assert_array_equal(to_array(from_any(image)), np.array(expected))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bit_grey_is_rounded_with_one_warning(mode):
    values = np.array([[0, 128, 129], [32896, 65406, 65535]], np.uint16)
    image = Image.frombytes("I;16", (3, 2), values.astype("<u2").tobytes())
    if mode == "I;16B":
        image = Image.frombytes(mode, (3, 2), values.astype(">u2").tobytes())
    elif mode == "I":
        image = Image.fromarray(values.astype(np.int32))
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_any(image)
    assert len(caught) == 1
    np.testing.assert_array_equal(picture.pixels, [[0, 0, 1], [128, 254, 255]])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("F", (3, 2)), "floating-point"),
        (Image.new("LAB", (3, 2)), "mode LAB"),
        (Image.fromarray(np.array([[70000]], np.int32)), "70000"),
        (Image.fromarray(np.array([[-1]], np.int32)), "-1"),
    ],
)
def test_pixels_without_an_8_bit_equivalent_are_refused(image, message):
    with pytest.raises(BadImage, match=message):
        from_any(image)


@pytest.mark.parametrize("profile", ["", "junk", "sRGB"])
def test_cmyk_without_a_usable_profile_is_converted_as_browsers_do(profile):
    image = Image.fromarray(np.dstack([RGB, ALPHA]), "CMYK")
    if profile == "junk":
        image.info["icc_profile"] = b"junk"
    elif profile:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        image.info["icc_profile"] = srgb.tobytes()
    with pytest.warns(TrellicWarning, match="CMYK picture with.*as browsers do") as caught:
        picture = from_any(image)
    assert len(caught) == 1
    assert picture.icc is None
    light = (255.0 - RGB) * (255.0 - ALPHA[..., None]) / 255
    assert np.abs(picture.pixels - light).max() <= 1


def test_cmyk_is_converted_by_its_profile():
    image = Image.new("CMYK", (3, 2), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    image.info["icc_profile"] = toy_cmyk_profile()
    picture = from_any(image)
    assert picture.mode == "RGB"
    assert picture.icc is None
    assert picture.pixels[0, 0].min() > 240
    assert picture.pixels[0, 1].max() < 60


def toy_cmyk_profile() -> bytes:
    """Make the smallest ICC profile of CMYK: 2^4 corners, lightness falling with ink."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T  # C slowest, K fastest
    light = 255 * (1 - corners.max(axis=1))
    table = np.stack([light, np.full(16, 128), np.full(16, 128)], axis=1).astype(np.uint8)
    identity = b"".join(round(v * 65536).to_bytes(4, "big") for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    ramp = bytes(range(256))
    a2b0 = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4 + table.tobytes() + ramp * 3
    text = b"desc\0\0\0\0\0\0\0\x02t\0" + bytes(78)
    white = b"XYZ \0\0\0\0" + bytes.fromhex("0000f6d6000100000000d32d")
    tags = [(b"desc", text), (b"wtpt", white), (b"A2B0", a2b0 + bytes(-len(a2b0) % 4))]
    offset, index, body = 128 + 4 + 12 * len(tags), len(tags).to_bytes(4, "big"), b""
    for name, data in tags:
        index += name + (offset + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += data
    size = (128 + len(index) + len(body)).to_bytes(4, "big")
    head = size + b"\0\0\0\0\x02\x40\0\0prtrCMYKLab " + bytes(12) + b"acsp" + bytes(28)
    head += bytes.fromhex("0000f6d6000100000000d32d")
    return head.ljust(128, b"\0") + index + body


# ---- metadata ----


def exif_with(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A maker"
    return exif.tobytes()


def opened(array: np.ndarray, exif: bytes | None = None, xmp: bytes | None = None) -> Image.Image:
    """Open a PNG file with metadata."""
    chunks, file = PngInfo(), io.BytesIO()
    if xmp:
        chunks.add_itxt("XML:com.adobe.xmp", xmp)
    Image.fromarray(array).save(file, "PNG", exif=exif, pnginfo=chunks)
    return Image.open(file)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_reset(orientation):
    image = opened(np.dstack([RGB, ALPHA]), exif_with(orientation))
    picture = from_any(image)
    expected = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(to_array(picture), np.array(expected))
    again = to_pil(picture)
    assert again.getexif()[0x0112] == 1
    assert again.getexif()[0x010F] == "A maker"
    assert len(picture.exif) == len(image.info["exif"]) - len(b"Exif\0\0")


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("kind", "size"), [(3, 2), (4, 4), (1, 1)])
def test_orientation_in_any_byte_order_and_type(order, kind, size):
    value = (6).to_bytes(size, order).ljust(4, b"\0")
    exif = {"little": b"II*\0", "big": b"MM\0*"}[order] + (8).to_bytes(4, order)
    exif += (1).to_bytes(2, order) + (0x0112).to_bytes(2, order) + kind.to_bytes(2, order)
    exif += (1).to_bytes(4, order) + value + bytes(4)
    picture = from_any(opened(GREY, exif))
    np.testing.assert_array_equal(picture.pixels, np.rot90(GREY, -1))
    assert picture.exif.count((1).to_bytes(size, order).ljust(4, b"\0")) >= 1
    assert from_any(to_pil(picture)).pixels.shape == picture.pixels.shape


@pytest.mark.parametrize(
    "exif", [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", exif_with(6)[:-20]]
)
def test_damaged_exif_is_no_reason_to_refuse_a_picture(exif):
    image = Image.fromarray(GREY)
    image.info["exif"] = exif
    assert from_any(image).mode == "L"


def test_what_is_no_exif_is_left_out_with_a_warning():
    image = Image.fromarray(GREY)
    image.info["exif"] = b"junk"
    with pytest.warns(TrellicWarning, match="EXIF data is damaged"):
        assert from_any(image).exif is None


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_are_ignored(orientation):
    np.testing.assert_array_equal(from_any(opened(GREY, exif_with(orientation))).pixels, GREY)


@pytest.mark.parametrize(
    "xmp",
    [
        b'<rdf tiff:Orientation="6"/>',
        b"<tiff:Orientation>6</tiff:Orientation>",
        b"tiff:Orientation='6'",
    ],
)
def test_orientation_in_xmp_counts_where_exif_has_none(xmp):
    picture = from_any(opened(GREY, None, xmp))
    np.testing.assert_array_equal(picture.pixels, np.rot90(GREY, -1))
    assert picture.xmp == xmp.replace(b"6", b"1")


def test_exif_goes_before_xmp_and_both_are_reset():
    picture = from_any(opened(GREY, exif_with(3), b'tiff:Orientation="6"'))
    np.testing.assert_array_equal(picture.pixels, GREY[::-1, ::-1])
    assert picture.xmp == b'tiff:Orientation="1"'
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(from_any(to_pil(picture)).pixels, picture.pixels)


def test_metadata_is_carried_as_it_is():
    image = Image.fromarray(RGB)
    image.info |= {"icc_profile": b"profile", "exif": exif_with(1), "xmp": b"<x/>"}
    picture = from_any(image)
    assert (picture.icc, picture.xmp) == (b"profile", b"<x/>")
    assert b"Exif\0\0" + picture.exif == exif_with(1)
    again = to_pil(picture)
    assert {key: again.info[key] for key in image.info} == image.info


def test_import_of_images_does_not_import_pillow():
    import subprocess
    import sys

    code = "import trellic.images, sys; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lazily_opened_truncated_image_is_one_error():
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    image = Image.open(io.BytesIO(file.getvalue()[:3000]))
    with pytest.raises(BadImage, match="truncated or damaged PNG"):
        images.from_any(image)
