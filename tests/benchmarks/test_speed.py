"""The speed benchmark: matching, goals, and a whole run on a small picture."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.codecs import Pixels, Spec
from benchmarks.match import match_psnr
from benchmarks.metrics import psnr
from benchmarks.threads import WorkerError, run_pinned, told
from PIL import Image

from benchmarks import readme, speed, speed_tables

ROOT = Path(__file__).resolve().parents[2]
OURS = ["trellic:trellis=8:decoder=quality", "trellic:trellis=8:decoder=fast"]
AVIF, JXL = "avif:speed=6", "jxl:effort=7"


class Noise:
    """Adds noise of an amplitude that is its quality: smaller is better."""

    ladder = (64.0, 8.0, 1.0)

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {}
        self.versions: dict[str, str] = {}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        noise = np.random.default_rng(0).uniform(-1, 1, pixels.shape) * quality
        return np.rint(pixels + noise).clip(0, 255).astype(np.uint8).tobytes()

    def decode(self, data: bytes) -> Pixels:
        return np.frombuffer(data, np.uint8).reshape(48, 64, 3)


@pytest.mark.parametrize("target", [20.0, 31.5, 44.0])
def test_a_psnr_is_matched(target: float) -> None:
    original = np.full((48, 64, 3), 128, np.uint8)
    found = match_psnr(Noise(), original, target)
    assert found.psnr == pytest.approx(target, abs=0.1)
    assert found.psnr == psnr(original, Noise().decode(found.data))


def test_out_of_reach_gives_the_nearest_end() -> None:
    original = np.full((48, 64, 3), 128, np.uint8)
    assert match_psnr(Noise(), original, 5).quality == pytest.approx(64, rel=0.01)
    assert match_psnr(Noise(), original, 90).quality == pytest.approx(1, rel=0.01)


def row(codec: str, encode: list[float], decode: list[float]) -> dict[str, Any]:
    return {
        "image": "a.png",
        "codec": codec,
        "quality": 1.0,
        "psnr": 35.0,
        "bytes": 1000,
        "pixels": 8000,
        "encode": encode,
        "decode": decode,
    }


def result(rows: list[dict[str, Any]], ours: list[str]) -> dict[str, Any]:
    return {"ours": ours, "times": [{"threads": 1, "rows": rows}]}


def test_goals_are_ratios_of_the_least_times() -> None:
    rows = [
        row(OURS[0], [0.3, 0.1], [0.09, 0.2]),
        row(OURS[1], [0.1, 0.1], [0.03, 0.2]),
        row(AVIF, [0.5, 0.9], [0.01, 0.02]),
        row(JXL, [0.09, 0.1], [0.01, 0.01]),
    ]
    lines = speed_tables.goals(result(rows, OURS)).splitlines()[2:]
    assert [line.split(" | ")[2:] for line in lines] == [
        ["5.00", "met |"],
        ["0.90", "**missed** |"],
        ["3.00", "**missed** |"],
        ["9.00", "met |"],
    ]
    less = speed_tables.goals(result([rows[0], rows[2]], OURS[:1])).splitlines()[2:]
    assert ["not measured" in line for line in less] == [False, True, True, False]


def test_goals_in_8_bits_stand_beside() -> None:
    small = OURS[0].replace("decoder=", "precision=int8:decoder=")
    rows = [
        row(OURS[0], [0.1], [0.09]),
        row(small, [0.05], [0.045]),
        row(AVIF, [0.5], [0.01]),
    ]
    table = speed_tables.goals(result(rows, [OURS[0], small])).splitlines()
    assert table[0] == "| goal | wanted | measured, float32 |  | measured, int8 |  |"
    assert [table[2].split(" | ")[i] for i in (2, 4)] == ["5.00", "10.00"]
    assert [table[5].split(" | ")[i] for i in (2, 4)] == ["9.00", "4.50"]


def test_times_are_means_of_the_least(tmp_path: Path) -> None:
    rows = [row(AVIF, [0.5, 0.4], [0.02, 0.03]), row(AVIF, [0.2, 0.3], [0.02, 0.01])]
    line = speed_tables.times(result(rows, [])).splitlines()[2]
    assert line == "| AVIF (aom), speed 6 | 1.000 | 35.00 | 300.0 | 15.0 |"


def test_ratios_are_against_our_first_decoder() -> None:
    rows = [row(OURS[0], [0.2], [0.1]), row(OURS[1], [0.2], [0.05]), row(AVIF, [0.5], [0.01])]
    lines = speed_tables.ratios(result(rows, OURS)).splitlines()[2:]
    assert [line.split(" | ")[1:] for line in lines] == [
        ["1.00", "1.00 |"],
        ["1.00", "0.50 |"],
        ["2.50", "0.10 |"],
    ]


@pytest.mark.slow("every codec is loaded")
def test_codecs_are_told_their_threads() -> None:
    assert told(Spec.parse("avif:speed=6:threads=7"), 2).text() == "avif:speed=6:threads=2"
    assert told(Spec.parse("webp"), 2) == Spec.parse("webp")
    with pytest.raises(WorkerError, match="10000 threads"):
        run_pinned(["benchmarks.probe"], 10_000)
    with pytest.raises(WorkerError, match=r"benchmarks\.probe failed"):
        run_pinned(["benchmarks.probe"], 1)


@pytest.mark.long
@pytest.mark.slow("every codec is timed in processes of its own")
def test_a_whole_run(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        sample.convert("RGB").crop((200, 100, 328, 196)).save(photos / "a.png")
    out = tmp_path / "speed-kodak.json"
    arguments = ["--images", photos, "--model", ROOT / "tests" / "data" / "tiny.zip", "--out", out]
    arguments += ["--peers", "webp", "--threads", "1", "--repeat", "2", "--plots", tmp_path]
    assert speed.main(list(map(str, arguments))) == 0
    run = json.loads(out.read_text())
    assert str(tmp_path) not in out.read_text()
    assert str(ROOT) not in out.read_text()
    ours, *_, webp = run["times"][0]["rows"]  # in between: other precisions that this machine has
    assert webp["psnr"] == pytest.approx(ours["psnr"], abs=0.3)
    assert len(webp["encode"]) == len(ours["decode_cpu"]) == 2
    encoding = run["times"][0]["stages"][0]["encode"]
    assert encoding["g_a"] < encoding["total"]
    for measured in run["memory"]:
        assert 1 < measured["encode"]["before_mib"] <= measured["encode"]["peak_mib"]
        assert measured["encode"]["bytes"] == measured["decode"]["bytes"] > 0
    assert (tmp_path / "speed-photos-dark.svg").is_file()
    for name in speed_tables.TABLES:
        assert "|---" in readme.TABLES[name](tmp_path)
