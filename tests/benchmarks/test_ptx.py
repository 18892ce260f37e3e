"""Compiling kernels without a GPU: no module is left out, and the report is read rightly."""

import json
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.bindings.nvjitlink")

from benchmarks import ptx
from trellic.gpu.kernels.memory import clear

RUNTIME = Path(__file__).parents[2] / "runtime"


def test_all_modules_with_kernels_are_listed():
    files = sorted(RUNTIME.rglob("*.py"))
    found = [f for f in files if re.search(r"^@kernel\(", f.read_text("utf-8"), re.MULTILINE)]
    names = [".".join(f.relative_to(RUNTIME).with_suffix("").parts) for f in found]
    assert sorted(ptx.MODULES) == names


def test_a_kernel_is_compiled_and_reported():
    report = ptx.assemble("clear", clear.ptx((9, 0)), (9, 0))
    assert report.good
    assert 8 <= report.registers <= 64
    assert (report.shared, report.stack, report.spilled) == (0, 0, 0)
    assert report.instructions > 20


def test_spills_are_not_good():
    log = (
        "ptxas . 80 bytes stack frame, 40 bytes spill stores, 44 bytes spill loads\n"
        "info : used 255 registers, used 1 barriers, 80 stack, 512 bytes smem, 900 bytes cmem[0]"
    )
    found = ptx.read_log(log)
    assert found == {"registers": 255, "shared": 512, "stack": 80, "spilled": 84}
    assert not ptx.Report("k", "sm_90", **found, instructions=1).good


def test_nothing_is_compiled_twice(tmp_path, monkeypatch, capsys):
    out = tmp_path / "ptx.json"
    report = ptx.Report("k", "sm_90", 20, 0, 0, 0, 100)
    calls = []
    monkeypatch.setattr(ptx, "reports", lambda: calls.append(1) or [report])
    arguments = ["--changed", "--out", str(out)]
    assert ptx.main(arguments) == ptx.main(arguments) == 0
    assert len(calls) == 1
    assert "nothing to compile" in capsys.readouterr().out
    record = json.loads(out.read_text("utf-8"))
    for field, other in (("sources_sha256", "0"), ("versions", {}), ("targets", [])):
        out.write_text(json.dumps(record | {field: other}), "utf-8")
        assert ptx.main(arguments) == 0
    assert len(calls) == 4


def test_kept_reports_of_a_kernel_that_spills_fail(tmp_path, monkeypatch):
    bad = ptx.Report("k", "sm_90", 20, 0, 0, 8, 100)
    monkeypatch.setattr(ptx, "reports", lambda: [bad])
    arguments = ["--changed", "--out", str(tmp_path / "ptx.json")]
    assert ptx.main(arguments) == ptx.main(arguments) == 1


def test_a_changed_kernel_changes_the_hash(monkeypatch, tmp_path):
    before = ptx.inputs()
    other = tmp_path / "memory.py"
    other.write_text("# other", "utf-8")
    monkeypatch.setattr(sys.modules[clear.__module__], "__file__", str(other))
    assert ptx.inputs()["sources_sha256"] != before["sources_sha256"]
