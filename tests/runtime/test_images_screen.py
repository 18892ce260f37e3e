"""What Pillow reads wrongly or half: JPEG 2000, JPEG without an end, depth, transparent grey."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trellic.errors import BadImage, ImageTooLarge, TrellicWarning
from trellic.images import from_any, from_bytes, read, to_array

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
RNG = np.random.default_rng(3)
Y, X = np.mgrid[0:16, 0:12]
RAMPS = np.stack([X / 11, Y / 15, (X + Y) / 26], axis=-1)  # what the shipped pictures show


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(rows: np.ndarray, bits: int, colour_type: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Make a PNG file of packed rows: (H, bytes of a row)."""
    width = rows.shape[1] * 8 // (bits * {0: 1, 2: 3, 4: 2, 6: 4}[colour_type])
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    every = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in every
    )


# ---- JPEG 2000 ----


@pytest.mark.parametrize("name", ["3x16", "3x12", "2x16"])
@pytest.mark.parametrize("through_pillow", [False, True])
def test_deep_jpeg_2000_in_colour_is_refused(name, through_pillow):
    data = (PICTURES / f"{name}.jp2").read_bytes()
    with pytest.raises(BadImage, match=r"JPEG 2000 .* more bits than") as caught:
        from_any(Image.open(io.BytesIO(data))) if through_pillow else from_bytes(data)
    assert "damaged" not in str(caught.value)


def test_signed_jpeg_2000_is_refused():
    with pytest.raises(BadImage, match="signed samples"):
        read(PICTURES / "3x8-signed.jp2")


