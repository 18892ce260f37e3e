"""The benchmark of the entropy coder keeps what this machine cannot measure."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import coder


def report(*names: str) -> dict[str, list[dict[str, str]]]:
    return {"speeds": [{"name": name} for name in names]}


def test_a_report_with_more_coders_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "coder.json"
    assert coder.lost_by(report("trellic"), out) == []
    out.write_text(json.dumps(report("trellic", "torch_ans")), encoding="utf-8")
    assert coder.lost_by(report("trellic"), out) == ["torch_ans"]
    assert coder.lost_by(report("trellic", "torch_ans", "another"), out) == []
