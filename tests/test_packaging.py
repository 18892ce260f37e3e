"""What is installed: a light import, one wheel of all packages, honest extras."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "trellic": "runtime",
    "trellic_serve": "runtime",
    "trellic_data": "runtime",
    "trellic_export": "export",
    "trellic_training": "training",
}
LEFT_OUT = {"trellic/models/photo-psnr.zip"}  # of the wheel, for its size
HEAVY = {"torch", "onnxruntime", "onnx", "numba", "PIL", "lightning", "ray", "compressai", "scipy"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("module", ["trellic", "trellic.bitstream", "trellic.errors"])
def test_import_is_light(module):
    assert loaded_by(f"import {module}") & HEAVY == set()


def test_command_line_starts_light():
    assert loaded_by("import trellic.cli") & HEAVY == set()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout")
def test_the_tree_that_git_tracks_stays_small():
    """Under 50 MB, models included; `git clone` takes the history on top of it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if name and (ROOT / name).is_file()
    }
    largest = sorted(sizes, key=sizes.get)[-5:]
    assert sum(sizes.values()) < 50_000_000, largest


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as hatchling builds it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        [*command, "--directory", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


@pytest.mark.slow("hatchling builds the wheel")
def test_wheel_has_exactly_these_packages(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.slow("hatchling builds the wheel")
def test_wheel_carries_every_file_that_git_tracks(wheel):
    names = set(wheel.namelist())
    for package, root in PACKAGES.items():
        listed = subprocess.run(
            ["git", "ls-files", f"{root}/{package}"], cwd=ROOT, capture_output=True, text=True
        )
        tracked = [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]
        assert {name.removeprefix(f"{root}/") for name in tracked} - LEFT_OUT <= names
    assert not LEFT_OUT & names


@pytest.mark.slow("hatchling builds the wheel")
def test_wheel_says_what_it_needs(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    needs = [
        line.removeprefix("Requires-Dist: ")
        for line in wheel.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist")
    ]
    base = {need.split(">")[0] for need in needs if "extra ==" not in need}
    assert base == {"numpy", "pillow", "pydantic", "rich", "typer"}
    extras = {(need.split(">")[0], need.split("'")[1]) for need in needs if "extra ==" in need}
    runtimes = {pair for pair in extras if pair[0].startswith("onnxruntime")}
    assert runtimes == {
        ("onnxruntime", "cpu"),
        ("onnxruntime-gpu", "gpu"),
        ("onnxruntime-gpu", "tensorrt"),
    }
    assert not any(need.startswith("compressai") for need in needs)


@pytest.mark.slow("hatchling builds the wheel")
def test_wheel_ships_its_model_and_types(wheel):
    names = wheel.namelist()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    models = [wheel.getinfo(name) for name in names if name.startswith("trellic/models/")]
    bundles = [info for info in models if info.filename.endswith(".zip")]
    assert any(info.filename == "trellic/models/photo.zip" for info in bundles)
    assert sum(info.file_size for info in bundles) <= 16 << 20
