"""A Triton server of `nvidia-pytriton`'s wheel, and what `trellic export --triton` makes for it."""

from __future__ import annotations

from pathlib import Path

import pytest

MISSING = "NOT CHECKED: nvidia-pytriton is not installed here; `make triton-check` runs this"


@pytest.fixture(scope="module")
def triton(tiny_path, tmp_path_factory):
    """Address of a server that has the tiny model, one process for each way."""
    wheel = Path(pytest.importorskip("pytriton", reason=MISSING).__file__).parent
    from benchmarks.triton_server import serving

    from trellic.model.bundle import Bundle
    from trellic_export.triton import export_triton

    folder = tmp_path_factory.mktemp("triton")
    export_triton(Bundle(tiny_path), folder / "models", instances=1)
    with serving(wheel, folder / "models", folder) as address:
        yield address
