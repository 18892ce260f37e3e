"""Coverage-guided fuzzing of one target with atheris (``pip install --group fuzz``).

::

    python -m tests.fuzz.run TARGET [--minutes M] [--executions N] [--out FILE.json]

Runs until the time or the number of executions is reached, or a fault is found; a fault leaves its
input beside the corpus and exit code 1. The JSON counts executions over all runs that wrote to it.
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

SECONDS_LIMIT = 1  # of one small input
MEMORY_LIMIT_MB = 2048
INPUT_LIMIT = 1024  # bytes
COUNT = re.compile(r"^#(\d+)")


def command(target: str, corpus: Path, seconds: int, executions: int) -> list[str]:
    """Return the command of the process that is fuzzed."""
    return [
        *(sys.executable, "-m", "tests.fuzz.child", target, str(corpus)),
        f"-artifact_prefix={corpus}/fault-",
        f"-max_total_time={seconds}",
        f"-runs={executions}",
        f"-timeout={SECONDS_LIMIT}",
        f"-rss_limit_mb={MEMORY_LIMIT_MB}",
        f"-max_len={INPUT_LIMIT}",
    ]


def fuzz(target: str, corpus: Path, minutes: float, executions: int) -> tuple[int, int]:
    """Run a target; return executions and exit code, and show how far it is."""
    corpus.mkdir(parents=True, exist_ok=True)
    line = command(target, corpus, max(1, int(60 * minutes)), executions)
    process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
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


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz one target.")
    parser.add_argument("target", choices=["parser", "loader", "coder", "decode"])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--executions", type=int, default=-1)
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    start = time.monotonic()
    done, code = fuzz(
        options.target, options.corpus / options.target, options.minutes, options.executions
    )
    seconds = time.monotonic() - start
    print(f"{options.target}: {done} executions in {seconds:.0f} s, exit code {code}")
    if options.out:
        record(options.out, options.target, done, seconds, code != 0)
    return int(code != 0)


if __name__ == "__main__":
    sys.exit(main())
