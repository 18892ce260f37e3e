"""A folder with `trellic encode --jobs` against the same files through ``xargs -P``.

::

    python -m benchmarks.jobs --images DIR [--repeat 3] [--out benchmarks/results/jobs.json]

Three ways to encode all photos of a folder with so many processes or threads as there are cores:
`trellic encode DIR OUT -r` by itself, ``xargs -P`` with one file for each process, and ``xargs -P``
with an equal share of the files for each. What is measured is the wall clock of the whole command,
the best of the repeats, kernels compiled beforehand. All three have to write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from benchmarks import _machine
from benchmarks.measure import find_images

PROGRAM = shlex.join([sys.executable, "-m", "trellic", "encode"])

FOLDERS = ("0", "1", "2")  # of the results of each way


def commands(names: Path, photos: Path, out: Path, count: int, jobs: int) -> dict[str, str]:
    """Return the shell command of each way; each writes to a folder of its own.

    Parameters
    ----------
    names : file with the names of all photos, each ended by a NUL
    photos : folder that holds them and nothing else
    out : folder of the results, with folders named 0, 1 and 2
    count : how many photos there are
    jobs : how many at once
    """
    targets = [shlex.quote(str(out / name)) for name in FOLDERS]
    start = f"xargs -0 -P {jobs} -a {shlex.quote(str(names))}"
    one = f'{PROGRAM} "$1" {targets[1]}/"$(basename "$1")".tlc'
    share = f'{PROGRAM} "$@" {targets[2]}'
    share_of = -(-count // jobs)
    return {
        "trellic encode -r --jobs": f"{PROGRAM} {photos} {targets[0]} -r --jobs {jobs}",
        "xargs, a process for each file": f"{start} -n 1 sh -c {shlex.quote(one)} sh",
        "xargs, a process for each core": f"{start} -n {share_of} sh -c {shlex.quote(share)} sh",
    }


def seconds_of(command: str) -> float:
    """Run a command in a shell; return its wall clock."""
    start = time.perf_counter()
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {command}: {done.stderr[-500:]}")
    return time.perf_counter() - start


def measure(photos: Sequence[Path], jobs: int, repeat: int) -> dict[str, list[float]]:
    """Return the seconds of each way and repeat; check that all write the same bytes."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        source, names = Path(folder, "photos"), Path(folder, "names")
        source.mkdir()
        for photo in photos:
            shutil.copy(photo, source)
        names.write_bytes(b"".join(os.fsencode(p) + b"\0" for p in sorted(source.iterdir())))
        for turn in track(range(repeat + 1), "encode"):  # the first one compiles: not counted
            out = Path(folder, f"turn{turn}")
            for name in FOLDERS:
                (out / name).mkdir(parents=True)
            for way, command in commands(names, source, out, len(photos), jobs).items():
                seconds = seconds_of(command)
                if turn:
                    found.setdefault(way, []).append(seconds)
            check(out, len(photos))
    return found


def check(out: Path, count: int) -> None:
    """End the program unless all ways wrote the same files."""
    first, *others = (
        sorted(path.read_bytes() for path in (out / name).rglob("*.tlc")) for name in FOLDERS
    )
    if any(other != first for other in others) or len(first) != count:
        raise SystemExit("error: the ways wrote different files")


def markdown(rows: dict[str, list[float]], count: int) -> str:
    """Return a table: seconds, and photos a second, of the best repeat."""
    lines = ["| way | seconds | photos a second |", "|---|---:|---:|"]
    for way, seconds in rows.items():
        lines.append(f"| `{way}` | {min(seconds):.1f} | {count / min(seconds):.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jobs", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR")
    add("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at once; default: cores")
    add("--repeat", type=int, default=3)
    add("--limit", type=int, default=24, help="photos, the first ones")
    add("--out", type=Path, metavar="JSON")
    options = parser.parse_args(arguments)
    photos = find_images(options.images)[: options.limit]
    rows = measure(photos, options.jobs, options.repeat)
    print(markdown(rows, len(photos)))
    if options.out:
        head = {
            "benchmark": "jobs",
            "machine": _machine.describe(("numpy", "numba", "onnxruntime")),
            "photos": len(photos),
            "jobs": options.jobs,
        }
        text = json.dumps({**head, "seconds": rows}, indent=1)
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
