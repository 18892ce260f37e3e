"""A Triton server of `nvidia-pytriton`'s wheel, and what `trellic export --triton` makes for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from pathlib import Path

import pytest

MISSING = "NOT CHECKED: nvidia-pytriton is not installed here; `make triton-check` runs this"


def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def server_of(wheel: Path, folder: Path) -> Path:
    """Copy the server, with the stub of this Python where the server looks for it."""
    shutil.copytree(wheel / "tritonserver", folder, ignore=shutil.ignore_patterns("*stubs"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "tritonserver" / "python_backend_stubs" / version
    shutil.copy(stub / "triton_python_backend_stub", folder / "backends" / "python")
    return folder


def environment() -> dict[str, str]:
    """Return variables of a server whose stub runs this environment's packages.

    The stub's Python is isolated: it reads no PYTHONPATH, and takes the environment whose python
    comes first in PATH. So Trellic must be installed there.
    """
    libraries = sysconfig.get_config_var("LIBDIR"), sysconfig.get_path("purelib")
    return {
        **os.environ,
        "PATH": os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]),
        "LD_LIBRARY_PATH": f"{libraries[0]}{os.pathsep}{libraries[1]}/nvidia_pytriton.libs",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def triton(tiny_path, tmp_path_factory):
    """Address of a server that has the tiny model, one process for each way."""
    wheel = Path(pytest.importorskip("pytriton", reason=MISSING).__file__).parent
    from trellic.model.bundle import Bundle
    from trellic_export.triton import export_triton

    folder = tmp_path_factory.mktemp("triton")
    export_triton(Bundle(tiny_path), folder / "models", instances=1)
    server, http = server_of(wheel, folder / "server"), port()
    command = [
        f"{server}/bin/tritonserver", f"--backend-directory={server}/backends",
        f"--model-repository={folder}/models", "--model-control-mode=explicit",
        "--load-model=trellic_encode", "--load-model=trellic_decode", "--http-address=127.0.0.1",
        f"--http-port={http}", "--allow-grpc=false", "--allow-metrics=false",
        f"--backend-config=python,shm-region-prefix-name=trellic{http}-",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{http}/v2/health/ready", process, folder / "log")
        yield f"127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(60)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no server after {seconds} s:\n{log.read_text()[-3000:]}")
