"""Bytes for a score, from files with known scores."""

import pytest
from benchmarks.runs import Measured, Point
from benchmarks.screens_tables import needed


def measured(*pairs):
    points = [
        Point("a", number, size, 1.0, 0.0, 0.0, 30.0, ssimulacra2=score)
        for number, (size, score) in enumerate(pairs)
    ]
    return Measured("x", {}, {}, points)


def test_bytes_lie_on_lines_between_files_that_none_beats():
    codec = measured((100, 50), (400, 70), (900, 60), (300, 90))
    assert needed(codec, "a", 50) == pytest.approx(100)
    assert needed(codec, "a", 70) == pytest.approx((100 * 300) ** 0.5)
    assert needed(codec, "a", 40) is None
    assert needed(codec, "a", 91) is None
