"""Tables of adapters, from a record with known rates."""

from pathlib import Path

import pytest

from benchmarks import adapter_tables, domains


def record(factor):
    points = [
        {"quality": q, "bytes": 100 * q, "ssimulacra2": q, "psnr": 30 + q / 10}
        for q in (20, 50, 80)
    ]
    fewer = [point | {"bytes": factor * point["bytes"]} for point in points]
    picture = {"name": "a", "plain": points, "adapted": fewer}
    row = {"split": 0, "adapted_to": 8, "pictures": [picture, picture]}
    return {"sets": {"aerial_mixed": [row]}}


def test_a_table_says_what_is_saved():
    drawn = adapter_tables.drawn(record(0.9))
    assert "| aerial | 1 | 8 | 2 | -10.0 % (-10.0 to -10.0) |" in drawn
    rows = record(0.9)["sets"]["aerial_mixed"]
    assert adapter_tables.rates(rows, "adapted", "psnr") == pytest.approx([-10, -10])


def test_a_split_parts_the_pictures():
    paths = [Path(str(i)) for i in range(11)]
    own, others = domains.parted(paths, 0.5, 3)
    assert (len(own), len(others)) == (6, 5)
    assert sorted([*own, *others]) == sorted(paths)
    assert domains.parted(paths, 0.5, 3) == (own, others) != domains.parted(paths, 0.5, 4)
