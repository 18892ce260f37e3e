"""The same processors for every codec, whatever threads it starts."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.codecs import Spec

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VIPS_CONCURRENCY")
TOLD = ("trellic", "avif", "jxl")  # codecs that have an option for it
CAN_PIN = hasattr(os, "sched_setaffinity")


class WorkerError(RuntimeError):
    """A process that should have measured something failed; the end of what it said."""


def run_pinned(module_and_arguments: Sequence[str], threads: int, given: str = "") -> str:
    """Run a module in a new process that may use so many processors, and return what it prints.

    The limit holds from the process's first instruction, so for all its threads. Where the system
    has none (`CAN_PIN`), only what the libraries are told holds.

    Parameters
    ----------
    module_and_arguments
        As after ``python -m``.
    threads
        Processors.
    given
        For its standard input.

    Raises
    ------
    WorkerError
        It failed, or there are fewer processors.
    """
    allowed = sorted(os.sched_getaffinity(0)) if CAN_PIN else list(range(os.cpu_count() or 1))
    if not 1 <= threads <= len(allowed):
        raise WorkerError(f"{threads} threads were asked for, this process may use {len(allowed)}")
    chosen = allowed[-threads:]
    done = subprocess.run(
        [sys.executable, "-m", *module_and_arguments],
        cwd=ROOT,
        env={**os.environ, **dict.fromkeys(VARIABLES, str(threads))},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=(lambda: os.sched_setaffinity(0, chosen)) if CAN_PIN else None,
    )
    if done.returncode:
        what = " ".join(module_and_arguments[:3])
        raise WorkerError(f"{what} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def told(spec: Spec, threads: int) -> Spec:
    """Return a codec told how many threads to start, where it can be."""
    if spec.name not in TOLD:
        return spec
    options = {key: value for key, value in spec.options if key != "threads"}
    return Spec(spec.name, (*options.items(), ("threads", str(threads))))
