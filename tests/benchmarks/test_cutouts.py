"""Cut-outs: equal photos give equal sets, and a background that changed is counted."""

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.codecs import Pixels, Spec
from PIL import Image

from benchmarks import cutouts


class Copies:
    """Keeps pixels; a file's length is its quality. From quality 50 on nothing changes."""

    def __init__(self) -> None:
        self._pixels = np.zeros(0, np.uint8)
        self._quality = 0.0

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        self._pixels, self._quality = pixels, quality
        return bytes(int(quality))

    def decode(self, _: bytes) -> Pixels:
        decoded = self._pixels.copy()
        if self._quality < 50:
            half = decoded[: len(decoded) // 2, :, 1]
            half += np.where(half > 127, -3, 3).astype(np.int8).view(np.uint8)
        return decoded


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, shape in enumerate(((90, 140, 3), (70, 60, 3))):
        noise = np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


def make_set(photos: Path, count: int = 6) -> list[cutouts.Cutout]:
    return list(cutouts.cutouts(sorted(photos.iterdir()), count, 96))


def test_the_background_is_pure_and_large_and_the_object_is_not(photos: Path) -> None:
    made = make_set(photos)
    assert [one.level for one in made] == [255, 0] * 6
    for one in made:
        assert one.pixels.shape == (96, 96, 3)
        assert (one.pixels[one.background] == one.level).all()
        assert 0.3 < one.background.mean() < 0.95
        assert one.pixels[~one.background].std() > 20
    white, black = made[0].pixels.astype(int), made[1].pixels.astype(int)
    assert np.array_equal(white[48, 48], black[48, 48])  # the same object on both
    shaded = (made[1].background & ~made[0].background).sum()
    assert 0 < shaded < 0.2 * made[1].background.sum()


def test_equal_photos_give_equal_sets(photos: Path) -> None:
    first, second = make_set(photos), make_set(photos)
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.pixels, other.pixels)
    assert len({one.pixels.tobytes() for one in first}) == len(first)


def test_pixels_that_changed_are_counted(photos: Path) -> None:
    made = make_set(photos)
    bad, good = (list(cutouts.kept(made, Spec("webp"), quality, Copies())) for quality in (40, 60))
    assert [(row.level, row.share, row.largest) for row in good] == [(255, 1, 0), (0, 1, 0)]
    for row in bad:
        level = [one for one in made if one.level == row.level]
        lower = [one.background[48:].sum() / one.background.sum() for one in level]
        assert row.share == pytest.approx(np.mean(lower))
        assert row.largest == 3
        assert row.bpp == pytest.approx(8 * 40 / 96**2)


def test_the_command_prints_and_writes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "cutouts.json", tmp_path / "set"
    arguments = ["--images", str(photos), "--count", "2", "--size", "64", "--codecs", "webp"]
    arguments += ["--qualities", "30,90", "--out", str(out), "--write", str(kept)]
    assert cutouts.main(arguments) == 0
    text = capsys.readouterr().out
    assert "| on 255, quality | 30 | 90 |" in text
    assert "| WebP | " in text
    run = json.loads(out.read_text())
    assert len(run["kept"]) == 4
    assert run["pictures"] == [path.stem for path in sorted(kept.iterdir(), key=_order)]
    assert cutouts.main(["--images", str(tmp_path / "none")]) == 2


def _order(path: Path) -> tuple[str, int]:
    number, _, level = path.stem.split("-")
    return number, -int(level)
