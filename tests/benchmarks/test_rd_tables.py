"""Tables of many measures over sets of photos."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.labels import full_label
from benchmarks.runs import Measured, Point, save

from benchmarks import rd_tables

QUALITIES = ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8))


def codec(spec: str, factor: float, flip: float | None = None) -> Measured:
    """Return a codec that needs this many times the rate at equal PSNR, and FLIP another many."""
    settings = {"tune": spec.partition("tune=")[2] or "default"}
    points = [
        Point(
            image=name,
            quality=quality,
            bytes=100,
            bpp=bpp * factor,
            encode_seconds=0,
            decode_seconds=0,
            psnr=26 + 3 * quality,
            flip=None if flip is None else _flip(bpp * factor / flip),
        )
        for name in ("a.png", "b.png")
        for quality, bpp in QUALITIES
    ]
    return Measured(spec, settings, {}, points)


def _flip(bpp: float) -> float:
    return 0.5 - 0.1 * math.log(bpp)  # straight over the logarithm: interpolated exactly


def written(path: Path, *codecs: Measured) -> Path:
    head = {
        "machine": {"date": "today", "commit": "abc", "processor": "a chip"},
        "images": [{"name": "a.png"}, {"name": "b.png"}],
    }
    save(path, head, codecs, [])
    return path


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    first = [codec("trellic", 0.5, 0.9), codec("avif", 1, 1), codec("avif:tune=psnr", 0.8, 1.25)]
    second = [codec("avif", 2, 1), codec("trellic", 1.4, 0.9), codec("avif:tune=psnr", 1.6, 1.25)]
    paths = written(tmp_path / "rd-one.json", *first), written(tmp_path / "two.json", *second)
    return [str(path) for path in paths]


def test_each_set_has_its_table_and_the_mean_is_over_sets(
    runs: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert rd_tables.main([*runs, "--out", str(tmp_path / "tables.md")]) == 0
    text = capsys.readouterr().out
    assert (tmp_path / "tables.md").read_text() == text
    one, two, mean, best = text.split("## ")[1:]
    assert one.startswith("one, 2 photos")
    assert "today, commit abc, a chip" in one
    assert "| codec | RGB PSNR | FLIP |" in one
    assert "| **Trellic, tune default** | -50.0 | -10.0 |" in one
    assert "| **Trellic, tune default** | -30.0 | -10.0 |" in two
    assert mean.startswith("Mean over 2 sets")
    assert "| **Trellic, tune default** | -40.0 | -10.0 |" in mean
    assert "| AVIF (aom), tune psnr | -20.0 | +25.0 |" in mean
    # By PSNR the tuned one is best, by FLIP the default.
    assert best.startswith("Against the best AVIF (aom) by each measure")
    assert "| **Trellic, tune default** | -25.0 (tune=psnr) | -10.0 (default) |" in best


def test_photos_can_be_averaged_one_by_one(runs: list[str]) -> None:
    how = rd_tables.How("avif", per_photo=True)
    found = rd_tables.rates(rd_tables.read(Path(runs[0]), "avif"), how)
    assert found["trellic"]["psnr"] == pytest.approx(-50)


def test_a_score_that_some_photos_lack_is_not_that_of_the_others(tmp_path: Path) -> None:
    both = [codec("trellic", 0.5, 0.9), codec("avif", 1, 1)]
    for one in both:
        one.points[:] = [p if p.image == "a.png" else replace(p, flip=None) for p in one.points]
    path = written(tmp_path / "a.json", *both)
    for per_photo in (False, True):
        how = rd_tables.How("avif", per_photo=per_photo)
        found = rd_tables.rates(rd_tables.read(path, "avif"), how)
        assert found["trellic"]["flip"] is None
        assert found["trellic"]["psnr"] == pytest.approx(-50)


def test_a_score_that_one_set_lacks_has_no_mean(tmp_path: Path) -> None:
    paths = [
        written(tmp_path / "a.json", codec("trellic", 0.5, 1), codec("avif", 1, 1)),
        written(tmp_path / "b.json", codec("trellic", 0.5), codec("avif", 1)),
    ]
    how = rd_tables.How("avif")
    mean = rd_tables.mean([rd_tables.rates(rd_tables.read(path, "avif"), how) for path in paths])
    assert list(mean["trellic"]) == ["psnr"]


def test_an_anchor_that_was_not_measured_is_one_line(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rd_tables.main([*runs, "--anchor", "webp"]) == 2
    assert "has no codec webp; it has trellic, avif" in capsys.readouterr().err


def test_a_row_tells_the_tuning_that_its_spec_leaves_out() -> None:
    settings = {"speed": 6, "tune": "default", "subsampling": "4:4:4", "bit_depth": 8}
    assert full_label("avif", settings) == "AVIF (aom), speed 6, tune default, 4:4:4"
    assert full_label("jxl:effort=9", {"effort": 9}) == "JPEG XL, effort 9"
