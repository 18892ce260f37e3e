"""The command line: files, folders, JSON, exit codes and the one line of every error."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from trellic import images
from trellic.images import Picture
from trellic.support import files as _files

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def photo(tmp_path):
    images.write(tmp_path / "photo.png", Picture(RGB))
    return tmp_path / "photo.png"


@pytest.fixture
def stream(tmp_path, photo, fake_codec, trellic):
    assert trellic("encode", photo, tmp_path / "stream.tlc").code == 0
    return tmp_path / "stream.tlc"


def check_refused(result, *parts):
    """One line on stderr, nothing on stdout, exit code 1."""
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    for part in parts:
        assert str(part) in result.err


def check_misused(result, *parts):
    """Exit code 2, and what is wrong on stderr."""
    assert result.code == 2
    assert result.out == ""
    assert "Error" in result.err
    flat = "".join(char for char in result.err if char not in " \n│")
    for part in parts:
        assert part.replace(" ", "") in flat


# ---- one file there and back ----


def test_there_and_back(tmp_path, photo, fake_codec, trellic):
    result = trellic("encode", photo, tmp_path / "a.tlc")
    assert (result.code, result.err) == (0, "")
    assert "30x20" in result.out
    assert result.out.count("\n") == 1
    result = trellic("decode", tmp_path / "a.tlc", tmp_path / "back.png")
    assert (result.code, result.err) == (0, "")
    np.testing.assert_array_equal(images.read(tmp_path / "back.png").pixels, RGB)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tlc", "back.png", "photo.png"]


def test_json_of_encode(tmp_path, photo, fake_codec, trellic):
    target = tmp_path / "a.tlc"
    result = trellic("encode", photo, target, "--json", "-q", "33.5", "--trellis", "32")
    fields = json.loads(result.out)
    assert list(fields) == [
        "input",
        "output",
        "width",
        "height",
        "bytes",
        "bpp",
        "quality",
        "trellis",
        "lanes",
        "model",
        "seconds",
    ]
    size = target.stat().st_size
    assert fields.pop("seconds") > 0
    assert fields == {
        "input": str(photo),
        "output": str(target),
        "width": 30,
        "height": 20,
        "bytes": size,
        "bpp": 8 * size / 600,
        "quality": 33.5,
        "trellis": 32,
        "lanes": 1,
        "model": "photo",
    }


def test_json_of_decode(tmp_path, stream, trellic):
    result = trellic("decode", stream, tmp_path / "b.webp", "--decoder", "fast", "--json")
    fields = json.loads(result.out)
    assert fields.pop("seconds") > 0
    assert fields == {
        "input": str(stream),
        "output": str(tmp_path / "b.webp"),
        "width": 30,
        "height": 20,
        "decoder": "fast",
    }


def test_defaults_and_options_reach_the_codec(tmp_path, photo, fake_codec, trellic):
    out = tmp_path / "a.tlc"
    trellic("encode", photo, out)
    trellic("encode", photo, out, "--quality", 5, "--strip", "--trellis=0", "--device", "cpu")
    trellic("encode", photo, out, "--bpp", 0.5)
    trellic("encode", photo, out, "--max-bytes", 50000, "--model", "/models/fake.zip")
    trellic("decode", out, tmp_path / "a.png", "--decoder", "quality:0.25", "--device", "cuda")
    assert [codec.calls[-1] for codec in fake_codec] == [
        ("encode", {"trellis": 32, "strip": False}),
        ("encode", {"quality": 5.0, "trellis": 0, "strip": True}),
        ("encode", {"bpp": 0.5, "trellis": 32, "strip": False}),
        ("encode", {"max_bytes": 50000, "trellis": 32, "strip": False}),
        ("decode", "quality:0.25"),
    ]
    assert [codec.device for codec in fake_codec] == ["auto", "cpu", "auto", "auto", "cuda"]
    assert fake_codec[1].calls[0] == ("warm_up", 0, None)
    assert fake_codec[4].calls[0] == ("warm_up", None, "quality:0.25")


@pytest.mark.parametrize("suffix", images.suffixes())
def test_the_suffix_chooses_the_format(tmp_path, stream, trellic, suffix):
    result = trellic("decode", stream, tmp_path / f"b{suffix.upper()}")
    assert (result.code, result.err) == (0, "")
    written = (tmp_path / f"b{suffix.upper()}").read_bytes()
    assert images.from_bytes(written, arrays=True).width == 30


def test_an_existing_result_is_replaced(tmp_path, photo, fake_codec, trellic):
    target = tmp_path / "a.tlc"
    target.write_bytes(b"old")
    assert trellic("encode", photo, target).code == 0
    assert target.read_bytes().startswith(b"TLC\x01")


def test_metadata_and_alpha_go_through(tmp_path, fake_codec, trellic):
    picture = Picture(RGB, RGB[..., 0].copy(), b"profile", b"II*\0\0\0\0\0", b"<x/>")
    images.write(tmp_path / "a.png", picture)
    trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc")
    trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png")
    again = images.read(tmp_path / "b.png")
    np.testing.assert_array_equal(again.alpha, picture.alpha)
    assert (again.icc, again.exif, again.xmp) == (b"profile", b"II*\0\0\0\0\0", b"<x/>")
    trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc", "--strip")
    trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png")
    again = images.read(tmp_path / "b.png")
    assert (again.icc, again.exif, again.xmp) == (None, None, None)


# ---- several files ----


def test_several_files_go_into_a_folder_that_is_made(tmp_path, fake_codec, trellic):
    for name in ("one.png", "two.jpg", "three.x.bmp"):
        images.write(tmp_path / name, Picture(RGB))
    sources = [tmp_path / name for name in ("one.png", "two.jpg", "three.x.bmp")]
    result = trellic("encode", *sources, tmp_path / "new" / "folder", "--json")
    assert (result.code, result.err) == (0, "")
    assert len(fake_codec) == 1
    outputs = [json.loads(line)["output"] for line in result.out.splitlines()]
    names = ["one.tlc", "two.tlc", "three.x.tlc"]
    assert outputs == [str(tmp_path / "new" / "folder" / name) for name in names]
    result = trellic("decode", *outputs, tmp_path / "back")
    assert result.code == 0
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == [
        "one.png",
        "three.x.png",
        "two.png",
    ]


@pytest.mark.parametrize("slash", ["", "/"])
def test_one_file_into_a_folder(tmp_path, photo, fake_codec, trellic, slash):
    if not slash:
        (tmp_path / "folder").mkdir()
    assert trellic("encode", photo, f"{tmp_path}/folder{slash}").code == 0
    assert trellic("decode", tmp_path / "folder/photo.tlc", tmp_path / "folder").code == 0
    assert (tmp_path / "folder/photo.png").is_file()


def test_a_bad_file_among_good_ones(tmp_path, photo, fake_codec, trellic):
    (tmp_path / "bad.png").write_text("Dear diary")
    images.write(tmp_path / "last.png", Picture(RGB))
    out = tmp_path / "out"
    result = trellic(
        "encode", tmp_path / "bad.png", photo, tmp_path / "gone.png", tmp_path / "last.png", out
    )
    assert result.code == 1
    assert result.err.splitlines() == [
        f"error: {tmp_path}/bad.png: a text file; expected a PNG, JPEG, WebP, TIFF or another "
        "picture",
        f"error: {tmp_path}/gone.png: no such file or folder",
    ]
    assert sorted(p.name for p in out.iterdir()) == ["last.tlc", "photo.tlc"]


def test_results_of_two_inputs_never_overwrite_each_other(tmp_path, photo, fake_codec, trellic):
    images.write(tmp_path / "photo.webp", Picture(255 - RGB))
    result = trellic("encode", photo, tmp_path / "photo.webp", tmp_path / "out")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "already that of" in result.err
    trellic("decode", tmp_path / "out/photo.tlc", tmp_path / "b.png")
    np.testing.assert_array_equal(images.read(tmp_path / "b.png").pixels, RGB)


def test_nothing_is_made_where_nothing_succeeds(tmp_path, fake_codec, trellic):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").mkdir()
    result = trellic("encode", tmp_path / "a.png", tmp_path / "b.png", tmp_path / "out")
    assert result.code == 1
    assert result.err.splitlines()[1] == (
        f"error: {tmp_path}/b.png: a folder; expected a file; -r goes through folders"
    )
    assert not (tmp_path / "out").exists()
    assert not fake_codec


def test_a_model_that_cannot_be_loaded_is_reported_once(tmp_path, photo, fake_codec, trellic):
    result = trellic("encode", photo, photo, tmp_path / "out", "--model", "other")
    check_refused(result, "no model 'other'", "installed models: photo")
    assert not (tmp_path / "out").exists()


# ---- bad data: exit code 1 ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"hello\n", "a text file"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (b"TLC\x01", "a .tlc file"),
    ],
)
def test_encode_refuses_what_is_no_picture(tmp_path, fake_codec, trellic, content, message):
    (tmp_path / "a.png").write_bytes(content)
    check_refused(trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc"), "a.png", message)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("command", ["decode", "info"])
@pytest.mark.parametrize(
    ("content", "seen"),
    [(b"", "an empty file"), (b"hello\n", "a text file"), (b"\x89PNG\r\n\x1a\n", "in PNG format")],
)
def test_what_is_no_stream_is_named(tmp_path, fake_codec, trellic, command, content, seen):
    (tmp_path / "bad.tlc").write_bytes(content)
    target = [tmp_path / "b.png"] if command == "decode" else []
    check_refused(trellic(command, tmp_path / "bad.tlc", *target), seen, "expected a .tlc file")
    assert not fake_codec


@pytest.mark.parametrize("command", ["decode", "info"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data[:-40],
        lambda data: data + b"\0",
        lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:],
        lambda data: b"TLC\x02" + data[4:],
    ],
)
def test_damaged_streams_are_refused(tmp_path, stream, fake_codec, trellic, command, damage):
    (tmp_path / "bad.tlc").write_bytes(damage(stream.read_bytes()))
    target = [tmp_path / "b.png"] if command == "decode" else []
    fake_codec.clear()
    check_refused(trellic(command, tmp_path / "bad.tlc", *target), "bad.tlc")
    assert not fake_codec
    assert not (tmp_path / "b.png").exists()


def test_streams_of_unknown_models_are_refused(tmp_path, stream, trellic, monkeypatch):
    from trellic import bitstream

    whole = bitstream.read(stream.read_bytes())
    header = whole.header.__class__(**vars(whole.header) | {"stream_id": b"\1\2\3\4"})
    stream.write_bytes(bitstream.write(bitstream.Stream(header, whole.segments)))
    result = trellic("decode", stream, tmp_path / "b.png")
    check_refused(result, "stream id 01020304")


def test_unknown_decoders_are_refused(tmp_path, stream, trellic):
    result = trellic("decode", stream, tmp_path / "b.png", "--decoder", "best")
    check_refused(result, "no decoder 'best'")


def test_unreachable_sizes_are_refused(tmp_path, photo, fake_codec, trellic):
    result = trellic("encode", photo, tmp_path / "a.tlc", "--max-bytes", "20")
    check_refused(result, "20 bytes", "over")
    assert not (tmp_path / "a.tlc").exists()


def test_max_pixels(tmp_path, photo, stream, trellic):
    result = trellic("encode", photo, tmp_path / "a.tlc", "--max-pixels", 599)
    check_refused(result, "30x20", "at most 599", "--max-pixels")
    assert trellic("encode", photo, tmp_path / "a.tlc", "--max-pixels", 600).code == 0
    check_refused(trellic("decode", stream, tmp_path / "b.png", "--max-pixels", 599), "599")
    assert trellic("decode", stream, tmp_path / "b.png", "--max-pixels", 600).code == 0


def test_a_format_that_cannot_hold_the_picture(tmp_path, fake_codec, trellic):
    images.write(tmp_path / "a.png", Picture(RGB, RGB[..., 0].copy()))
    trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc")
    result = trellic("decode", tmp_path / "a.tlc", tmp_path / "a.jpg")
    check_refused(result, "transparency", ".png", "--background")
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize(
    ("pixels", "behind"), [(RGB, (255, 136, 0)), (RGB[..., 1].copy(), 156)], ids=["colour", "grey"]
)
def test_a_colour_behind_transparency(tmp_path, fake_codec, trellic, pixels, behind):
    alpha = RGB[..., 0].copy()
    alpha[:2], alpha[2:4] = 0, 255
    images.write(tmp_path / "a.png", Picture(pixels, alpha, exif=b"II*\0\0\0\0\0"))
    trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc")
    orange = "--background", "#ff8800"
    assert trellic("decode", tmp_path / "a.tlc", tmp_path / "a.jpg", *orange).code == 0
    assert trellic("decode", tmp_path / "a.tlc", tmp_path / "b.png", *orange).code == 0
    flat = images.read(tmp_path / "b.png")
    assert (flat.alpha, flat.grey) == (None, pixels.ndim == 2)
    assert flat.exif == images.read(tmp_path / "a.png").exif
    assert (flat.pixels[:2] == behind).all()
    assert (flat.pixels[2:4] == pixels[2:4]).all()
    share = (alpha if flat.grey else alpha[..., None]) / 255
    exact = share * pixels + (1 - share) * np.array(behind)
    assert np.abs(flat.pixels - exact)[2:].max() <= 0.5


def test_a_background_leaves_other_pictures_alone(tmp_path, stream, trellic):
    result = trellic("decode", stream, tmp_path / "b.png", "--background", "white")
    assert result.code == 0
    np.testing.assert_array_equal(images.read(tmp_path / "b.png").pixels, RGB)


@pytest.mark.parametrize("where", ["no/such/a.tlc", "photo.png/a.tlc"])
def test_places_that_do_not_exist(tmp_path, photo, fake_codec, trellic, where):
    check_refused(trellic("encode", photo, tmp_path / where), where)


def test_a_file_where_a_folder_has_to_be_made(tmp_path, photo, fake_codec, trellic):
    result = trellic("encode", photo, f"{photo}/")
    check_refused(result) if result.code == 1 else check_misused(result)
    assert images.read(photo).width == 30


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux devices")
def test_a_full_device(photo, fake_codec, trellic):
    check_refused(trellic("encode", photo, "/dev/full"), "/dev/full: No space left on device")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux devices")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["--version", "help", "models", "info FILE", "decode FILE -"])
def test_a_full_standard_output_is_one_line(tiny, tiny_path, tmp_path, command, unbuffered):
    (tmp_path / "a.tlc").write_bytes(tiny.encode(np.zeros((20, 30, 3), np.uint8)))
    words = [str(tmp_path / "a.tlc") if word == "FILE" else word for word in command.split()]
    more = {"PYTHONUNBUFFERED": unbuffered, "TRELLIC_MODELS": str(tiny_path.parent)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trellic", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | more,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"error: (standard output: )?No space left on device\n", done.stderr)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_full_disk_leaves_the_old_result(tmp_path, photo, stream, trellic, monkeypatch, command):
    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    source, target = (photo, "a.tlc") if command == "encode" else (stream, "a.png")
    (tmp_path / target).write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(_files.Path, "replace", full)
    result = trellic(command, source, tmp_path / target)
    check_refused(result, f"{tmp_path / target}: No space left on device")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / target).read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_permissions(tmp_path, photo, fake_codec, trellic):
    photo.chmod(0)
    check_refused(trellic("encode", photo, tmp_path / "a.tlc"), "permission denied")


def test_running_out_of_memory(tmp_path, photo, fake_codec, trellic, monkeypatch):
    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(images, "from_bytes", full)
    check_refused(trellic("encode", photo, tmp_path / "a.tlc"), "not enough memory")


def test_faults_of_our_own_have_one_line_too(tmp_path, photo, fake_codec, trellic, monkeypatch):
    def broken(*arguments, **options):
        raise KeyError("surprise")

    monkeypatch.setattr(images, "from_bytes", broken)
    check_refused(trellic("encode", photo, tmp_path / "a.tlc"), "internal error, KeyError")


def test_interruption_leaves_nothing(tmp_path, photo, fake_codec, trellic, monkeypatch):
    def interrupted(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(_files.Path, "replace", interrupted)
    result = trellic("encode", photo, tmp_path / "a.tlc")
    assert result.code not in (0, 2)
    assert "Traceback" not in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_odd_file_names(tmp_path, fake_codec, trellic):
    name = os.fsdecode(b"a\nb\xff \x1b[31m[red]:1.png")
    images.write(tmp_path / name, Picture(RGB))
    result = trellic("encode", tmp_path / name, tmp_path / "out/", "--json")
    assert (result.code, result.out.count("\n")) == (0, 1)
    assert json.loads(result.out)["input"] == str(tmp_path / name)
    (tmp_path / name).write_bytes(b"")
    result = trellic("encode", tmp_path / name, tmp_path / "out/")
    check_refused(result, "an empty file", r"a\nb", "[red]")
    assert "\x1b" not in result.err


# ---- warnings ----


def test_warnings_have_one_line(tmp_path, fake_codec, trellic):
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "b.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    result = trellic("encode", tmp_path / "a.gif", tmp_path / "b.gif", tmp_path / "out")
    assert result.code == 0
    assert result.err.splitlines() == [
        f"warning: {tmp_path}/{name}: an animation or several pages: only the first is coded"
        for name in ("a.gif", "b.gif")
    ]


def test_16_bits_give_exactly_one_warning(tmp_path, fake_codec, trellic):
    rows = b"".join(b"\0" + bytes(12) for _ in range(2))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )
    result = trellic("encode", tmp_path / "a.png", tmp_path / "a.tlc")
    assert result.err == f"warning: {tmp_path}/a.png: 16-bit samples rounded to 8 bits\n"


# ---- bad usage: exit code 2 ----


@pytest.mark.parametrize(
    "options",
    [
        ["-q", "0"],
        ["-q", "0.99"],
        ["-q", "100.5"],
        ["-q", "nan"],
        ["-q", "inf"],
        ["-q", "high"],
        ["--quality"],
        ["--bpp", "0"],
        ["--bpp", "-1"],
        ["--bpp", "nan"],
        ["--bpp", "inf"],
        ["--max-bytes", "0"],
        ["--max-bytes", "1.5"],
        ["--trellis", "7"],
        ["--trellis", "512"],
        ["--trellis", "-8"],
        ["--device", "abacus"],
        ["--max-pixels", "0"],
        ["-q", "50", "--bpp", "1"],
        ["-q", "50", "--max-bytes", "1000"],
        ["--bpp", "1", "--max-bytes", "1000"],
        ["-q", "60", "--bpp", "1"],
        ["--ssimulacra2", "100"],
        ["--ssimulacra2", "good"],
        ["--ssimulacra2", "70", "-q", "60"],
        ["--unknown"],
    ],
)
def test_bad_options_of_encode(tmp_path, photo, fake_codec, trellic, options):
    check_misused(trellic("encode", photo, tmp_path / "a.tlc", *options))
    assert not (tmp_path / "a.tlc").exists()
    assert not fake_codec


@pytest.mark.parametrize(
    "options",
    [
        ["--decoder", ""],
        ["--decoder", ":0.5"],
        ["--decoder", "quality:"],
        ["--decoder", "quality:1.5"],
        ["--decoder", "quality:nan"],
        ["--decoder", "quality:x"],
        ["--device", "gpu"],
        ["--background", "whit"],
        ["--background", "#ffffff80"],
        ["--background", "rgb(300,0,0)"],
    ],
)
def test_bad_options_of_decode(tmp_path, stream, trellic, options):
    check_misused(trellic("decode", stream, tmp_path / "a.png", *options))


@pytest.mark.parametrize(
    "arguments", [["encode"], ["encode", "a.png"], ["decode", "a.tlc"], ["info"]]
)
def test_missing_arguments(trellic, arguments):
    check_misused(trellic(*arguments), "Missing argument")


@pytest.mark.parametrize(
    "arguments", [["encode", "a.png"], ["transcode", "-q", "20", "a.tlc"], ["decode", "a.tlc"]]
)
def test_one_path_lacks_the_output(trellic, arguments):
    check_misused(trellic(*arguments), "Missing argument 'OUT'")


@pytest.mark.parametrize("command", ["encode", "decode", "transcode -q 20", "cut --layers 1"])
@pytest.mark.parametrize(("paths", "which"), [(["a.tlc", ""], "OUT"), (["", "a.tlc"], "IN")])
def test_empty_names(fake_codec, trellic, command, paths, which):
    check_misused(trellic(*command.split(), *paths), f"Invalid value for {which}: an empty name")


def test_several_inputs_need_a_folder(tmp_path, photo, fake_codec, trellic):
    before = photo.read_bytes()
    check_misused(trellic("encode", photo, photo, photo), "is not a folder")
    assert photo.read_bytes() == before


def test_the_forgotten_output(tmp_path, photo, fake_codec, trellic):
    images.write(tmp_path / "b.png", Picture(RGB))
    before = (tmp_path / "b.png").read_bytes()
    check_misused(trellic("encode", photo, tmp_path / "b.png"), "looks like a picture")
    assert (tmp_path / "b.png").read_bytes() == before


@pytest.mark.parametrize("name", ["b", "b.xyz", "b.tlc", "stream.tlc"])
def test_decode_needs_a_known_suffix(tmp_path, stream, trellic, name):
    before = stream.read_bytes()
    check_misused(trellic("decode", stream, tmp_path / name))
    assert stream.read_bytes() == before


def test_input_and_output_are_not_the_same_file(tmp_path, photo, fake_codec, trellic):
    (tmp_path / "link").symlink_to(photo)
    check_misused(trellic("encode", photo, tmp_path / "link"), "is IN itself")


@pytest.mark.parametrize("link", [False, True])
def test_no_input_is_written_over_in_a_folder(tmp_path, photo, stream, fake_codec, trellic, link):
    """An input may have the very name that its result, or that of another input, would get."""
    folder = tmp_path / "f"
    folder.mkdir()
    odd = folder / "photo.tlc"  # a picture, whatever its name says
    odd.write_bytes(photo.read_bytes())
    where = tmp_path / "way"
    where.symlink_to(folder)
    done = trellic("encode", odd, where if link else folder)
    assert done.code == 1
    assert "would replace the input" in done.err
    assert odd.read_bytes() == photo.read_bytes()
    other = tmp_path / "photo.png"
    other.write_bytes(photo.read_bytes())
    done = trellic("encode", other, odd, folder)
    assert (done.code, done.err.count("would replace the input")) == (1, 2)
    assert odd.read_bytes() == photo.read_bytes()


def test_commands_that_do_not_exist(trellic):
    check_misused(trellic("compress"), "No such command")


# ---- help ----


def test_help_and_version(trellic):
    from trellic import __version__

    result = trellic("--help")
    assert result.code == 0
    for command in ("encode", "decode", "info", "models", "bench", "train", "export"):
        assert command in result.out
    assert trellic("--version").out == f"trellic {__version__}\n"
    for option in ("--quality", "--bpp", "--max-bytes", "--trellis", "--model", "--device"):
        assert option in trellic("encode", "--help").out
