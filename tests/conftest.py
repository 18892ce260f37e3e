"""Set-up shared by all tests: repeatable property tests, GPU tests only where there is a GPU."""

import shutil

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every run and no time limit for each: CI machines are slow and shared.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if shutil.which("nvidia-smi"):
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="this machine has no CUDA device"))
