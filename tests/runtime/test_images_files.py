"""Picture files: every format in and out, 16 bits, animations, damage, and atomic writing."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from trellic.errors import BadImage, BadParameter, ImageTooLarge, TrellicWarning
from trellic.images import Picture, describe, from_bytes, from_pil, read, to_array, to_bytes, write
from trellic.support import files as _files

RNG = np.random.default_rng(2)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = RNG.integers(1, 256, (6, 9), dtype=np.uint8)
LOSSLESS = [".png", ".webp", ".tif", ".TIFF", ".bmp", ".ppm"]


def exif_of(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "A maker"
    exif[0x8769] = {0x9286: b"ASCII\0\0\0hello"}
    return exif.tobytes()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# ---- formats ----


@pytest.mark.parametrize("kind", [np.asarray, Image.fromarray])
def test_what_encode_takes_is_written(tmp_path, kind):
    write(tmp_path / "a.png", kind(RGB))
    np.testing.assert_array_equal(read(tmp_path / "a.png").pixels, RGB)
    with pytest.raises(BadImage, match="an object of type list"):
        write(tmp_path / "b.png", RGB.tolist())


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("grey", [False, True])
def test_lossless_formats_come_back(tmp_path, suffix, grey):
    if suffix == ".webp" and grey:
        pytest.skip("WebP has no grey")
    picture = Picture(RGB[..., 0].copy() if grey else RGB)
    write(tmp_path / f"a{suffix}", picture)
    again = read(tmp_path / f"a{suffix}")
    assert again.mode == picture.mode
    np.testing.assert_array_equal(again.pixels, picture.pixels)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("grey", [False, True])
def test_alpha_comes_back(suffix, grey):
    picture = Picture(RGB[..., 0].copy() if grey else RGB, ALPHA)
    again = from_bytes(to_bytes(picture, suffix))
    np.testing.assert_array_equal(again.alpha, ALPHA)
    if suffix != ".webp":
        np.testing.assert_array_equal(to_array(again), to_array(picture))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".avif"])
@pytest.mark.parametrize("grey", [False, True])
def test_lossy_formats_lose_little(suffix, grey):
    smooth = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    picture = Picture(smooth if grey else np.dstack([smooth, smooth.T, smooth[::-1]]))
    again = from_bytes(to_bytes(picture, suffix))
    assert (
        np.abs(
            to_array(again).astype(int) - picture.pixels.reshape(again.pixels.shape)
            if suffix != ".avif" or not grey
            else again.pixels[..., 0].astype(int) - picture.pixels
        ).mean()
        < 2
    )


@pytest.mark.parametrize("kind", ["JPEG2000", "QOI", "GIF"])
def test_formats_that_are_only_read(kind):
    picture = from_bytes(
        saved(Image.fromarray(RGB).quantize(200) if kind == "GIF" else Image.fromarray(RGB), kind)
    )
    assert picture.mode == "RGB"
    np.testing.assert_array_equal(picture.pixels, RGB)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".avif"])
def test_metadata_survives_files(suffix):
    exif = exif_of().removeprefix(b"Exif\0\0")
    picture = Picture(RGB, None, b"a colour profile", exif, b"<x:xmpmeta/>")
    if suffix in (".avif", ".tiff"):  # these look into the profile
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        picture = Picture(RGB, None, profile, exif, b"<x:xmpmeta/>")
    again = from_bytes(to_bytes(picture, suffix))
    assert again.icc == picture.icc
    assert again.xmp == picture.xmp
    tags = Image.Exif()
    tags.load(again.exif)
    assert tags[0x010F] == "A maker"
    assert bytes(tags.get_ifd(0x8769)[0x9286]) == b"ASCII\0\0\0hello"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_orientation_of_files(kind, orientation):
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :24] = 255  # white at the upper left
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = from_bytes(saved(Image.fromarray(stored), kind, exif=exif_of(orientation), **options))
    white = {3: (24, 36), 5: (12, 8), 6: (12, 24), 8: (36, 8)}[orientation]
    assert picture.pixels.shape[:2] == ((32, 48) if orientation == 3 else (48, 32))
    assert picture.pixels[white].min() > 200
    assert from_bytes(to_bytes(picture, ".png")).pixels[white].min() > 200


def test_grey_jpeg_stays_grey():
    assert from_bytes(saved(Image.fromarray(RGB[..., 0].copy()), "JPEG")).mode == "L"


def test_one_pixel(tmp_path):
    for suffix in (".png", ".jpg", ".webp", ".bmp"):
        write(tmp_path / f"dot{suffix}", Picture(np.full((1, 1, 3), 77, np.uint8)))
        assert read(tmp_path / f"dot{suffix}").pixels.shape == (1, 1, 3)


# ---- 16 bits ----


def png16(samples: np.ndarray, key: tuple[int, ...] = ()) -> bytes:
    """Make a 16-bit PNG, which Pillow cannot write in colour."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 3: 2, 2: 4, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))]
    if key:
        chunks.append((b"tRNS", struct.pack(f">{len(key)}H", *key)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def tiff16(samples: np.ndarray, order: str) -> bytes:
    """Make an uncompressed 16-bit RGB TIFF, which Pillow cannot write."""
    height, width, channels = samples.shape
    data = samples.astype(order + "u2").tobytes()
    at = 8 + 2 + 12 * 9 + 4
    entries = [(256, width), (257, height), (258, at), (259, 1), (262, 2), (273, at + 6)]
    entries += [(277, channels), (278, height), (279, len(data))]
    out = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 9)
    for tag, value in entries:
        out += struct.pack(
            order + "HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value
        )
    return out + struct.pack(order + "I3H", 0, 16, 16, 16) + data


def rounded(samples: np.ndarray) -> np.ndarray:
    return np.floor(samples / 257 + 0.5).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_is_rounded_with_one_warning(channels):
    samples = RNG.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_bytes(png16(samples))
    assert len(caught) == 1
    np.testing.assert_array_equal(to_array(picture).reshape(samples.shape), rounded(samples))


def test_16_bit_png_of_grey_and_alpha_stays_grey():
    samples = RNG.integers(0, 65536, (6, 9, 2), dtype=np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_bytes(png16(samples))
    assert len(caught) == 1
    assert picture.mode == "LA"
    np.testing.assert_array_equal(to_array(picture), rounded(samples))


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_png_with_a_transparent_colour(channels):
    samples = RNG.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    key = tuple(map(int, samples[2, 3]))
    samples[0, 0] = samples[2, 3] ^ 1  # nearly that colour, the same in 8 bits
    with pytest.warns(TrellicWarning, match="16-bit"):
        picture = from_bytes(png16(samples, key))
    np.testing.assert_array_equal(picture.alpha == 0, (samples == key).all(axis=-1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_tiff_is_rounded(order):
    samples = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        picture = from_bytes(tiff16(samples, order))
    assert len(caught) == 1
    np.testing.assert_array_equal(picture.pixels, rounded(samples))


def test_tiff_of_32_bit_integers_is_refused():
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(file, "TIFF")
    with pytest.raises(BadImage, match="signed 32-bit grey whose white is not known"):
        from_bytes(file.getvalue())


def test_16_bit_pillow_image_opened_but_not_loaded():
    from trellic.images import from_any

    samples = RNG.integers(0, 65536, (6, 9, 3), dtype=np.uint16)
    with pytest.warns(TrellicWarning, match="16-bit") as caught:
        from_any(Image.open(io.BytesIO(png16(samples))))
    assert len(caught) == 1


# ---- animations ----


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken_with_one_warning(kind):
    frames = [Image.fromarray(np.full((16, 16, 3), v, np.uint8)) for v in (250, 5, 100)]
    with pytest.warns(TrellicWarning, match="only the first") as caught:
        picture = from_bytes(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert len(caught) == 1
    assert picture.pixels.min() > 240


def test_the_warning_of_an_animation_names_the_frame_that_the_caller_chose():
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    image = Image.open(io.BytesIO(saved(frames[0], "gif", save_all=True, append_images=frames[1:])))
    image.seek(1)
    with pytest.warns(TrellicWarning, match="only number 2 is coded"):
        assert from_pil(image).pixels[0, 0].tolist() == [0, 0, 255]


def test_the_previews_in_an_mpo_file_are_no_animation():
    frame = Image.fromarray(RGB)
    from_bytes(saved(frame, "MPO", save_all=True, append_images=[frame]))


# ---- what is no picture ----


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b"", "an empty file"),
        (b"Dear diary,\n", "a text file"),
        ("Grüße".encode() * 200, "a text file"),
        (b"TLC\x01\0\0", "a .tlc file"),
        (b"TLC\x09\0\0", "another version"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a ZIP"),
        (b"\0\0\0\x18ftypheic", "an HEIC picture"),
        (b"\0\0\0\x18ftypisom", "a video"),
        (b"<?xml?><svg xmlns=''/>", "an SVG"),
        (b"%!PS-Adobe", "a PostScript"),
        (b"P7\nWIDTH 1\n", "a PAM picture"),
        (b"PF\n1 1\n-1.0\n", "a PFM picture of floating-point pixels"),
        (b"\xff\x0a\0", "a JPEG XL"),
        (bytes(100), "unknown data (first bytes 00 00 00 00)"),
        (b"\xfe\xed\xfa\xce", "unknown data (first bytes fe ed fa ce)"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"\xff\xd8\xff\xe0", "damaged JPEG"),
        (b"GIF89a", "damaged GIF"),
        (b"II*\0\x08\0\0\0", "damaged TIFF"),
        (b"BM", "damaged BMP"),
        (b"P6\n", "damaged PPM"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "damaged WEBP"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "damaged AVIF"),
        (b"qoif\0\0", "damaged QOI"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_was_seen_is_named(data, seen):
    with pytest.raises(BadImage) as caught:
        from_bytes(data)
    assert seen in str(caught.value)
    assert "\n" not in str(caught.value)
    assert describe(data)


NOISE = Image.fromarray(RNG.integers(0, 256, (80, 80, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "GIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_truncated_at_any_place(kind):
    whole = saved(NOISE, kind)
    assert from_bytes(whole).width == 80
    for length in np.linspace(8, len(whole) * 0.9, 25).astype(int):
        with pytest.raises(BadImage):
            from_bytes(whole[:length])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "AVIF", "GIF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bits_give_a_picture_or_our_error(kind):
    whole = saved(NOISE.resize((24, 24)), kind, **({} if kind != "JPEG" else {"exif": exif_of(6)}))
    for _ in range(60):
        damaged = bytearray(whole)
        for at in RNG.integers(0, len(whole), 3):
            damaged[at] = RNG.integers(0, 256)
        try:
            from_bytes(bytes(damaged), max_pixels=2**20)
        except (BadImage, ImageTooLarge):
            continue


def test_bombs_are_refused_before_they_are_decoded():
    data = bytearray(saved(Image.new("L", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ImageTooLarge, match="60000x60000"):
        from_bytes(bytes(data))
    with pytest.raises(ImageTooLarge, match="at most 100 pixels"):
        from_bytes(saved(NOISE, "PNG"), max_pixels=100)


def test_our_limit_replaces_that_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert from_bytes(saved(NOISE, "PNG")).width == 80
    assert Image.MAX_IMAGE_PIXELS == 10


def test_memory_errors_pass(monkeypatch):
    def full(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", full)
    with pytest.raises(MemoryError):
        from_bytes(saved(NOISE, "BMP"))


# ---- writing ----


def test_unknown_suffixes_are_refused(tmp_path):
    with pytest.raises(BadParameter, match=r"'\.xyz'.*\.png"):
        write(tmp_path / "a.xyz", Picture(RGB))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_alpha_is_never_dropped(tmp_path, suffix):
    with pytest.raises(BadImage, match=r"transparency.*\.png"):
        write(tmp_path / f"a{suffix}", Picture(RGB, ALPHA))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "limit"), [(".webp", 16383), (".jpg", 65500)])
def test_sides_that_a_format_cannot_hold(suffix, limit):
    with pytest.raises(BadImage, match=f"at most {limit}"):
        to_bytes(Picture(np.zeros((1, limit + 1, 3), np.uint8)), suffix)
    assert to_bytes(Picture(np.zeros((1, limit, 3), np.uint8)), suffix)


def test_metadata_too_long_for_jpeg_is_left_out_with_a_warning():
    with pytest.warns(TrellicWarning, match="EXIF are too many"):
        data = to_bytes(Picture(RGB, exif=b"II*\0" + bytes(70000)), ".jpg")
    assert from_bytes(data).exif is None


# ---- _files ----


def test_writing_replaces_and_keeps_permissions(tmp_path):
    target = tmp_path / "a"
    _files.write_atomically(target, b"one")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o640)
    _files.write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_writing_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real").write_bytes(b"one")
    (tmp_path / "link").symlink_to("real")
    _files.write_atomically(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"two"


class FullFile(io.FileIO):
    def write(self, data):
        super().write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, before):
    target = tmp_path / "a"
    if before:
        target.write_bytes(before)
    monkeypatch.setattr(_files, "open", lambda file, mode: FullFile(file, mode), raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        _files.write_atomically(target, b"new content")
    assert caught.value.filename == str(target)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _files.write_atomically(tmp_path / "a", b"new")
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError):
        _files.write_atomically(tmp_path, b"x")
    with pytest.raises(FileNotFoundError) as caught:
        _files.write_atomically(tmp_path / "no" / "a", b"x")
    assert caught.value.filename == str(tmp_path / "no" / "a")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_not_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(PermissionError):
        _files.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux devices")
def test_devices(tmp_path):
    _files.write_atomically("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(OSError, match="No space left"):
        _files.write_atomically("/dev/full", b"x")
    with pytest.raises(OSError, match="neither a file nor a pipe"):
        _files.read_bytes("/dev/zero")
    with pytest.raises(IsADirectoryError):
        _files.read_bytes(tmp_path)


def test_examples_of_the_docstrings():
    import doctest

    from trellic.images import sniff

    assert doctest.testmod(sniff).failed == 0
    assert doctest.testmod(sniff).attempted >= 3
