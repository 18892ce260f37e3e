"""The benchmark of quantizers, on the tiny model and two small pictures."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.own_tables import with_dither, with_own_tables
from benchmarks.quantizers import Case, compare, main
from benchmarks.runs import Measured, Point, load
from PIL import Image

from trellic.codec import Codec

TINY = Path(__file__).parent.parent / "data" / "tiny.zip"


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ramp = np.add.outer(np.arange(128), np.arange(192))[..., None] * [0.5, 0.3, 0.7]
    return (ramp + rng.normal(0, 20, (128, 192, 1))).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "photos"
    images.mkdir()
    for i in range(2):
        Image.fromarray(picture(i)).save(images / f"{i}.png")
    return images


def test_tables_of_its_own_save_bits_and_still_decode(tmp_path: Path) -> None:
    pixels = picture(3)
    own = with_own_tables(TINY, [pixels], tmp_path / "own.zip", trellis=0, search="round")
    before, after = Codec(str(TINY)), Codec(str(own))
    options = {"quality": 50, "trellis": 0, "search": "round"}
    data = after.encode(pixels, **options)
    assert len(data) < len(before.encode(pixels, **options))
    assert after.decode(data).shape == pixels.shape
    assert after.bundle.manifest.stream_id != before.bundle.manifest.stream_id


@pytest.mark.long
@pytest.mark.slow("a whole run")
def test_a_run_compares_real_files_with_rounding(folder: Path, tmp_path: Path) -> None:
    arguments = ["--images", folder, "--before", TINY, "--after", TINY, "--quantizers", "round,0,8"]
    more = ["--quality", "20,50,80", "--out", tmp_path, "--plots", tmp_path]
    assert main([*map(str, arguments), *map(str, more)]) == 0
    head, measured = load(tmp_path / "quantizers-photos.json")
    assert [m.spec for m in measured][:3] == ["before round", "before 0", "before 8"]
    assert measured[0].settings["search"] == "round"
    rows = {row["quantizer"]: row for row in head["bd_rates"]}
    assert rows["round"]["before"]["percent"] == pytest.approx(0, abs=1e-9)
    assert rows["8"]["gain"]["percent"] == pytest.approx(0, abs=1e-9)  # the same bundle twice
    assert (tmp_path / "quantizers-photos-dark.svg").is_file()


def test_gains_are_against_the_same_quantizer() -> None:
    def measured(factor: float) -> Measured:
        rates = [0.1, 0.2, 0.4, 0.8]
        points = [
            Point("a", q, 1, factor * rate, 0, 0, psnr=30.0 + 3 * q) for q, rate in enumerate(rates)
        ]
        return Measured("x", {}, {}, points)

    factors = {
        ("before", "round"): 1.0,
        ("before", "8"): 0.9,
        ("after", "round"): 0.98,
        ("after", "8"): 0.86,
    }
    rows = compare("f", {case: measured(f) for case, f in factors.items()}, ["round", "8"])
    assert [row.before.percent for row in rows] == pytest.approx([0, -10])
    assert [row.after.percent for row in rows] == pytest.approx([-2, -14])
    assert rows[1].gain.percent == pytest.approx(100 * (0.86 / 0.9 - 1))


def test_rounding_is_a_scalar_case() -> None:
    case = Case("before", "round", Path("m.zip"))
    assert case.spec.options == (("model", "m.zip"), ("trellis", "0"), ("search", "round"))


@pytest.mark.long
@pytest.mark.slow("tables are fitted to photos")
def test_dither_gets_tables_fitted_to_photos(folder: Path, tmp_path: Path) -> None:
    assert Case("before", "dither", Path("m.zip")).spec.options[1:] == (
        ("trellis", "0"),
        ("dither", "1"),
    )
    arguments = ["--images", folder, "--before", TINY, "--quantizers", "round,dither"]
    more = ["--quality", "20,80", "--out", tmp_path, "--no-plot", "--limit", 1]
    assert main([*map(str, arguments), *map(str, more)]) == 0
    head, measured = load(tmp_path / "quantizers-photos.json")
    assert measured[1].settings["dither"] == 1
    assert head["bd_rates"][1]["quantizer"] == "dither"

    own = with_dither(TINY, [picture(3)], tmp_path / "own.zip")
    once_more = with_dither(own, [picture(3)], tmp_path / "again.zip")
    codec = Codec(str(own))
    assert codec.bundle.levels.level_offset.tolist()[8:] == [0]
    assert Codec(str(once_more)).bundle.manifest.stream_id == codec.bundle.manifest.stream_id
    data = codec.encode(picture(3), quality=50, trellis=0, dither=7)
    assert codec.decode(data).shape == picture(3).shape


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys) -> None:
    assert main(["--images", str(tmp_path), "--before", str(TINY)]) == 2
    assert "no pictures" in capsys.readouterr().err
