"""Desktops know .tlc files: with the real ``file`` and ``xdg-mime``, and a thumbnailer's entry."""

from __future__ import annotations

import configparser
import mimetypes
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import trellic.pillow
from trellic.cli import desktop
from trellic.support import cache

COMPILED = cache.folder(cache.KERNELS)  # found before a test has another home


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setenv("XDG_DATA_DIRS", "/usr/share")
    return tmp_path


@pytest.fixture
def picture(tmp_path, tiny):
    path = tmp_path / "photo"
    path.write_bytes(tiny.encode(np.zeros((90, 120, 3), np.uint8)))
    return path


def files_below(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_is_said_and_undone(home, trellic):
    magic = home / "home" / ".magic"
    magic.write_text("0\tstring\tMINE\tmine\n")
    before = files_below(home)
    foreseen = trellic("install-desktop", "--dry-run")
    assert (foreseen.code, files_below(home)) == (0, before)
    said = trellic("install-desktop")
    assert said.code == 0
    written = [line.split(maxsplit=1)[1] for line in said.out.splitlines()]
    assert [line.split(maxsplit=2)[2] for line in foreseen.out.splitlines()] == written[:3]
    assert {str(path) for path in files_below(home) - before} >= set(written[:2])
    once = magic.read_text()
    assert "MINE" in once
    assert desktop.MAGIC in once
    trellic("install-desktop")
    assert magic.read_text() == once
    assert trellic("install-desktop", "--undo").code == 0
    assert magic.read_text() == "0\tstring\tMINE\tmine\n"
    assert not [path for path in files_below(home) if "trellic" in path.name]
    magic.unlink()
    trellic("install-desktop")
    trellic("install-desktop", "--undo")
    assert not magic.exists()


def test_a_place_that_cannot_be_written_is_an_error(home, trellic, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
    result = trellic("install-desktop")
    assert (result.code, result.err.count("\n")) == (1, 1)


@pytest.mark.skipif(shutil.which("file") is None, reason="needs file")
def test_file_knows_it(home, picture, trellic):
    trellic("install-desktop")
    said = subprocess.run(["file", "-b", picture], capture_output=True, text=True, check=True)
    assert said.stdout == "Trellic image, format version 1\n"
    kind = ["file", "-b", "--mime-type", picture]
    assert subprocess.run(kind, capture_output=True, text=True, check=True).stdout == (
        "image/x-trellic\n"
    )
    picture.write_bytes(b"TLC stands for tender loving care\n")
    assert "ASCII" in subprocess.run(["file", "-b", picture], capture_output=True, text=True).stdout


@pytest.mark.skipif(
    shutil.which("xdg-mime") is None or shutil.which("update-mime-database") is None,
    reason="needs xdg-utils and shared-mime-info",
)
def test_xdg_mime_knows_it(home, picture, trellic):
    assert trellic("install-desktop").code == 0
    named = picture.rename(picture.with_suffix(".tlc"))
    kind = ["xdg-mime", "query", "filetype", named]
    said = subprocess.run(kind, capture_output=True, text=True, check=True).stdout
    assert said == "image/x-trellic\n"


@pytest.mark.long
@pytest.mark.slow("processes as a desktop starts them")
def test_the_thumbnailer_makes_thumbnails(home, picture, tiny_path, trellic, monkeypatch):
    """The entry's own command, as a file manager runs it."""
    assert trellic("install-desktop").code == 0
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(home / "xdg_data_home" / "thumbnailers" / "trellic.thumbnailer")
    section = entry["Thumbnailer Entry"]
    assert section["MimeType"] == "image/x-trellic;"
    out = home / "thumbnail"
    places = {"%i": str(picture), "%o": str(out), "%sx%s": "64x64"}
    command = [places.get(word, word) for word in shlex.split(section["Exec"])]
    monkeypatch.setenv("TRELLIC_MODELS", str(tiny_path.parent))
    monkeypatch.setenv(cache.VARIABLE, str(COMPILED.parent))
    subprocess.run(command, check=True, capture_output=True)
    with Image.open(out) as image:
        assert (image.format, image.size) == ("PNG", (64, 48))


def test_mimetypes_know_it():
    assert trellic.pillow.MIME_TYPE == desktop.MIME_TYPE
    assert mimetypes.guess_type("a.tlc")[0] == "image/x-trellic"
    assert mimetypes.guess_extension("image/x-trellic") == ".tlc"
