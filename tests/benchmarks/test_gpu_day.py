"""The day with a GPU: nothing is lost when a command fails, and what travels arrives whole."""

import json
import shutil
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks._machine import REPOSITORY
from benchmarks.gpu_day import __main__ as day
from benchmarks.gpu_day import arrive, pack, plan, prune, strip, training
from PIL import Image

from trellic_training.models.weights import load_weights
from trellic_training.recipes.codec import load_recipe


def test_each_call_ends_before_its_machine_goes(tmp_path):
    for name, commands in plan.calls(plan.Place(tmp_path, tmp_path, tmp_path)).items():
        assert sum(command.seconds for command in commands) <= plan.CALL_SECONDS, name


def command(name, code, seconds=60, needs=""):
    return plan.Command(name, (sys.executable, "-c", code), seconds, needs)


@pytest.mark.slow("processes, one after the other")
def test_a_command_that_fails_is_a_row_and_the_next_one_begins(tmp_path, monkeypatch, capsys):
    planned = {
        "check": [
            command("good", "print('fine')"),
            command("bad", "print('seen'); raise SystemExit(3)"),
            command("long", "import time; print('began', flush=True); time.sleep(60)", 2),
            command("absent", "", needs="no-such-program"),
        ],
        "home": [command("last", "print('last')")],
    }
    monkeypatch.setattr(day, "calls", lambda _: planned)
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["", "--out", str(out), "--work", str(tmp_path / "work")])
    assert day.main() == 1
    rows = json.loads((out / "day.json").read_text("utf-8"))["commands"]
    assert [row["command"] for row in rows] == ["good", "bad", "long", "absent", "last"]
    errors = {row["command"]: row["error"] for row in rows if "error" in row}
    # On a busy machine it may be stopped before it begins.
    assert errors.pop("long").partition(": began")[0] in (
        "Failed: stopped after 2 s",
        "Failed: stopped after 2 s: no output",
    )
    assert errors == {"bad": "Failed: exit code 3: seen"}
    assert rows[3]["left out"] == "no no-such-program on PATH"
    assert (out / "check-bad.log").read_text("utf-8") == "seen\n"
    assert "last" in capsys.readouterr().out


def test_nvvm_is_looked_for_beside_the_compiler(tmp_path, monkeypatch):
    compiler = tmp_path / "cuda" / "bin" / "nvcc"
    compiler.parent.mkdir(parents=True)
    compiler.write_text("")
    compiler.chmod(0o755)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(compiler.parent))
    assert day.surroundings(None)["CUDA_HOME"] == str(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", "/opt/other")
    assert day.surroundings(None)["CUDA_HOME"] == "/opt/other"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["gpu-check", "gpu-day"])
