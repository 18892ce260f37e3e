"""``python -m benchmarks.gpu_day``: the calls of the day, one after the other (docs/gpu-day.md).

Each command's output is a file of its own under ``--out``, as it comes; ``day.json`` there has a
row for each command, written when it ends. A command that fails or runs too long is a row as well,
and the next one begins. The exit code is 1 where one failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._machine import REPOSITORY, describe
from benchmarks._rows import Report
from benchmarks.gpu_day.arrive import arrive
from benchmarks.gpu_day.plan import Command, Place, calls, rehearsal

TAIL = 25  # lines of a command's output that are shown when it ends
SIDE = 192  # of photos that a rehearsal trains on


class Failed(Exception):
    """A command that ended with another code than 0, or was stopped."""


def run(command: Command, log: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a command; what it prints goes to a file, its end to the terminal too.

    Raises
    ------
    Failed
        When its code is not 0, or its time is over.
    """
    if command.needs and shutil.which(command.needs) is None:
        return {"left out": f"no {command.needs} on PATH"}
    start, fault = time.monotonic(), ""
    with log.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                command.arguments,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=environment,
                timeout=command.seconds,
                check=False,
            )
            fault = f"exit code {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            fault = f"stopped after {command.seconds} s"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-TAIL:]), flush=True)
    if fault:
        raise Failed(f"{fault}: {lines[-1] if lines else 'no output'}")
    return {"seconds": round(time.monotonic() - start, 1)}


def surroundings(packages: Path | None) -> dict[str, str]:
    """Return the environment of the commands: sources, packages brought along, NVVM's folder."""
    roots = [REPOSITORY, *(REPOSITORY / name for name in ("runtime", "export", "training"))]
    paths = [*map(str, roots), *([str(packages)] if packages else [])]
    paths += [os.environ.get("PYTHONPATH", "")]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found["PYTHONUNBUFFERED"] = "1"
    compiler = shutil.which("nvcc")
    if compiler and "CUDA_HOME" not in found:  # numba looks for NVVM there
        found["CUDA_HOME"] = str(Path(compiler).resolve().parents[1])
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="All that is to be done with a GPU, in order.")
    build = REPOSITORY / "build" / "gpu_day"
    parser.add_argument("--out", type=Path, default=build / "out", help="what comes home")
    parser.add_argument("--work", type=Path, default=build / "work", help="what stays")
    parser.add_argument("--pack", type=Path, help="folder that `gpu_day.pack` made")
    parser.add_argument("--photos", type=Path, help="photos to train on; else those of --pack")
    parser.add_argument("--minutes", type=float, default=20, help="of training")
    parser.add_argument("--only", nargs="+", help="names of calls, in place of all")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU, on tiny inputs")
    return parser.parse_args()


def cut_samples(folder: Path) -> Path:
    """Cut the photos that ship into small ones, for a rehearsal to train on."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((REPOSITORY / "samples").glob("*.png")):
        with Image.open(path) as photo:
            for left in range(0, photo.width - SIDE + 1, SIDE):
                part = photo.convert("RGB").crop((left, 0, left + SIDE, SIDE))
                part.save(folder / f"{path.stem}-{left}.png")
    return folder


def main() -> int:
    """Run from the command line; exit with 1 where a command failed."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    packages, photos = arrive(options.pack, options.work) if options.pack else (None, None)
    photos = options.photos or photos
    if options.rehearse and photos is None:
        photos = cut_samples(options.work / "samples")
    place = Place(options.out, options.work, photos, options.minutes)
    planned, environment = calls(place), surroundings(packages)
    if options.rehearse:
        from tests.cuda import driver

        planned, environment = rehearsal(planned), environment | driver.environment()
    report = Report(options.out / "day.json", {"machine": describe()})
    for name in options.only or planned:
        for command in planned[name]:
            print(f"== {name}: {command.name}", flush=True)
            log = options.out / f"{name}-{command.name}.log"
            setting = {"call": name, "command": command.name}
            report.measure("commands", setting, partial(run, command, log, environment))
    wrong = [row for row in report.content["commands"] if "error" in row]
    print(f"{len(report.rows('commands'))} commands done, {len(wrong)} failed: {options.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
