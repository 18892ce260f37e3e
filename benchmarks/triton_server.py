"""A Triton server of `nvidia-pytriton`'s wheel, started for a model repository.

The wheel brings a server that runs on a CPU; its Python backend needs some care (`environment`).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CODING = ("trellic_encode", "trellic_decode")  # models; the wheel's server runs no others


@contextmanager
def serving(wheel: Path, models: Path, folder: Path) -> Iterator[str]:
    """Serve the coding models of a repository; gives the server's address.

    Parameters
    ----------
    wheel : folder of the package ``pytriton``
    models : made by `trellic_export.triton.export_triton`
    folder : existing one, for the server's files and its log

    Raises
    ------
    RuntimeError
        When the server ends before it is ready; with the end of its log.
    TimeoutError
        When it is not ready in time.
    """
    server, port = _server_of(wheel, folder / "server"), _free_port()
    command = [
        f"{server}/bin/tritonserver", f"--backend-directory={server}/backends",
        f"--model-repository={models}", "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in CODING), "--http-address=127.0.0.1",
        f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false",
        f"--backend-config=python,shm-region-prefix-name=trellic{port}-",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/health/ready", process, folder / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


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


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _server_of(wheel: Path, folder: Path) -> Path:
    """Copy the server, with the stub of this Python where the server looks for it."""
    shutil.copytree(wheel / "tritonserver", folder, ignore=shutil.ignore_patterns("*stubs"))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = wheel / "tritonserver" / "python_backend_stubs" / version
    shutil.copy(stub / "triton_python_backend_stub", folder / "backends" / "python")
    return folder


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended:\n{log.read_text('utf-8', 'replace')[-3000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no server after {seconds} s:\n{log.read_text('utf-8', 'replace')[-3000:]}")