def test_make_finds_packages_that_were_brought_along(target, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/brought/along")
    command = ["make", "--dry-run", target, "GPU_PYTHON=its-python"]
    said = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert lines
    start = "PYTHONPATH=runtime:export:training:/brought/along its-python -m "
    assert all(line.startswith(start) for line in lines)


def test_packages_brought_along_are_found_behind_the_sources(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    paths = day.surroundings(tmp_path)["PYTHONPATH"].split(":")
    assert paths[-2:] == [str(tmp_path), "/elsewhere"]
    assert paths[1].endswith("runtime")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for name in ("a/one.jpg", "a/two.png", "b/three.webp", "b/four.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no photo", "utf-8")
    return folder


def test_photos_travel_in_parts_and_arrive(photos, tmp_path):
    out, work = tmp_path / "pack", tmp_path / "work"
    out.mkdir()
    pack.write_parts(photos, out, most=6000)
    pack.write_list(out)
    assert len(list(out.glob("photos-*.tar"))) > 1
    late = out / "photos-1.tar"
    late.rename(tmp_path / "late")
    packages, first = arrive.arrive(out, work)  # not all have come
    before = {path.name for path in first.rglob("*.*")}
    (tmp_path / "late").rename(late)
    _, arrived = arrive.arrive(out, work)
    found = {str(path.relative_to(arrived)) for path in arrived.rglob("*.*")}
    assert found == {"a/one.jpg", "a/two.png.webp", "b/three.webp", "b/four.jpg"}
    assert before < {path.name for path in arrived.rglob("*.*")}
    assert (arrived / "a/one.jpg").read_bytes() == (photos / "a/one.jpg").read_bytes()
    assert packages.is_dir()


def test_a_part_that_was_changed_on_the_way_is_refused(photos, tmp_path):
    out = tmp_path / "pack"
    out.mkdir()
    pack.write_parts(photos, out)
    pack.write_list(out)
    with (out / "photos-0.tar").open("r+b") as file:
        file.write(b"x")
    with pytest.raises(RuntimeError, match="not the file that was packed"):
        arrive.arrive(out, tmp_path / "work")


def test_what_is_too_large_does_not_come_home(tmp_path, capsys):
    run, out = tmp_path / "work" / "run", tmp_path / "out"
    run.mkdir(parents=True)
    out.mkdir()
    options = SimpleNamespace(work=tmp_path / "work", out=out)
    with (run / "weights.pt").open("wb") as file:
        file.truncate(training.MOST_BYTES)
    assert training.home(options) == 0
    assert (out / "weights.pt").stat().st_size == training.MOST_BYTES == 2**24
    assert "16.8 MB" in capsys.readouterr().out
    (out / "weights.pt").unlink()
    with (run / "weights.pt").open("ab") as file:
        file.write(b"x")
    assert training.home(options) == 1
    assert not [*out.iterdir()]
    assert "too large: weights.pt" in capsys.readouterr().out


def entry(arch, code):
    """An entry of a fat binary."""
    header = bytearray(64)
    struct.pack_into("<HHIQI", header, 0, 2, 1, 64, len(code), len(code))
    struct.pack_into("<I", header, 28, arch)
    return bytes(header) + code


def library(entries):
    """An ELF file with nothing but a section of GPU code and the names of sections."""
    body = b"".join(entries)
    fat = struct.pack("<IHHQ", prune.MAGIC, 1, 16, len(body)) + body
    names = b"\0.nv_fatbin\0.names\0"
    start = 64 + len(fat) + len(names)
    rows = [(0, 0, 0), (1, 64, len(fat)), (12, 64 + len(fat), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, 0, 0, 0, at, size, 0, 0, 0, 0) for name, at, size in rows
    )
    head = bytearray(64)
    struct.pack_into("<Q", head, 0x28, start)
    struct.pack_into("<HHH", head, 0x3A, 64, len(rows), 2)
    return bytearray(bytes(head) + fat + names + table)


def test_code_that_is_not_needed_becomes_zeros():
    wanted, other, language = (
        b".text.convolve_kernel.",
        b".text.convolve_older.",
        b".text.flash_attention.",
    )
    data = library([entry(90, wanted), entry(75, other), entry(90, language)])
    size = len(data)
    assert prune.prune(data) == len(wanted)
    assert len(data) == size
    assert wanted in data
    assert other not in data
    assert language not in data
    assert [row[4] for row in prune.entries(data)] == [90, 75, 90]  # still stepped over
    with pytest.raises(ValueError, match="no section"):
        prune.section(data, b".absent")


def test_the_weights_that_the_day_trains_on_from_are_there_and_fit_its_recipe():
    model, _ = load_weights(training.WEIGHTS)
    assert model.config == load_recipe(training.RECIPES / f"{plan.RECIPE}.yaml").model


def test_the_checkout_becomes_smaller_and_comes_back(tmp_path, monkeypatch):
    def git(*arguments):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    for name in ("docs/a.md", "runtime/b.py", "training/checkpoints/cifar.pt", plan.STARTS_FROM):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1234", "utf-8")
    git("init", "-q")
    git("add", ".")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    git(*identity, "commit", "-qm", "all")
    monkeypatch.setattr(strip, "REPOSITORY", tmp_path)
    monkeypatch.setattr(sys, "argv", ["strip"])
    strip.main()
    assert strip.tree_bytes() == 8
    assert (tmp_path / plan.STARTS_FROM).is_file()
    monkeypatch.setattr(sys, "argv", ["strip", "--undo"])
    strip.main()
    assert strip.tree_bytes() == 16
