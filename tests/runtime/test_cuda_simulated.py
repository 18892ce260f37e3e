"""The tests of the CUDA kernels in numba's simulator, which is chosen before numba loads."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
FILES = sorted((TESTS / "cuda").glob("test_*.py"))
WHOLE_BATCHES = ("test_batches", "test_codec_on_device", "test_counts", "test_replays")


def case(path: Path) -> object:
    return pytest.param(
        path, id=path.stem, marks=pytest.mark.long if path.stem in WHOLE_BATCHES else ()
    )


@pytest.mark.slow("every CUDA kernel against its reference, in numba's simulator")
@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)
@pytest.mark.parametrize("path", [case(path) for path in FILES])
def test_kernels_in_the_simulator(path):
    """A file at a time, so that they can run side by side."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path]
    done = subprocess.run(
        command,
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]
