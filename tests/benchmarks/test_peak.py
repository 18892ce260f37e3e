"""The benchmark of multiplications a second: layers and networks, each with its own count."""

import json
from pathlib import Path

import pytest

from benchmarks import peak

TINY = Path(__file__).resolve().parents[1] / "data" / "tiny.zip"


def test_layers_and_networks_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak, "RUNS", 5)
    monkeypatch.setattr(peak, "WIDTH", 128)
    monkeypatch.setattr(peak, "HEIGHT", 64)
    out = tmp_path / "peak.json"
    assert peak.main(["--model", str(TINY), "--out", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert {"g_a, fp32", "quality, fp32", "integer networks, onnxruntime"} <= set(rows)
    assert "g_a, int8" not in rows  # the tiny model has none
    one = rows["1x1, 128 to 256 at 1/8"]
    assert one["gmac_per_s"] == pytest.approx(128 * 256 * 16 * 8 / one["ms"] / 1e6, rel=0.02)
    assert all(row["ms"] > 0 for row in rows.values())
