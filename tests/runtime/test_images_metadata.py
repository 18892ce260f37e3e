"""EXIF, XMP, resolution and orientation: one source, kept, dropped when asked."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from trellic.errors import BadParameter, TrellicWarning
from trellic.images import Picture, exif, from_any, from_bytes, from_pil, to_bytes, to_pil

RNG = np.random.default_rng(6)
RGB = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
BLOCKS = np.kron(RNG.integers(0, 256, (2, 3, 3)), np.ones((8, 8, 1))).astype(np.uint8)
GPS = 0x8825
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="8"/>'


def exif_of(orientation: int | None = None, **more: object) -> bytes:
    made = Image.Exif()
    made[0x010F] = "A maker"
    made[GPS] = {1: "N", 2: (51.0, 28.0, 38.0)}
    made[0x8769] = {0x927C: b"maker note, which points to itself", 0x9286: b"ASCII\0\0\0hello"}
    if orientation:
        made[0x0112] = orientation
    return made.tobytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(kind: str = "JPEG", **options: object) -> Image.Image:
    return Image.open(io.BytesIO(saved(Image.fromarray(BLOCKS), kind, **options)))


def tags(picture: Picture) -> Image.Exif:
    found = Image.Exif()
    found.load(picture.exif or b"")
    return found


# ---- orientation has one source ----


@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
@pytest.mark.parametrize("through_pillow", [False, True])
def test_xmp_does_not_turn_formats_that_say_it_themselves(kind, through_pillow):
    data = saved(Image.fromarray(BLOCKS), kind, xmp=XMP) if kind == "AVIF" else tiff_with_xmp()
    for _ in range(2):
        image = Image.open(io.BytesIO(data))
        if through_pillow:
            image.getexif()  # Pillow takes the orientation of the XMP in here
        picture = from_any(image) if through_pillow else from_bytes(data)
        assert (picture.width, picture.height) == (24, 16)
        assert b'Orientation="8"' not in picture.xmp


def tiff_with_xmp() -> bytes:
    found = Image.Exif()
    found[700] = XMP
    return saved(Image.fromarray(BLOCKS), "TIFF", exif=found)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_xmp_turns_others_where_exif_says_nothing(kind):
    for orientation, turned in ((None, True), (1, False), (3, False)):
        data = saved(Image.fromarray(BLOCKS), kind, xmp=XMP, exif=exif_of(orientation))
        assert (from_bytes(data).width == 16) == turned


def test_avif_is_turned_by_its_own_properties():
    data = saved(Image.fromarray(BLOCKS), "AVIF", exif=exif_of(6), xmp=XMP)
    picture = from_bytes(data)
    assert (picture.width, picture.height) == (16, 24)
    assert tags(picture).get(0x0112, 1) == 1


# ---- what a program made ----


def test_a_turned_copy_keeps_its_pixels_and_all_but_the_orientation():
    image = opened(exif=exif_of(6))
    fixed = image.transpose(Image.Transpose.ROTATE_270)
    picture = from_any(fixed)
    np.testing.assert_array_equal(picture.pixels, np.array(fixed))
    assert tags(picture)[0x010F] == "A maker"
    assert tags(picture).get(0x0112, 1) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda image: image.copy(),
        lambda image: image.resize((12, 8)),
        lambda image: image.rotate(-90, expand=True),
        lambda image: image.convert("L"),
        ImageOps.exif_transpose,
    ],
)
@pytest.mark.parametrize("look", [False, True])
def test_pixels_of_what_a_program_made_are_as_they_are(make, look):
    made = make(opened(exif=exif_of(6), xmp=XMP))
    if look:
        made.getexif()
    np.testing.assert_array_equal(from_any(made).pixels, np.array(made))


def test_an_orientation_that_a_program_sets_counts():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 6
    np.testing.assert_array_equal(from_any(image).pixels, np.rot90(RGB, -1))


def test_an_opened_image_is_turned_as_its_exif_is_now():
    image = opened(exif=exif_of(6))
    assert from_any(image).width == 16
    image.getexif()[0x0112] = 3
    np.testing.assert_array_equal(from_any(image).pixels, np.rot90(np.array(image), 2))
    del image.getexif()[0x0112]
    picture = from_any(image)
    np.testing.assert_array_equal(picture.pixels, np.array(image))
    assert tags(picture)[0x0112] == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_deleted_and_changed_tags(kind):
    image = opened(kind, exif=exif_of())
    found = image.getexif()
    assert found.get_ifd(GPS)
    del found[GPS]
    found[0x010F] = "Nobody"
    picture = from_any(image)
    assert not tags(picture).get_ifd(GPS)
    assert tags(picture)[0x010F] == "Nobody"
    assert bytes(tags(picture).get_ifd(0x8769)[0x9286]) == b"ASCII\0\0\0hello"
    found.clear()
    assert from_any(image).exif is None


def test_reading_exif_changes_no_byte_of_it():
    stored = exif_of(6)
    image = opened(exif=stored)
    image.getexif().get_ifd(GPS)
    kept = from_any(image).exif
    assert kept == exif.upright(stored.removeprefix(b"Exif\0\0"))


# ---- what is given on saving ----


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp"])
def test_none_drops(name):
    image = opened(exif=exif_of(6), icc_profile=b"profile", xmp=XMP)
    picture = from_pil(image, given={name: None})
    ours = {"icc_profile": "icc"}.get(name, name)
    for other in ("exif", "icc", "xmp"):
        assert (getattr(picture, other) is None) == (other == ours)
    assert picture.width == 16  # upright all the same


def test_exif_that_is_given_says_how_to_turn():
    image = opened(exif=exif_of(6))
    assert from_pil(image, given={"exif": exif_of()}).width == 24
    assert from_pil(image.copy(), given={"exif": exif_of(8)}).width == 16
    made = Image.Exif()
    made[0x0112] = 5
    assert from_pil(Image.fromarray(RGB), given={"exif": made}).width == 16


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp"])
@pytest.mark.parametrize("value", [5, [1, 2, 3], 1.5])
def test_what_is_given_has_to_be_bytes(name, value):
    with pytest.raises(BadParameter, match=f"{name} of type .*; expected bytes"):
        from_pil(Image.fromarray(RGB), given={name: value})


@pytest.mark.parametrize("name", ["exif", "icc_profile", "xmp"])
def test_what_an_image_holds_has_to_be_bytes(name):
    image = Image.fromarray(RGB)
    image.info[name] = 5
    with pytest.warns(TrellicWarning, match=f"{name} of type int is not bytes") as caught:
        picture = from_pil(image)
    assert len(caught) == 1
    assert (picture.icc, picture.exif, picture.xmp) == (None, None, None)


def test_a_profile_may_be_an_object_of_pillow():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image = Image.fromarray(RGB)
    assert from_pil(image, given={"icc_profile": profile}).icc == profile.tobytes()
    image.info["icc_profile"] = profile
    assert from_pil(image).icc == profile.tobytes()


def test_a_resolution_may_be_given():
    picture = from_pil(opened(dpi=(72, 72)), given={"dpi": (150, 200)})
    assert exif.dpi_of(picture.exif) == (150, 200)


# ---- EXIF headings ----


@pytest.mark.parametrize("times", [0, 1, 2])
def test_the_heading_of_exif_may_come_twice(times):
    stored = b"Exif\0\0" * (times + 1) + exif_of(6)[6:]  # Pillow takes one off
    picture = from_bytes(saved(Image.fromarray(RGB), "PNG", exif=stored))
    assert picture.exif.startswith((b"II*\0", b"MM\0*"))
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))


# ---- resolution ----


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_resolution_goes_through_all_formats(kind, suffix):
    picture = from_bytes(saved(Image.fromarray(RGB), kind, dpi=(300, 200)))
    again = Image.open(io.BytesIO(to_bytes(picture, suffix)))
    found = (
        exif.dpi_of(exif.without_prefix(again.info["exif"]))
        if suffix == ".webp"
        else again.info["dpi"]
    )
    np.testing.assert_allclose(np.array(found, float), (300, 200), atol=0.02)
    np.testing.assert_allclose(to_pil(picture).info["dpi"], (300, 200), atol=0.02)


def test_resolution_turns_with_the_picture():
    data = saved(Image.fromarray(BLOCKS), "JPEG", dpi=(300, 200), exif=exif_of(6))
    assert exif.dpi_of(from_bytes(data).exif) == (200, 300)


def test_what_exif_says_in_default_is_not_stored():
    assert from_bytes(saved(Image.fromarray(RGB), "JPEG", dpi=(72, 72))).exif is None
    assert from_bytes(saved(Image.fromarray(RGB), "JPEG")).exif is None
    stored = exif_of()
    kept = from_bytes(saved(Image.fromarray(RGB), "JPEG", exif=stored)).exif
    assert b"Exif\0\0" + kept == stored  # Pillow guesses 72 here


def test_a_stored_resolution_leaves_all_other_bytes_where_they_are():
    stored = exif_of(3).removeprefix(b"Exif\0\0")
    changed = exif.with_dpi(stored, (300.0, 299.9994))
    assert changed[8 : len(stored)] == stored[8:]
    before, after = Image.Exif(), Image.Exif()
    before.load(stored)
    after.load(changed)
    assert [after[tag] for tag in (282, 283, 296)] == [300, 299.9994, 2]
    assert {tag: after[tag] for tag in before} | {0x8769: 0, GPS: 0} == dict(before) | {
        0x8769: 0,
        GPS: 0,
    }
    for directory in (0x8769, GPS):
        assert after.get_ifd(directory) == before.get_ifd(directory)
    assert exif.dpi_of(exif.with_dpi(changed, (96.0, 96.0))) == (96, 96)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_in_centimetres(order):
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 3)
    for tag, kind, value in ((282, 5, 50), (283, 5, 58)):
        head += struct.pack(order + "HHII", tag, kind, 1, value)
    head += struct.pack(order + "HHIHH", 296, 3, 1, 3, 0) + bytes(4)
    data = head + struct.pack(order + "4I", 100, 1, 50, 1)
    assert exif.dpi_of(data) == (254, 127)
    assert exif.dpi_of(exif.with_dpi(data, (300.0, 300.0))) == (300, 300)


@pytest.mark.parametrize(
    "dpi", [None, (0, 0), (-1, 5), (float("nan"), 1), (float("inf"), 1), (1e12, 1), "ab", (1, 2, 3)]
)
def test_resolutions_without_sense_are_left_out(dpi):
    assert exif.sensible(dpi) is None
    assert from_pil(Image.fromarray(RGB), given={"dpi": dpi}).exif is None


def test_mutated_exif_never_fails():
    whole = exif_of(6).removeprefix(b"Exif\0\0")
    for i in range(3000):
        data = bytearray(whole)
        for at in RNG.integers(0, len(whole) if i % 2 else 40, 1 + i % 4):
            data[at] = RNG.integers(0, 256)
        data = bytes(data[: RNG.integers(0, len(data) + 1)] if i % 3 == 0 else data)
        exif.orientation_of(data)
        exif.upright(data)
        exif.dpi_of(data)
        if exif.is_exif(data):
            assert len(exif.with_dpi(data, (300.0, 300.0)) or b"") <= len(data) + 12 * 65535 + 80


# ---- what a JPEG marker holds ----


def test_exif_and_xmp_up_to_what_a_marker_holds():
    heading = b"II*\0\x08\0\0\0" + bytes(6)
    most = {"exif": heading.ljust(65527, b"\1"), "xmp": b"<".ljust(65504, b"x")}
    again = from_bytes(to_bytes(Picture(RGB, **most), ".jpg"))
    assert {name: getattr(again, name) for name in most} == most
    for name, data in most.items():
        with pytest.warns(TrellicWarning, match=f"{name.upper()} are too many for JPEG"):
            again = from_bytes(to_bytes(Picture(RGB, **{name: data + b"x"}), ".jpg"))
        assert getattr(again, name) is None
