"""Which Trellic quality another codec's setting is, at equal SSIMULACRA 2."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.runs import Measured, Point, save

from benchmarks import quality_scale


def codec(
    spec: str, qualities: tuple[float, ...], score: Callable[[float], float], spread: float = 4
) -> Measured:
    """Return a codec with these scores, one photo above the mean and one below."""
    points = [
        Point(name, quality, 100, 1 + quality, 0, 0, 30, ssimulacra2=score(quality) + sign * spread)
        for quality in qualities
        for name, sign in (("a.png", 1), ("b.png", -1))
    ]
    return Measured(spec, {"subsampling": "4:4:4"}, {"version": "1"}, points)


def written(path: Path, *codecs: Measured) -> str:
    save(path, {"machine": {"cores": 2}, "images": []}, codecs, [])
    return str(path)


OURS = tuple(range(10, 100, 10))


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    first = [
        codec("trellic", OURS, lambda q: q + 2),
        codec("jpeg", (50, 75, 99), lambda q: q - 10),
    ]
    second = [
        codec("jpeg", (50, 75, 98, 99), lambda q: q - 6),
        codec("trellic", OURS, lambda q: q - 4 if q > 30 else q),
    ]
    one, two = tmp_path / "rd-one.json", tmp_path / "two.json"
    return [written(one, *first), written(two, *second)]


def test_settings_of_equal_score(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scale.json"
    assert quality_scale.main([*runs, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "| quality | one | two | mean |" in text
    assert "| 60 | 62.0 | 56.0 | 59.0 |" in text
    assert "differs from the quality by 4.0 at most (two, quality 90)" in text
    # 75 scores 65 and 69, the mean 67 is ours at 68; 99 scores 91, more than ours at 90 (89).
    assert "| JPEG (mozjpeg), 4:4:4 | SSIMULACRA 2 | Trellic quality |" in text
    assert "| 75 | 67.0 | 68 |" in text
    assert "| 99 | 91.0 | - |" in text
    assert "| 98 |" not in text  # one set does not have it
    found = json.loads(out.read_text())
    assert found["equals"][1]["quality"] == pytest.approx(68)
    assert found["versions"] == {"version": "1"}
    assert [step["quality"] for step in found["scale"]] == list(OURS)


def test_runs_that_do_not_fit_are_one_line(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written(tmp_path / "c.json", codec("jpeg", (50, 75), lambda q: q))
    assert quality_scale.main([runs[0], other]) == 2
    assert "no Trellic" in capsys.readouterr().err
    odd = written(tmp_path / "d.json", codec("trellic", (11, 12), lambda q: q))
    assert quality_scale.main([runs[0], odd]) == 2
    assert "no quality in common" in capsys.readouterr().err
    both = [codec(f"trellic:trellis={n}", OURS, lambda q: q) for n in (0, 32)]
    assert quality_scale.main([written(tmp_path / "e.json", *both)]) == 2
    assert "choose one by --ours" in capsys.readouterr().err
    flat = written(tmp_path / "f.json", codec("trellic", OURS, lambda _: 5), both[0])
    assert quality_scale.main([flat, "--ours", "trellic"]) == 0
    lost = written(
        tmp_path / "g.json", codec("trellic", OURS, lambda _: 5), codec("webp", (1,), float)
    )
    assert quality_scale.main([lost]) == 2
    assert "fewer than two qualities" in capsys.readouterr().err
