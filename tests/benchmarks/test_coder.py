"""The benchmark of the entropy coder keeps what this machine cannot measure."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from benchmarks import coder, readme


def report(*names: str) -> dict[str, list[dict[str, str]]]:
    return {"speeds": [{"name": name} for name in names]}


def test_a_report_with_more_coders_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "coder.json"
    assert coder.lost_by(report("trellic"), out) == []
    out.write_text(json.dumps(report("trellic", "torch_ans")), encoding="utf-8")
    assert coder.lost_by(report("trellic"), out) == ["torch_ans"]
    assert coder.lost_by(report("trellic", "torch_ans", "another"), out) == []


def test_a_coder_that_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking() -> coder.Speed:
        raise ImportError("No module named 'it'")

    monkeypatch.setattr(coder, "make_source", lambda n: None)
    monkeypatch.setattr(coder, "variants", lambda *_: [(name, lacking) for name in coder.REMEDIES])
    speeds, missing = coder.run(1, 0.1)
    assert (speeds, len(missing)) == ([], 3)
    assert all("No module named 'it'; remedy: pip install" in line for line in missing)


def test_groups_that_are_named_exist() -> None:
    found = tomllib.loads((readme.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    page = (readme.ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"--group (\S+?)[,`\s]", page + " ".join(coder.REMEDIES.values()) + " "))
    assert {"bench", "perception", "coders"} <= named <= set(found["dependency-groups"])
