"""The benchmark of dither's tables: its figures are bits, and its file says what it measured."""

import json

import numpy as np
import pytest

from benchmarks import dither


def test_more_tables_cost_less_and_none_beats_entropy():
    (small, large) = dither.measure(200_000, [0.2, 3.0])
    bits = list(small.tables.values())
    assert bits == sorted(bits, reverse=True)
    assert small.tables[1] > 1.4 * small.ideal
    assert small.ideal <= small.tables[64] < small.tables[16] < 1.01 * small.ideal
    assert large.tables[1] < 1.01 * large.ideal
    for row in (small, large):
        for buckets, coded in row.coded.items():
            assert coded == pytest.approx(row.tables[buckets], rel=0.02)


def test_entropy_is_that_of_rounding_averaged_over_shifts():
    """At a tiny deviation a latent stays in its cell but for the noises at the cell's edge."""
    pmf = dither.distributions(0.001)
    assert pmf.shape == (64, 7)
    assert np.argmax(pmf, axis=1).tolist() == [3] * 64
    assert dither.entropy_bits(pmf) < 1e-3
    assert dither.excess(dither.measure(1000, [0.5]), np.ones(1))[64] < 0.1


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dither, "SIGMAS", np.array([0.3, 1.0]))
    monkeypatch.setattr(dither, "WEIGHTS", np.array([0.5, 0.5]))
    dither.main(["--samples", "2000", "--results", str(tmp_path / "a.json")])
    record = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [row["sigma"] for row in record["rows"]] == [0.3, 1.0]
    excess = record["excess_of_the_source_percent"]
    assert 0 < excess["64"] < excess["16"] < 1 < excess["1"]
    assert "whole source 1:" in capsys.readouterr().out
