"""The training run of the day: started apart from the call, looked at while it runs, fetched.

``start`` begins ``trellic train`` in a session of its own, which outlives the call; ``poll`` shows
its log until it ends, or until the call's time is nearly over; ``home`` copies weights and curve
to ``--out``, while it runs or afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from benchmarks._machine import REPOSITORY
from benchmarks.gpu_day.plan import RECIPE, STARTS_FROM

RECIPES = REPOSITORY / "training" / "trellic_training" / "recipes"
WEIGHTS = REPOSITORY / STARTS_FROM
POLLED = 500  # seconds of a call
MOST_BYTES = 16 << 20  # of a file that comes home
COMES_HOME = ("weights.pt", "curve.csv", "train.log")


def start(options: argparse.Namespace) -> int:
    """Begin the run, with smaller batches where they don't fit; return the exit code."""
    if options.photos is None:
        print("no photos to train on: give --photos, or a --pack that holds some")
        return 1
    run = options.work / "run"
    run.mkdir(parents=True, exist_ok=True)
    for divided in (1, 2, 4, 8):
        begun = _begin(options, run, _recipe(options.recipe, run, divided))
        print(f"training is process {begun.pid}, {options.minutes} minutes, batches / {divided}")
        time.sleep(options.every)
        if begun.poll() is None or begun.returncode == 0:
            return 0
        if "out of memory" not in (run / "train.log").read_text(encoding="utf-8"):
            return 1  # the log says why
    return 1


def _recipe(name: str, run: Path, divided: int) -> Path:
    """Write a shipped recipe with batches of a part of the size."""
    settings = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    for phase in settings["phases"]:
        phase["batch"] = max(phase["batch"] // divided, 1)
    path = run / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def _begin(options: argparse.Namespace, run: Path, recipe: Path) -> subprocess.Popen[bytes]:
    last = run / "last.ckpt"
    command = [sys.executable, "-m", "trellic", "train", str(recipe)]
    command += ["--photos", str(options.photos), "--out", str(run)]
    command += ["--minutes", str(options.minutes)]
    if not options.plain:
        command += ["--resume", str(last if last.is_file() else WEIGHTS)]
    with (run / "train.log").open("w", encoding="utf-8") as log:
        begun = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=REPOSITORY
        )
    (run / "pid").write_text(str(begun.pid), encoding="utf-8")
    return begun


def poll(options: argparse.Namespace) -> int:
    """Show the log until the run ends or the call's time does; return the exit code."""
    run = options.work / "run"
    until = time.monotonic() + POLLED
    while time.monotonic() < until and alive(run):
        time.sleep(options.every)
    print(f"training {'goes on' if alive(run) else 'has ended'}")
    print("\n".join((run / "train.log").read_text(encoding="utf-8").splitlines()[-20:]))
    return 0


def alive(run: Path) -> bool:
    """Whether the run goes on."""
    state = Path("/proc", (run / "pid").read_text(encoding="utf-8"), "stat")
    try:
        return state.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def home(options: argparse.Namespace) -> int:
    """Copy what comes home; return the exit code."""
    run, missing = options.work / "run", []
    for name in COMES_HOME:
        source = run / name
        if not source.is_file() or source.stat().st_size > MOST_BYTES:
            missing.append(name)
            continue
        shutil.copyfile(source, options.out / name)
        print(f"{name}: {source.stat().st_size / 1e6:.1f} MB")
    if missing:
        print(f"not there, or too large: {', '.join(missing)}")
    return 1 if "weights.pt" in missing else 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="The training run of the day.")
    parser.add_argument("what", choices=["start", "poll", "home"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--recipe", default=RECIPE)
    parser.add_argument("--plain", action="store_true", help="from nothing, not from weights")
    parser.add_argument("--every", type=float, default=20, help="seconds between two looks")
    options = parser.parse_args()
    os.makedirs(options.out, exist_ok=True)
    return {"start": start, "poll": poll, "home": home}[options.what](options)


if __name__ == "__main__":
    sys.exit(main())
