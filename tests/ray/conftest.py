"""One local Ray for all tests that need one."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def cluster():
    ray = pytest.importorskip("ray", reason="NOT CHECKED: ray is not installed (trellic[ray])")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "runtime"))
        patch.setenv("RAY_worker_niceness", "0")  # 15: on a busy machine they take minutes to start
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
        with warnings.catch_warnings(
            action="ignore"
        ):  # it leaves processes that it does not wait for
            ray.shutdown()
            gc.collect()
