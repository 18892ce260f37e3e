"""Coverage-guided fuzzing of one target with atheris (``pip install --group fuzz``).

::

    python -m tests.fuzz.run TARGET [--minutes M] [--executions N] [--out FILE.json]
    python -m tests.fuzz.run --total N --out FILE.json

Runs until the time or the number of executions is reached, or a fault is found; a fault leaves its
input beside the corpus and exit code 1. The JSON counts executions over all runs that wrote to it.
With ``--total`` the targets of `DEEP` take turns of ``--minutes`` each until they have so many
executions together; the JSON is written after each turn, so that a run which was ended goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._machine import describe
from rich.progress import Progress

SECONDS_LIMIT = 1  # of one small input; more where other programs share the core
MEMORY_LIMIT_MB = 2048
INPUT_LIMIT = {"deep": 256, "region": 256, "labels": 256, "pictures": 4096}  # bytes, or 1024
DEEP = ("deep", "region", "labels", "pictures")
ALL = ("parser", "loader", "coder", "decode", *DEEP)
COUNT = re.compile(r"^#(\d+)")


def command(target: str, corpus: Path, seconds: int, executions: int, limit: int) -> list[str]:
    """Return the command of the process that is fuzzed; `limit` is of one input, in seconds."""
    return [
        *(sys.executable, "-m", "tests.fuzz.child", target, str(corpus)),
        f"-artifact_prefix={corpus}/fault-",
        f"-max_total_time={seconds}",
        f"-runs={executions}",
        f"-timeout={limit}",
        f"-rss_limit_mb={MEMORY_LIMIT_MB}",
        f"-max_len={INPUT_LIMIT.get(target, 1024)}",
    ]


def fuzz(
    target: str, corpus: Path, minutes: float, executions: int, limit: int = SECONDS_LIMIT
) -> tuple[int, int]:
    """Run a target; return executions and exit code, and show how far it is."""
    corpus.mkdir(parents=True, exist_ok=True)
    line = command(target, corpus, max(1, int(60 * minutes)), executions, limit)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, errors="replace")
    done, tail = 0, []
    with Progress() as progress:
        task = progress.add_task(target, total=executions if executions > 0 else None)
        for text in process.stderr or ():
            tail = [*tail[-40:], text]
            if found := COUNT.match(text):
                done = int(found.group(1))
                progress.update(task, completed=done)
    code = process.wait()
    if code:
        print(*tail, sep="", file=sys.stderr)
    return done, code


def record(out: Path, target: str, done: int, seconds: float, fault: bool) -> None:
    """Add a run to the counts of a JSON file."""
    known = json.loads(out.read_text()) if out.is_file() else {"targets": {}}
    mine = known["targets"].setdefault(target, {"executions": 0, "seconds": 0.0, "faults": 0})
    mine["executions"] += done
    mine["seconds"] = round(mine["seconds"] + seconds, 1)
    mine["faults"] += fault
    known["machine"] = describe(("numpy", "numba", "onnxruntime", "atheris"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(known, indent=1) + "\n")


def counted(out: Path, what: str) -> dict[str, float]:
    """Return a count of each of the targets that take turns."""
    known = json.loads(out.read_text())["targets"] if out.is_file() else {}
    return {name: known.get(name, {}).get(what, 0) for name in DEEP}


def one(options: argparse.Namespace, target: str) -> int:
    """Fuzz a target once, and count it; return the exit code."""
    start = time.monotonic()
    done, code = fuzz(
        target, options.corpus / target, options.minutes, options.executions, options.limit
    )
    seconds = time.monotonic() - start
    print(f"{target}: {done} executions in {seconds:.0f} s, exit code {code}", flush=True)
    if options.out:
        record(options.out, target, done, seconds, code != 0)
    return code


def in_turns(options: argparse.Namespace) -> int:
    """Let the deep targets take turns, the one that had the least time first."""
    while sum(counted(options.out, "executions").values()) < options.total:
        seconds = counted(options.out, "seconds")
        if code := one(options, min(DEEP, key=lambda name: seconds[name])):
            return code
    return 0


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz one target, or several in turns.")
    parser.add_argument("target", choices=ALL, nargs="?")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--executions", type=int, default=-1)
    parser.add_argument("--total", type=int, help=f"of {', '.join(DEEP)} together; needs --out")
    parser.add_argument("--limit", type=int, default=SECONDS_LIMIT, help="seconds of one input")
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if (options.target is None) != (options.total is not None and options.out is not None):
        parser.error("name a target, or --total and --out")
    code = one(options, options.target) if options.target else in_turns(options)
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
