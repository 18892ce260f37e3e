"""What tests of the web decoder share: node, a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conformance import kit

from trellic.model.bundle import Bundle
from trellic_export.web import export_web


@pytest.fixture(scope="session")
def node() -> Callable[..., str]:
    """Run node with arguments and environment; return what it prints."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed (apt-get install nodejs)")

    def run(*arguments: str | Path, **environment: str) -> str:
        words = [program, *map(str, arguments)]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=60, env=os.environ | environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tiny_path) -> Path:
    """The tiny model for pages."""
    out = tmp_path_factory.mktemp("web") / "tiny"
    export_web(Bundle(tiny_path), out)
    return out


@pytest.fixture(scope="session")
def folders(tmp_path_factory, folder) -> dict[str, Path]:
    """Both models of the conformance kit for pages, by the names of their bundles."""
    out = tmp_path_factory.mktemp("web") / "tiny-dither"
    export_web(Bundle(kit.DATA / kit.DITHER_MODEL), out)
    return {kit.MODEL: folder, kit.DITHER_MODEL: out}
