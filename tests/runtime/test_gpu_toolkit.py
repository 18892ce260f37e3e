"""numba-cuda beside a NumPy that is newer than it, in a process where warnings are errors."""

import subprocess
import sys

import pytest

pytest.importorskip("numba_cuda")

WITHOUT_ROW_STACK = """
import numpy as np
vars(np).pop("row_stack", None)
np.__all__ = [name for name in np.__all__ if name != "row_stack"]
"""
COMPILE = """
from trellic.gpu.kernels.memory import clear
assert "clear" in clear.ptx((9, 0))
assert "row_stack" not in vars(np)
"""


def run(program):
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow("a process that imports all anew")
def test_without_what_numpy_dropped():
    """As NumPy 2.5 is: the function is gone, and a time without a unit warns."""
    pytest.importorskip("cuda.bindings.nvvm")
    done = run(WITHOUT_ROW_STACK + COMPILE)
    assert done.returncode == 0, done.stderr
