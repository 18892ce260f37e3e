"""Nothing leaves the machine: what a real encode and decode write to a home, and their sockets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from trellic.support import cache, quiet

from .sockets import asked

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "data" / "tiny.zip"
PICTURE = ROOT / "tests" / "conformance" / "pictures" / "flat.quality.png"
NEEDS_OPENVINO = "import openvino"
THERE_AND_BACK = f"""
import numpy as np
from trellic.codec import Codec
codec = Codec({str(TINY)!r}, precision="fp32")
codec.decode(codec.encode(np.zeros((64, 64, 3), np.uint8)))
"""
COMMANDS = f"""
import subprocess, sys
trellic = [sys.executable, "-m", "trellic"]
subprocess.run([*trellic, "encode", {str(PICTURE)!r}, "x.tlc", "--model", "tiny"], check=True)
subprocess.run([*trellic, "decode", "x.tlc", "x.png"], check=True)
"""
AND_A_WHILE = "import time; time.sleep(15)"  # onnxruntime looks its maker's host up after some 8 s
IN_BFLOAT16 = """
from trellic.engines.openvino import openvino
from trellic.engines.precision import has_bf16
has_bf16()
openvino().Core().available_devices
"""


# Where one of these is set, packages keep still by themselves: the watch is for users' machines.
OF_CI = {"CI", "TF_BUILD", "GITHUB_ACTIONS", "GITLAB_CI", "TRAVIS", "CIRCLECI", "JENKINS_URL"}


def watched(code: str, folder: Path) -> tuple[list[int], set[str]]:
    """Run code with an empty home; return its sockets and the files that it left in the home."""
    home = folder / "home"
    home.mkdir()
    env = {
        k: v
        for k, v in os.environ.items()
        if k not in {*quiet.VARIABLES, *OF_CI} and "XDG" not in k
    }
    env |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    env["TRELLIC_MODELS"] = str(TINY.parent)
    if (kernels := cache.folder("kernels")) is not None:
        env[cache.VARIABLE] = str(kernels.parent)  # what tests before compiled: half a minute less
    try:
        sockets, left = asked([sys.executable, "-c", code], env, folder)
    except OSError as error:
        pytest.skip(f"NOT WATCHED: {error}")
    assert left == 0
    return sockets, {path.relative_to(home).parts[0] for path in home.rglob("*") if path.is_file()}


@pytest.mark.slow("processes that load everything anew, and one that waits")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param(THERE_AND_BACK + AND_A_WHILE, id="Python", marks=pytest.mark.long),
        pytest.param(COMMANDS, id="commands"),
    ],
)
def test_a_picture_there_and_back(tmp_path, code):
    assert watched(code, tmp_path) == ([], set())


@pytest.mark.slow("a process that loads everything anew")
def test_openvino(tmp_path):
    pytest.importorskip("openvino")
    assert watched(IN_BFLOAT16, tmp_path) == ([], set())


@pytest.mark.slow("a process that loads everything anew")
def test_kernels_are_all_that_is_written_to_a_home(tmp_path):
    code = """
import os
del os.environ["TRELLIC_CACHE"]
import numpy as np
from trellic.latents.cpu import fill
fill(*(np.zeros(4, np.int32) for _ in range(3)))
"""
    assert watched(code, tmp_path) == ([], {".cache"})
    assert [path.name for path in (tmp_path / "home" / ".cache").iterdir()] == ["trellic"]


@pytest.mark.slow("a process that loads everything anew")
@pytest.mark.parametrize(
    "module", ["benchmarks", "trellic_export", "trellic.gpu", "tests.conftest"]
)
def test_it_is_off_before_anything_can_load_it(tmp_path, module):
    """Benchmarks, tests and the export load onnxruntime themselves."""
    code = f"import {module}, os; assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    assert watched(code, tmp_path) == ([], set())


# ---- the same watch, with what we do against it taken away ----


@pytest.mark.long
@pytest.mark.slow("a process that waits for a look-up")
def test_the_watch_notices_onnxruntime(tmp_path):
    pytest.importorskip("onnxruntime", minversion="1.29", reason="had no telemetry before")
    code = "import os, trellic; del os.environ['ORT_DISABLE_TELEMETRY']"
    sockets, left = watched(code + THERE_AND_BACK + AND_A_WHILE, tmp_path)
    assert left == {".cache"}
    assert sockets


@pytest.mark.slow("a process that waits for a look-up")
def test_the_watch_notices_openvino(tmp_path):
    pytest.importorskip("openvino_telemetry")
    sockets, left = watched("import openvino", tmp_path)
    assert left == {"intel"}
    assert sockets


def test_the_watch_sees_children_of_children(tmp_path):
    code = """
import subprocess, sys
ask = "import socket; socket.socket(socket.AF_INET6)"
subprocess.run([sys.executable, "-c", ask], stderr=subprocess.DEVNULL)
"""
    assert watched(code, tmp_path) == ([10], set())
