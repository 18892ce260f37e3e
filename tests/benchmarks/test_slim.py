"""The benchmark of slim models: its table, its settings, and the frames that move."""

import numpy as np
import pytest

from benchmarks import game, slim, slim_tables


def rows(factor):
    return [
        {"quality": q, "bytes": factor * 100 * q, "ssimulacra2": q, "psnr": 30 + q / 10}
        for q in (20.0, 60.0, 80.0)
    ]


def record():
    frame = {"name": "a", "points": {"photo": rows(1), "half": rows(1.1), "AVIF": rows(2)}}
    times = {"encode": 100.0, "decode": 80.0}
    return {
        "machine": {"date": "2026-01-01T00", "commit": "abc", "processor": "some"},
        "milliseconds": {
            "photo": times,
            "half": {"encode": 25.0, "decode": 40.0},
            "AVIF": {"encode": 50.0, "decode": 8.0},
        },
        "sets": {"known": [frame, frame], "new": [frame]},
    }


def test_the_table_says_what_slim_models_cost_and_how_fast_they_are():
    drawn = slim_tables.drawn(record())
    assert "| `photo` | +0 % | +0 % | +0 % | +0 % | 10.0 (1.0x) | 12.5 (1.0x) |" in drawn
    assert "| `half` | +10.0 % (+10.0 to +10.0) |" in drawn
    assert "| 40.0 (4.0x) | 25.0 (2.0x) |" in drawn
    assert "| AVIF |" in drawn
    assert "2 frames of known tracks, 1 of new ones" in drawn


def test_speeds_are_compared_at_the_nearest_score():
    frames = record()["sets"]["known"]
    assert slim.score_at(frames[0]["points"]["photo"], 60.0) == 60.0
    assert slim.nearest(frames, "half", 58.0) == 60.0


def test_each_slim_model_is_run_with_and_without_a_trellis():
    specs = slim.specs(["somewhere/half.zip"])
    assert specs["half"] == "trellic:threads=1:model=somewhere/half.zip"
    assert specs["half, trellis 0"] == specs["half"] + ":trellis=0"
    assert specs["photo, `fast`"].endswith("decoder=fast")


@pytest.mark.parametrize(("level", "moved"), [(3, False), (9, True)])
def test_frames_that_stand_still_are_waited_for(level, moved):
    before = np.full((40, 40, 3), 100, np.uint8)
    assert game._moved(before, before + np.uint8(level)) is moved
