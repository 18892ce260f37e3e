"""The image's steps, run without a builder; its files, read as their readers read them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
yaml = pytest.importorskip("yaml")


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def options_of(arguments: list[str]) -> set[str]:
    return {argument.partition("=")[0] for argument in arguments}


@pytest.fixture(scope="module")
def known_options():
    from typer.main import get_command

    from trellic_serve import cli

    return {option for part in get_command(cli.app).params for option in part.opts}


def test_manifests(known_options):
    (deployment,) = documents(DEPLOY / "kubernetes" / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert options_of(container["args"]) <= known_options
    probes = {name: container[name]["httpGet"]["path"] for name in container if "Probe" in name}
    assert probes == {
        "startupProbe": "/health/startup",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    given = dict(argument.lstrip("-").split("=") for argument in container["args"])
    assert pod["terminationGracePeriodSeconds"] > int(given["linger"]) + int(given["stop-timeout"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    service, budget = documents(DEPLOY / "kubernetes" / "service.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == labels == budget["spec"]["selector"]["matchLabels"]
    (scaling,) = documents(DEPLOY / "kubernetes" / "autoscaling.yaml")
    assert scaling["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (metric,) = scaling["spec"]["metrics"]
    names = (ROOT / "runtime" / "trellic_serve" / "metrics.py").read_text("utf-8")
    assert f'"{metric["pods"]["metric"]["name"]}"' in names


def test_compose(known_options):
    (found,) = documents(DEPLOY / "compose.yaml")
    service = found["services"]["trellic"]
    assert options_of(service["command"]) <= known_options
    assert set(service["secrets"]) == set(found["secrets"])
    assert service["read_only"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_kubectl_reads_the_manifests(tmp_path):
    command = ["kubectl", "kustomize", "."]  # reads files alone: no cluster is asked
    names = sorted(path.name for path in (DEPLOY / "kubernetes").glob("*.yaml"))
    for name in names:
        shutil.copy(DEPLOY / "kubernetes" / name, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": names}))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kind: ") >= 4


def test_the_image_runs_what_this_test_runs():
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    steps = re.findall(r"install\.sh (\w+|\"\$\(ls /build/\*\.whl\)\") /opt/trellic", text)
    assert steps == ['"$(ls /build/*.whl)"', "warm"]
    assert "USER 10001" in text
    assert text.index("USER 10001") < text.index("install.sh warm")


@pytest.mark.long
@pytest.mark.slow("a wheel is built, installed, warmed up, served by another user, and probed")
@pytest.mark.skipif(sys.platform != "linux", reason="the image is Linux's")
def test_the_steps_of_the_image(tmp_path, tiny_path, free_port):
    wheels = tmp_path / "dist"
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", wheels], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    place = tmp_path / "opt"
    # Offline: its dependencies are those of this environment.
    environment = os.environ | {
        "PYTHON": sys.executable,
        "VENV_OPTIONS": "--system-site-packages",
        "PIP_OPTIONS": "--no-index --no-deps --no-warn-script-location",
        "EXTRAS": "",
    }
    install = ["sh", DEPLOY / "install.sh"]
    subprocess.run([*install, wheel, place], env=environment, check=True, capture_output=True)
    found = next(place.glob("lib/python*/site-packages"))
    (found / "host.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
    # Kernels of this machine's cache, by their content: the image compiles its own.
    names = ("PATH", "HOME", "TRELLIC_CACHE", "XDG_CACHE_HOME")
    served = {name: os.environ[name] for name in names if name in os.environ}
    served |= {"OMP_NUM_THREADS": "1", "TRELLIC_MODELS": str(tiny_path.parent)}
    done = subprocess.run(
        [*install, "warm", place], env=served, check=True, capture_output=True, text=True
    )
    assert done.stdout == "warm: photo\n"
    keys = tmp_path / "keys"
    keys.write_text("somebody 0123456789abcdef\n")
    command = [place / "bin" / "trellic", "serve", "--port", str(free_port), "--api-keys", keys]
    command += ["--model", "tiny", "--device", "cpu"]
    service = subprocess.Popen(command, env=served, cwd="/", stderr=subprocess.PIPE, text=True)
    probe = [place / "bin" / "python", "-m", "trellic_serve.probe"]

    def answer(name: str) -> int:
        return subprocess.run([*probe, name, str(free_port)], env=served, check=False).returncode

    try:
        until = time.monotonic() + 240
        while answer("ready"):
            assert service.poll() is None, service.stderr.read()
            assert time.monotonic() < until
        assert answer("live") == 0
        service.terminate()
        assert service.wait(60) == 0
        assert answer("live") == 1
    finally:
        service.kill()
        service.stderr.close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]
