"""Set-up shared by all tests: repeatable property tests, GPU tests only where there is a GPU."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from trellic import cli
from trellic.codec import Codec
from trellic.engines.ort import missing_gpu

# Benchmarks and the conformance kit are no installed packages: import them from the root.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# The same examples on every run and no time limit for each: CI machines are slow and shared.
settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave a GPU's tests out where there is none; to ask for them alone is an error then."""
    missing = missing_gpu()
    if not missing:
        return
    if config.option.markexpr == "gpu":
        raise pytest.UsageError(f"no test of a GPU can run here: {missing}")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {missing}"))


def pytest_report_header() -> str:
    """Say whether the tests of a GPU run."""
    return f"tests of a GPU: {missing_gpu() or 'they run'}"


@pytest.fixture(autouse=True)
def _denormals_as_ever() -> Iterator[None]:
    """Take back what training sets for a whole thread; hypothesis, for one, finds it odd."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """Bundle made for tests; golden files hang on it, so it is never made anew."""
    return Path(__file__).parent / "data" / "tiny.zip"


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Codec:
    """The tiny model, loaded once."""
    return Codec.load(str(tiny_path), device="cpu", threads=1)


@pytest.fixture
def command_line(trellic):
    """Return `trellic` under a name that does not hide the package."""
    return trellic


@pytest.fixture
def trellic(monkeypatch, capsys):
    """Run the command line in this process: ``trellic("info", path)`` -> code, out, err."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["trellic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=left.value.code or 0, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright; two in one process at a time cannot be."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with driver.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()
