"""The calls of the day: which commands, in which order, for how many seconds at most."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

SLOWER = 4  # a rehearsal's machine may be small and busy
CALL_SECONDS = 570  # of a call; machines are lent for ten minutes a call
SMALLEST = ["--sizes", "96x64", "--batches", "1", "2", "--repeats", "1"]
KERNELS = ["--skip", "files", "others"]
FILES = ["--skip", "kernels", "others", "--batches", "1", "4", "16"]
PLAIN_SIZE = "1080p"  # for which fused layers are compared with single operators, and with a graph
ENGINES = ("torch", "torch-plain", "torch-graph", "onnxruntime")  # commands that take --rehearse
RECIPE = "photo-eye-gpu"
STARTS_FROM = "training/checkpoints/photo.pt"  # of the repository


@dataclass(frozen=True)
class Command:
    """One command of a call.

    Attributes
    ----------
    name : of its log
    arguments : program first
    seconds : at most
    needs : program that it is left out without
    """

    name: str
    arguments: tuple[str, ...]
    seconds: int
    needs: str = ""


@dataclass(frozen=True)
class Place:
    """Where things lie on the machine.

    Attributes
    ----------
    out : what comes home
    work : what stays: the training run, unpacked photos
    photos : to train on, or None
    minutes : of training
    """

    out: Path
    work: Path
    photos: Path | None = None
    minutes: float = 20.0


def python(*arguments: str | Path) -> tuple[str, ...]:
    """Return a command of this Python."""
    return (sys.executable, *map(str, arguments))


def calls(place: Place) -> dict[str, list[Command]]:
    """Return the calls of the day, by name; the commands of each fit into `CALL_SECONDS`."""
    out = place.out
    tests = python("-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider")
    kernels = python("-m", "benchmarks.gpu", *KERNELS)
    small = python("-m", "benchmarks.gpu", "--check")
    sanitizer = "compute-sanitizer"
    files = python("-m", "benchmarks.gpu", *FILES)
    fewer = (*files, "--sizes", PLAIN_SIZE)
    return {
        "check": [
            Command("versions", python("-m", "benchmarks.gpu_day.versions"), 30),
            Command("tests", (*tests, "tests/cuda"), 180),
            Command("kernels", (*kernels, "--out", str(out / "kernels.json")), 180),
            Command("racecheck", (sanitizer, "--tool", "racecheck", *small), 90, sanitizer),
            Command("memcheck", (sanitizer, "--tool", "memcheck", *small), 90, sanitizer),
        ],
        "files-torch": [
            Command(
                "torch", (*files, "--engines", "torch", "--out", str(out / "files-torch.json")), 330
            ),
            Command(
                "torch-plain",
                (*fewer, "--engines", "torch-plain", "--out", str(out / "files-torch-plain.json")),
                120,
            ),
            Command(
                "torch-graph",
                (*fewer, "--engines", "torch-graph", "--out", str(out / "files-torch-graph.json")),
                120,
            ),
        ],
        "files-onnxruntime": [
            Command(
                "onnxruntime",
                (*files, "--engines", "onnxruntime", "--out", str(out / "files-onnxruntime.json")),
                400,
            ),
            Command(
                "others",
                python(
                    *("-m", "benchmarks.gpu", "--skip", "kernels", "files"),
                    *("--out", out / "others.json"),
                ),
                150,
            ),
        ],
        "train": [
            Command("start", python("-m", "benchmarks.gpu_day.training", "start", *_run(place)), 60)
        ],
        "poll": [
            Command("poll", python("-m", "benchmarks.gpu_day.training", "poll", *_run(place)), 540)
        ],
        "home": [
            Command("home", python("-m", "benchmarks.gpu_day.training", "home", *_run(place)), 60)
        ],
    }


def _run(place: Place) -> list[str | Path]:
    options: list[str | Path] = ["--work", place.work, "--out", place.out]
    options += ["--minutes", str(place.minutes)]
    return options if place.photos is None else [*options, "--photos", place.photos]


def rehearsal(planned: dict[str, list[Command]]) -> dict[str, list[Command]]:
    """Return the same calls with the smallest inputs, for a machine without a GPU."""
    shorter = {
        "tests": ("tests/cuda/test_entropy_kernels.py",),
        "kernels": ("--symbols", "96", "--slices", "1", "--repeats", "1"),
        "torch": tuple(SMALLEST),
        "torch-plain": tuple(SMALLEST),
        "torch-graph": tuple(SMALLEST),
        "onnxruntime": tuple(SMALLEST),
        "start": ("--recipe", "tiny", "--minutes", "0.2", "--plain"),
        "poll": ("--every", "1"),
    }
    found = {}
    for call, commands in planned.items():
        found[call] = [_shorter(command, shorter.get(command.name, ())) for command in commands]
    return found


def _shorter(command: Command, options: tuple[str, ...]) -> Command:
    arguments = list(command.arguments)
    if command.name == "tests":
        arguments = [*arguments[:-1], "-p", "tests.cuda.driver.plugin"]
    if command.name in ("kernels", *ENGINES):
        arguments += ["--rehearse"]
    seconds = SLOWER * command.seconds
    return replace(command, arguments=(*arguments, *options), seconds=seconds)
