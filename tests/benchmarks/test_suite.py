"""The whole set of benchmarks, and the lines that are fitted to large pictures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import big, readme, suite
from trellic import images
from trellic.codec import Codec

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "a.png")
    return folder


def test_times_come_first_and_the_pages_last(photos: Path) -> None:
    steps = suite.plan(photos, "mine", jobs=2)
    assert [step.name for step in steps][:2] == ["speed", "big"]
    assert steps[-1] == suite.Step("readme", ("--write",))
    assert "--published" not in steps[-2].arguments
    for step in steps:
        assert (ROOT / "benchmarks" / f"{step.name}.py").is_file()


def test_one_that_fails_does_not_stop_the_rest(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ran:
        def __init__(self, command: list[str], check: bool) -> None:
            assert command[:2] == [sys.executable, "-m"]
            self.returncode = int(command[2] == "benchmarks.big")

    monkeypatch.setattr(suite.subprocess, "run", Ran)
    assert suite.main(["--images", str(photos), "--only", "big,coder"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "| big | 0.0 | failed (1) |" in lines
    assert "| coder | 0.0 | done |" in lines
    assert suite.main(["--images", str(photos), "--only", "coder"]) == 0
    assert suite.main(["--images", str(photos), "--only", "nothing"]) == 2


def test_a_line_is_fitted_by_relative_error() -> None:
    sizes = [0.1, 1.0, 10.0, 100.0]
    exact = big.fit(sizes, [0.5 + 0.2 * size for size in sizes])
    assert exact == pytest.approx({"fixed": 0.5, "each": 0.2, "off": 0.0}, abs=1e-9)
    bent = big.fit(sizes, [size**1.5 for size in sizes])
    assert bent["off"] > 0.5


def test_growth_is_fitted_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process; `test_peak_memory_is_below_its_bound` measures in processes of their own."""
    codec, peaks = Codec.load(ROOT / "tests" / "data" / "tiny.zip"), [300e6, 310e6]

    def run(command: str, source: Path, target: Path, *_: object) -> dict[str, object]:
        if command == "encode":
            picture = images.read(source)
            target.write_bytes(codec.encode_picture(picture).data)
            size = {"width": picture.width, "height": picture.height}
            times = {"seconds": picture.width / 1000, "cpu_seconds": 1.0}
            return size | times | {"bytes": 1, "peak_bytes": peaks[0]}
        return {"seconds": 0.5, "cpu_seconds": 0.5, "peak_bytes": peaks[1]}

    monkeypatch.setattr(big, "run", run)
    monkeypatch.setattr(big, "make", big._make)
    out = tmp_path / "big.json"
    arguments = ["--megapixels", "0.02,0.06", "--model", str(ROOT / "tests" / "data" / "tiny.zip")]
    arguments += ["--out", str(out), "--plots", str(tmp_path)]
    assert big.main(arguments) == 0
    found = json.loads(out.read_text())
    assert str(ROOT) not in out.read_text()
    assert [round(row["megapixels"], 2) for row in found["results"]] == [0.02, 0.06]
    assert found["fits"]["encode"]["peak_bytes"]["fixed"] == pytest.approx(300e6)
    assert found["fits"]["encode"]["seconds"]["each"] > 1
    assert (tmp_path / "big-light.svg").is_file()
    assert "| 0.1 |" in readme.TABLES["big"](tmp_path)
    peaks[1] = 900e6
    assert big.main([*arguments, "--no-plot"]) == 1  # more than its bound
