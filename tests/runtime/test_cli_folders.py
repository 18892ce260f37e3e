"""The command line with folders, pipes, formats and sizes, and several files at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from PIL import Image
from tests.runtime.conftest import FakeCodec
from tests.runtime.test_cli import check_misused, check_refused

from trellic import images
from trellic.cli import work
from trellic.cli.paths import Job
from trellic.errors import BadParameter, TrellicWarning
from trellic.images import Picture
from trellic.images.sniff import picture_format

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path, fake_codec):
    top = tmp_path / "photos"
    for name in (
        "b.png",
        "a.jpg",
        "trip/one.png",
        "trip/day 2/two.PNG",
        ".hidden/x.png",
        "._b.png",
    ):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        images.write(top / name, Picture(RGB))
    (top / "notes.txt").write_text("Dear diary")
    (top / "trip" / "round").symlink_to(top)
    return top


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


NAMES = ["a.tlc", "b.tlc", "trip/day 2/two.tlc", "trip/one.tlc"]


def test_a_tree_is_mirrored_there_and_back(tmp_path, tree, trellic):
    result = trellic("encode", tree, tmp_path / "out", "-r")
    assert (result.code, result.err) == (0, "")
    assert files_below(tmp_path / "out") == NAMES
    assert result.out.splitlines()[-1].startswith("4 files, ")
    result = trellic("decode", tmp_path / "out", tmp_path / "back", "-r", "--format", "webp")
    assert (result.code, result.err) == (0, "")
    assert files_below(tmp_path / "back") == [name.replace(".tlc", ".webp") for name in NAMES]
    np.testing.assert_array_equal(images.read(tmp_path / "back/trip/one.webp").pixels, RGB)


def test_the_line_at_the_end():
    total = work._Total()
    for _ in range(17):
        total.add(work.Sizes(77_647, 15_882))
    assert total.line(9.1) == "17 files, 1.32 MB to 0.27 MB (-80 %), 9.1 s"
    total.add(work.SKIPPED)
    total.add(work.FAILED)
    assert total.line(9.1) == (
        "17 of 19 files, 1.32 MB to 0.27 MB (-80 %), 9.1 s, 1 skipped, 1 failed"
    )
    assert (
        work._Total(files=1, before=900, after=2000).line(1) == "1 file, 0.90 kB to 2.00 kB, 1.0 s"
    )
    assert work._Total(skipped=3).line(0) == "0 of 3 files, 0.0 s, 3 skipped"
    assert work._Total(failed=1).line(0) == "0 of 1 file, 0.0 s, 1 failed"


def test_same_names_in_one_folder_of_a_tree_are_refused(tmp_path, tree, trellic):
    images.write(tree / "trip" / "one.webp", Picture(255 - RGB))
    result = trellic("encode", tree, tmp_path / "out", "-r", "-j", 4)
    assert result.code == 1
    assert "one.webp: its result" in result.err
    assert "already that of" in result.err
    assert "; encode with --keep-suffix, rename one" in result.err
    assert result.out.splitlines()[-1].endswith("1 failed")
    assert files_below(tmp_path / "out") == NAMES


def test_the_remedy_is_one_that_the_command_has(tmp_path, stream, trellic):
    """Of files to decode, no option keeps the suffix."""
    other = tmp_path / f"{stream.stem}.bin"
    other.write_bytes(stream.read_bytes())
    result = trellic("decode", stream, other, tmp_path / "back" / "")
    assert "already that of" in result.err
    assert "--keep-suffix" not in result.err


def test_two_folders_into_one(tmp_path, tree, trellic):
    result = trellic("encode", tree / "trip/day 2", tree / "trip", tmp_path / "out", "-r")
    assert (result.code, result.err) == (0, "")
    assert files_below(tmp_path / "out") == ["day 2/two.tlc", "one.tlc", "two.tlc"]


def test_a_folder_needs_r_and_files_in_it(tmp_path, tree, trellic):
    check_refused(trellic("encode", tree, tmp_path / "out"), "a folder", "-r goes through")
    check_misused(trellic("decode", tree, tmp_path / "out", "-r"), "holds no file with .tlc")
    assert not (tmp_path / "out").exists()


def test_what_is_no_file_is_left_out(tmp_path, tree, trellic):
    os.mkfifo(tree / "z.png")  # to read it would be to wait for ever
    (tree / "y.png").symlink_to("nowhere.png")
    result = trellic("encode", tree, tmp_path / "out", "-r")
    assert result.code == 1
    assert "y.png" in result.err
    assert "z.png" not in result.err
    assert files_below(tmp_path / "out") == NAMES


def test_existing_results_are_skipped(tmp_path, tree, trellic, fake_codec):
    out = tmp_path / "out"
    (out / "trip").mkdir(parents=True)
    (out / "trip" / "one.tlc").write_bytes(b"mine")
    result = trellic("encode", tree, out, "-r", "--skip-existing")
    assert (result.code, result.out.splitlines()[-1].endswith("1 skipped")) == (0, True)
    assert (out / "trip" / "one.tlc").read_bytes() == b"mine"
    fake_codec.clear()
    assert trellic("encode", tree, out, "-r", "--skip-existing").code == 0
    assert not fake_codec  # nothing to do, nothing loaded


PAST = (1_000_000_000, 1_000_000_000)


def encode_the_new_ones(tree, out, trellic, *more):
    result = trellic("encode", tree, out, "-r", "--skip-existing", *more)
    assert (result.code, result.err) == (0, "")
    return result.out.splitlines()[-1]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_changed_picture_is_not_skipped(tmp_path, tree, trellic, suffix):
    """Nor is another one in its place that differs in its suffix alone."""
    encode_the_new_ones(tree, tmp_path / "out", trellic)
    (tree / "a.jpg").unlink()
    images.write(tree / f"a.{suffix}", Picture(255 - RGB))
    os.utime(tree / f"a.{suffix}", (4_000_000_000, 4_000_000_000))
    assert encode_the_new_ones(tree, tmp_path / "out", trellic).startswith("1 of 4 files, ")
    trellic("decode", tmp_path / "out" / "a.tlc", tmp_path / "a.png")
    assert images.read(tmp_path / "a.png").pixels.mean() == pytest.approx(255 - RGB.mean(), abs=1)


def test_an_old_picture_that_was_moved_in_is_not_skipped(tmp_path, tree, trellic):
    images.write(tmp_path / "a.png", Picture(255 - RGB))
    os.utime(tmp_path / "a.png", PAST)
    encode_the_new_ones(tree, tmp_path / "out", trellic)
    (tree / "a.jpg").unlink()
    time.sleep(0.05)  # clocks of file systems have steps
    (tmp_path / "a.png").rename(tree / "a.png")
    assert encode_the_new_ones(tree, tmp_path / "out", trellic).startswith("1 of 4 files, ")
    assert encode_the_new_ones(tree, tmp_path / "out", trellic).startswith("0 of 4 files, ")


def test_results_with_the_times_of_their_sources_are_skipped(tmp_path, tree, trellic):
    for path in tree.rglob("*.png"):
        os.utime(path, PAST)
    encode_the_new_ones(tree, tmp_path / "out", trellic, "--preserve")
    assert encode_the_new_ones(tree, tmp_path / "out", trellic).endswith("4 skipped")


def test_any_result_of_a_pipe_is_skipped(tmp_path):
    (tmp_path / "stdin.tlc").write_bytes(b"mine")
    assert Job("-", str(tmp_path / "stdin.tlc")).is_done()
    assert not Job("-", str(tmp_path / "other.tlc")).is_done()


def test_names_keep_their_suffix(tmp_path, tree, trellic):
    images.write(tree / "a.png", Picture(255 - RGB))
    result = trellic("encode", tree, tmp_path / "out", "-r", "--keep-suffix")
    assert (result.code, result.err) == (0, "")
    names = ["a.jpg.tlc", "a.png.tlc", "b.png.tlc", "trip/day 2/two.PNG.tlc", "trip/one.png.tlc"]
    assert files_below(tmp_path / "out") == names
    result = trellic("decode", tmp_path / "out", tmp_path / "back", "-r", "--format", "webp")
    assert (result.code, result.err) == (0, "")
    assert len(files_below(tmp_path / "back")) == len(names)


@pytest.mark.parametrize("name", ["o.tlc", "o.TLC", "o.png"])
def test_a_folder_with_the_name_of_a_file_is_refused(tmp_path, tree, trellic, name):
    several = tree / "a.jpg", tree / "b.png"
    for inputs in (several, (tree, "-r")):
        check_misused(trellic("encode", *inputs, tmp_path / name), "looks like a file")
        assert not (tmp_path / name).exists()
    assert trellic("encode", *several, f"{tmp_path}/new.tlc/").code == 0
    (tmp_path / name).mkdir()
    assert trellic("encode", *several, tmp_path / name).code == 0
    assert files_below(tmp_path / name) == ["a.tlc", "b.tlc"]
    streams = tmp_path / name / "a.tlc", tmp_path / name / "b.tlc"
    check_misused(trellic("decode", *streams, tmp_path / "back.jpg"), "looks like a file")


def test_times_are_kept(tmp_path, tree, trellic):
    os.utime(tree / "b.png", (1_000_000_000, 1_000_000_000))
    assert trellic("encode", tree / "b.png", tmp_path / "b.tlc", "--preserve").code == 0
    assert (tmp_path / "b.tlc").stat().st_mtime == 1_000_000_000
    assert trellic("decode", tmp_path / "b.tlc", tmp_path / "b.png").code == 0
    assert (tmp_path / "b.png").stat().st_mtime > 1_600_000_000


def test_a_dry_run_writes_nothing(tmp_path, tree, trellic, fake_codec):
    result = trellic(
        "encode", tree, tree / "gone.png", tmp_path / "out", "-r", "--dry-run", "--json"
    )
    assert result.code == 1
    assert result.err == f"error: {tree}/gone.png: no such file or folder\n"
    outputs = [json.loads(line)["output"] for line in result.out.splitlines()]
    assert sorted(outputs) == [str(tmp_path / "out" / name) for name in NAMES]
    assert not (tmp_path / "out").exists()
    assert not fake_codec


# ---- several at once ----


@pytest.fixture
def slow(monkeypatch):
    """The first pictures take longest; says how many were worked on at the same time."""
    busy, most, lock, ordinary = [0], [0], threading.Lock(), FakeCodec.encode_picture

    def encode(self, picture, **options):
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        warnings.warn(f"{picture.width} wide", TrellicWarning, stacklevel=2)
        time.sleep(0.002 * (40 - picture.width))
        with lock:
            busy[0] -= 1
        return ordinary(self, picture, **options)

    monkeypatch.setattr(FakeCodec, "encode_picture", encode)
    return most


def test_what_is_said_of_files_at_once_comes_in_their_order(tmp_path, fake_codec, trellic, slow):
    sources = [tmp_path / f"{width}.png" for width in range(20, 28)]
    for source in sources:
        images.write(source, Picture(RGB[:, : int(source.stem)]))
    (tmp_path / "23.png").write_text("Dear diary")
    result = trellic("encode", *sources, tmp_path / "out", "-j", 4, "--json")
    assert result.code == 1
    widths = [json.loads(line)["width"] for line in result.out.splitlines()]
    assert widths == [20, 21, 22, 24, 25, 26, 27]
    lines = result.err.splitlines()
    assert lines[3].startswith(f"error: {tmp_path}/23.png")
    said = [line for line in lines if line.startswith("warning")]
    assert said == [f"warning: {tmp_path}/{width}.png: {width} wide" for width in widths]
    assert slow[0] > 1
    assert len(fake_codec) == 1


def test_large_pictures_are_worked_on_alone(tmp_path, fake_codec, trellic, slow, monkeypatch):
    monkeypatch.setattr(work, "LARGE_PIXELS", 599)
    sources = [tmp_path / f"{n}.png" for n in range(4)]
    for source in sources:
        images.write(source, Picture(RGB))
    assert trellic("encode", *sources, tmp_path / "out", "-j", 4).code == 0
    assert slow[0] == 1


def test_how_many_at_once(monkeypatch):
    monkeypatch.setattr(work, "usable_cores", lambda: 8)
    assert work.Batch().at_once(30, bounded=False) == 8
    assert work.Batch().at_once(3, bounded=False) == 3
    assert work.Batch(jobs=2).at_once(30, bounded=False) == 2
    assert work.Batch().at_once(30, bounded=True) == 1


def test_a_limit_of_memory_is_for_one_at_a_time(tmp_path, tree, trellic):
    limit = ("--max-memory", "2G", "-j", 2)
    check_misused(trellic("encode", tree, tmp_path / "out", "-r", *limit), "leave out --jobs")


def test_a_model_that_cannot_be_loaded_ends_it(tmp_path, tree, trellic):
    result = trellic("encode", tree, tmp_path / "out", "-r", "-j", 3, "--model", "other")
    check_refused(result, "no model 'other'")


def test_real_files_at_once_are_those_of_one_at_a_time(tmp_path, tiny_path, trellic):
    for n in range(3):
        images.write(
            tmp_path / f"{n}.png", Picture(RNG.integers(0, 256, (40, 50 + n, 3), np.uint8))
        )
    for jobs in (1, 3):
        sources = [tmp_path / f"{n}.png" for n in range(3)]
        common = ("--model", tiny_path, "--device", "cpu", "-j", jobs)
        assert trellic("encode", *sources, tmp_path / f"out{jobs}", *common).code == 0
    for n in range(3):
        one, many = ((tmp_path / f"out{jobs}" / f"{n}.tlc").read_bytes() for jobs in (1, 3))
        assert one == many


# ---- formats and sizes ----


@pytest.fixture
def stream(tmp_path, fake_codec, trellic):
    picture = Picture(RGB, None, b"profile", b"II*\0\0\0\0\0", b"<x/>")
    images.write(tmp_path / "photo.png", picture)
    assert trellic("encode", tmp_path / "photo.png", tmp_path / "stream.tlc").code == 0
    return tmp_path / "stream.tlc"


@pytest.mark.parametrize("name", ["jpg", "webp", "tif", "avif", "PNG"])
def test_the_format_of_a_file_without_a_suffix(tmp_path, stream, trellic, name):
    assert trellic("decode", stream, tmp_path / "b", "--format", name).code == 0
    kind = picture_format((tmp_path / "b").read_bytes())
    assert kind == {"jpg": "JPEG", "tif": "TIFF"}.get(name, name.upper())
    assert trellic("decode", stream, stream, tmp_path / "c", "--format", name).code == 1
    assert files_below(tmp_path / "c") == [f"stream.{name.lower()}"]


def test_a_format_that_is_none_or_another_than_the_suffix(tmp_path, stream, trellic):
    check_misused(trellic("decode", stream, tmp_path / "b", "--format", "psd"), "not one of png")
    check_misused(trellic("decode", stream, tmp_path / "b.jpg", "--format", "png"), "ends with")
    assert trellic("decode", stream, tmp_path / "b.jpeg", "--format", "jpg").code == 0


@pytest.mark.parametrize(
    ("option", "size"),
    [
        (("--size", "15x15"), (15, 10)),
        (("--size", "900x5"), (8, 5)),
        (("--size", "1x1"), (1, 1)),
        (("--size", "300x200"), (30, 20)),
        (("--scale", "0.5"), (15, 10)),
        (("--scale", "1"), (30, 20)),
        (("--scale", "0.001"), (1, 1)),
    ],
)
def test_sizes(tmp_path, stream, trellic, option, size):
    result = trellic("decode", stream, tmp_path / "b.png", *option, "--json")
    assert result.code == 0
    fields = json.loads(result.out)
    assert (fields["width"], fields["height"]) == size
    again = images.read(tmp_path / "b.png")
    assert (again.width, again.height) == size
    assert (again.icc, again.exif, again.xmp) == (b"profile", b"II*\0\0\0\0\0", b"<x/>")


@pytest.mark.parametrize(
    "option",
    [
        ("--size", "0x5"),
        ("--size", "5"),
        ("--size", "axb"),
        ("--scale", "0"),
        ("--scale", "2"),
        ("--scale", "nan"),
        ("--scale", "0.5", "--size", "5x5"),
    ],
)
def test_bad_sizes(tmp_path, stream, trellic, option):
    check_misused(trellic("decode", stream, tmp_path / "b.png", *option))


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_clear_pixels_do_not_bleed_into_others(shape):
    pixels, alpha = np.full(shape, 255, np.uint8), np.zeros((20, 30), np.uint8)
    pixels[:, :15], alpha[:, :15] = 40, 255
    small = images.resized(Picture(pixels, alpha), (7, 5))
    assert small.pixels.shape[:2] == (5, 7)
    assert small.grey == (len(shape) == 2)
    assert small.alpha is not None
    assert (np.abs(small.pixels[small.alpha > 100].astype(int) - 40) < 4).all()


def test_a_size_is_one_thing():
    for wrong in ((None, None), ((2, 2), 0.5), ((0, 2), None), (None, 1.5)):
        with pytest.raises(BadParameter):
            images.Fit(*wrong)


@pytest.fixture
def models(family_path, monkeypatch, tmp_path):
    monkeypatch.setenv("TRELLIC_MODELS", str(family_path.parent))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("option", "scale"),
    [
        (("--size", "4x4"), 16),
        (("--size", "9x9"), 8),
        (("--size", "10x10"), 2),
        (("--size", "75x75"), 1),
        (("--size", "80x80"), None),
        (("--size", "9x9", "--region", "0,0,70,70"), 2),
        (("--size", "9x9", "--decoder", "quality"), None),
    ],
)
def test_small_pictures_come_from_cheap_decoders(
    tmp_path, models, family, plain_stream, trellic, option, scale
):
    """Of 150 x 100 pixels: the smallest that still has twice the sides that are asked for."""
    (tmp_path / "a.tlc").write_bytes(plain_stream)
    result = trellic("decode", tmp_path / "a.tlc", tmp_path / "a.png", *option, "--json")
    assert (result.code, result.err) == (0, "")
    chosen = json.loads(result.out)["decoder"]
    assert chosen == "quality" if scale is None else family.decoders[chosen].scale == scale


def test_the_memory_of_a_small_picture_is_that_of_the_whole(
    tmp_path, models, sliced_stream, trellic
):
    (tmp_path / "a.tlc").write_bytes(sliced_stream)
    small = ("--size", "200x200", "--max-memory", "320M")
    result = trellic("decode", tmp_path / "a.tlc", tmp_path / "a.png", *small)
    check_refused(result, "--max-memory")


def test_thumbnails_of_pillow_come_from_cheap_decoders(models, plain_stream, family):
    import io

    import trellic.pillow

    trellic.pillow._codec.cache_clear()
    with Image.open(io.BytesIO(plain_stream)) as image:
        image.thumbnail((6, 6))
        assert family.decoders[image.decoder].scale == 8
        assert image.size == (6, 4)
    with Image.open(io.BytesIO(plain_stream)) as image:
        image.decoder = "fast" if "fast" in family.decoders else "quality"
        chosen = image.decoder
        image.thumbnail((9, 9), reducing_gap=None)
        assert image.decoder == chosen


@pytest.mark.slow("two processes, as a shell starts them")
def test_a_pipe_through_both(tmp_path, tiny_path):
    images.write(tmp_path / "a.png", Picture(RGB))
    env = {**os.environ, "TRELLIC_MODELS": str(tiny_path.parent)}
    command = (
        f"{sys.executable} -m trellic encode - - --model tiny < a.png | "
        f"{sys.executable} -m trellic decode - - --format jpg --scale 0.5 > b.jpg"
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, env=env, capture_output=True)
    with Image.open(tmp_path / "b.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (15, 10))
