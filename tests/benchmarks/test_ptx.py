"""Compiling kernels without a GPU: no module is left out, and the report is read rightly."""

import re
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