@pytest.mark.parametrize(("bits", "why"), [(20, "more bits than"), (8, "takes for mode I;16")])
def test_jpeg_2000_whose_headers_disagree_is_refused(bits, why):
    data = bytearray((PICTURES / "1x12.jp2").read_bytes())
    data[data.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
    with pytest.raises(BadImage, match=why):
        from_bytes(bytes(data))


@pytest.mark.parametrize(("name", "levels"), [("1x4", 15), ("3x4", 15), ("1x12", 4095)])
def test_jpeg_2000_of_other_depths_is_scaled(name, levels):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = read(PICTURES / f"{name}.jp2").pixels
    assert [str(w.message) for w in caught] == ["12-bit samples rounded to 8 bits"] * (levels > 255)
    stored = np.round(RAMPS * levels) / levels * 255
    np.testing.assert_array_equal(
        pixels, np.floor(stored[..., : pixels.ndim**2 // 3] + 0.5).squeeze()
    )


def test_the_profile_in_a_jpeg_2000_file_is_kept():
    data = saved(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "JPEG2000")
    colour = data.index(b"colr") - 4
    size = int.from_bytes(data[colour : colour + 4], "big")
    profile = b"made for this test"
    box = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    head = data.index(b"jp2h") - 4
    grown = int.from_bytes(data[head : head + 4], "big") + len(box) - size
    changed = data[:head] + grown.to_bytes(4, "big") + data[head + 4 : colour] + box
    assert from_bytes(changed + data[colour + size :]).icc == profile


def test_other_colours_in_jpeg_2000_are_refused():
    data = saved(Image.fromarray(np.zeros((8, 8, 3), np.uint8)), "JPEG2000")
    at = data.index(b"colr") + 7
    with pytest.raises(BadImage, match="colours of space 14"):  # CIE Lab
        from_bytes(data[:at] + (14).to_bytes(4, "big") + data[at + 4 :])


# ---- JPEG ----

SMOOTH = Image.fromarray(
    (np.kron(RNG.integers(0, 256, (6, 8, 3)), np.ones((9, 9, 1))) + RNG.integers(0, 9, (54, 72, 3)))
    .clip(0, 255)
    .astype(np.uint8)
)
KINDS = [
    ("RGB", {}),
    ("L", {"quality": 98}),
    ("RGB", {"progressive": True}),
    ("L", {"restart_marker_blocks": 4}),
]


@pytest.mark.parametrize(("mode", "options"), KINDS)
@pytest.mark.parametrize("ending", [b"", b"\xff", bytes(500)])
def test_a_jpeg_that_lacks_only_its_end_is_read_with_a_warning(mode, options, ending):
    whole = saved(SMOOTH.convert(mode), "JPEG", **options)
    with pytest.warns(TrellicWarning, match="without its end marker") as caught:
        picture = from_bytes(whole[:-2] + ending)
    assert len(caught) == 1
    np.testing.assert_array_equal(picture.pixels, from_bytes(whole).pixels)


@pytest.mark.parametrize(("mode", "options"), KINDS)
def test_a_jpeg_of_which_more_is_missing_is_refused(mode, options):
    whole = saved(SMOOTH.convert(mode), "JPEG", **options)
    for missing in [*range(5, 60), len(whole) // 3, len(whole) // 2]:
        with pytest.raises(BadImage, match="truncated or damaged JPEG"):
            from_bytes(whole[:-missing])


def test_a_progressive_jpeg_without_its_last_scans_is_refused():
    whole = saved(SMOOTH, "JPEG", progressive=True)
    with pytest.raises(BadImage, match="truncated"):
        from_bytes(whole[: whole.rindex(b"\xff\xda")])


def test_a_bomb_without_an_end_is_refused_before_it_is_decoded():
    with pytest.raises(ImageTooLarge):
        from_bytes(saved(SMOOTH, "JPEG")[:-2], max_pixels=100)


@pytest.mark.parametrize(
    ("name", "kind"), [("12-bit.jpg", "12-bit JPEG"), ("lossless.jpg", "12-bit JPEG")]
)
def test_jpegs_of_other_kinds_are_not_called_damaged(name, kind):
    with pytest.raises(BadImage, match=f"layout that is not read .{kind}"):
        read(PICTURES / name)


@pytest.mark.parametrize(
    "sign",
    [
        b"http://ns.adobe.com/xap/1.0/\0<x xmlns:hdrgm='http://ns.adobe.com/hdr-gain-map/1.0/'/>",
        b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0",
    ],
)
@pytest.mark.parametrize("through_pillow", [False, True])
def test_a_gain_map_is_warned_of(sign, through_pillow):
    data = saved(SMOOTH, "JPEG")
    segment = b"\xff\xe1" + (len(sign) + 2).to_bytes(2, "big") + sign
    data = data[:2] + segment + data[2:]
    with pytest.warns(TrellicWarning, match="HDR gain map") as caught:
        from_any(Image.open(io.BytesIO(data))) if through_pillow else from_bytes(data)
    assert len(caught) == 1


# ---- depth ----


@pytest.mark.parametrize(("maximum", "bits"), [(65535, 16), (1023, 10), (255, 8), (15, 4)])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_ppm_is_scaled_with_one_warning(maximum, bits, plain, channels):
    samples = RNG.integers(0, maximum + 1, (5, 7, channels))
    kind = {1: 2, 3: 3}[channels] + (0 if plain else 3)
    raw = samples.astype(">u2" if maximum > 255 else np.uint8).tobytes()
    data = b"P%d\n7 5\n%d\n" % (kind, maximum)
    data += " ".join(map(str, samples.ravel())).encode() if plain else raw
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = from_bytes(data)
    assert [str(w.message) for w in caught] == [f"{bits}-bit samples rounded to 8 bits"] * (
        bits > 8
    )
    right = samples / maximum * 255
    assert np.abs(picture.pixels.reshape(samples.shape) - right).max() <= 0.51


def test_16_bit_grey_and_alpha_is_rounded():
    samples = RNG.integers(0, 65536, (6, 9, 2), dtype=np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_bytes(png(samples.astype(">u2").view(np.uint8).reshape(6, -1), 16, 4))
    assert len(caught) == 1
    assert picture.mode == "LA"
    np.testing.assert_array_equal(to_array(picture), np.floor(samples / 257 + 0.5))


@pytest.mark.parametrize("through_pillow", [False, True])
def test_deep_avif_is_warned_of(through_pillow):
    data = (PICTURES / "10-bit.avif").read_bytes()
    with pytest.warns(TrellicWarning, match="10-bit samples rounded") as caught:
        picture = from_any(Image.open(io.BytesIO(data))) if through_pillow else from_bytes(data)
    assert len(caught) == 1
    assert np.abs(picture.pixels - RAMPS * 255).max() < 12


# ---- transparency of grey ----


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("through_pillow", [False, True])
def test_a_clear_grey_of_few_bits_is_found(bits, through_pillow):
    rows = RNG.integers(0, 256, (6, bits), dtype=np.uint8)
    key = (1 << bits) - 1 if bits < 4 else 9
    data = png(rows, bits, 0, (b"tRNS", struct.pack(">H", key)))
    picture = from_any(Image.open(io.BytesIO(data))) if through_pillow else from_bytes(data)
    spread = np.unpackbits(rows, axis=1).reshape(6, 8, bits)
    values = spread @ (1 << np.arange(bits - 1, -1, -1))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha == 0, values == key)
    np.testing.assert_array_equal(picture.pixels, values * 255 // ((1 << bits) - 1))


# ---- whole files that are not read ----


def test_a_closed_image_is_called_so(tmp_path):
    SMOOTH.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pass
    with pytest.raises(BadImage, match="closed before its pixels were loaded"):
        from_any(image)


def test_unsupported_bmp_is_not_called_damaged():
    data = bytearray(saved(SMOOTH, "BMP"))
    data[30] = 4  # JPEG inside
    with pytest.raises(BadImage, match=r"layout that is not read .Unsupported BMP compression"):
        from_bytes(bytes(data))


def test_a_png_with_very_long_text_says_so():
    text = b"Comment\0\0" + zlib.compress(bytes(2**21))
    data = png(np.zeros((4, 4), np.uint8), 8, 0, (b"zTXt", text))
    with pytest.raises(BadImage, match="more than 1 MiB of text"):
        from_bytes(data)


# ---- hostile headers ----


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "AVIF", "JPEG2000", "BMP", "PPM", "QOI", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_headers_give_a_picture_or_our_error(kind):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A maker"
    options = {} if kind in ("BMP", "PPM", "QOI", "JPEG2000") else {"exif": exif.tobytes()}
    whole = saved(SMOOTH.resize((24, 24)), kind, **options)
    for i in range(150):
        data = bytearray(whole)
        for at in RNG.integers(0, min(len(whole), 400), 1 + i % 4):
            data[at] = RNG.integers(0, 256)
        with contextlib.suppress(BadImage, ImageTooLarge):
            from_bytes(bytes(data[: RNG.integers(8, len(data) + 1)] if i % 3 else data), 2**18)
