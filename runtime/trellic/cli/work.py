"""Work through many files: several at once, without existing results, with a last line."""

from __future__ import annotations

import enum
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import typer

from trellic.cli.paths import Job
from trellic.cli.report import Report, Spoken
from trellic.cli.tree import STANDARD
from trellic.errors import BadParameter
from trellic.support.bounds import Limits
from trellic.support.cores import usable_cores

LARGE_PIXELS = 2**25  # of a picture that is coded alone, whatever --jobs says: it fills the memory


class Batch(NamedTuple):
    """Options of a command for many files.

    Attributes
    ----------
    recursive : go through folders
    skip_existing : skip files whose result exists and is up to date
    preserve : give results the times of their sources
    dry_run : only print what would be done
    jobs : files at once; None: as many as there are cores
    keep_suffix : keep the suffix of a picture in the name of its result
    """

    recursive: bool = False
    skip_existing: bool = False
    preserve: bool = False
    dry_run: bool = False
    jobs: int | None = None
    keep_suffix: bool = False

    def at_once(self, files: int, *, bounded: bool) -> int:
        """Return how many files to work on at once.

        Parameters
        ----------
        files : how many there are
        bounded : whether the memory of the process has a limit

        Raises
        ------
        typer.BadParameter
            When memory has a limit, and more than one file at once is requested.
        """
        if bounded:
            if (self.jobs or 1) > 1:
                raise typer.BadParameter(
                    "a limit of memory is one of the whole process: leave out --jobs, or the limit",
                    param_hint="--jobs",
                )
            return 1
        return max(1, min(self.jobs or usable_cores(), files))


def is_bounded(max_memory: int | None, limits: Limits) -> bool:
    """Whether the memory of the process has a limit."""
    return max_memory is not None or limits.max_memory is not None


class Sizes(NamedTuple):
    """Bytes of one file, before and after."""

    before: int
    after: int


class _Without(enum.Enum):
    """Files without a result: left out, or failed."""

    SKIPPED = enum.auto()
    FAILED = enum.auto()


SKIPPED, FAILED = _Without.SKIPPED, _Without.FAILED
Outcome = Sizes | _Without


@dataclass
class _Total:
    files: int = 0
    before: int = 0
    after: int = 0
    skipped: int = 0
    failed: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        self.skipped += outcome is SKIPPED
        self.failed += outcome is FAILED
        if isinstance(outcome, Sizes):
            self.files += 1
            self.before += outcome.before
            self.after += outcome.after

    def line(self, seconds: float) -> str:
        """Such as "17 of 18 files, 1.32 MB to 0.27 MB (-80 %), 9.1 s, 1 failed"."""
        total = self.files + self.skipped + self.failed
        of_all = "" if total == self.files else f" of {total}"
        parts = [f"{self.files}{of_all} file{'s' * (total != 1)}"]
        if self.files:
            saved = f" ({100 * (self.after / self.before - 1):+.0f} %)"
            less = saved if self.after < self.before else ""
            parts += [f"{_megabytes(self.before)} to {_megabytes(self.after)}{less}"]
        parts += [f"{seconds:.1f} s"]
        parts += [f"{self.skipped} skipped"] * bool(self.skipped)
        parts += [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join(parts)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 10_000 else f"{count / 1e3:.2f} kB"


_large = threading.Lock()


def alone(pixels: int) -> AbstractContextManager[object]:
    """Let only one large picture at a time be worked on, because two may fill the memory."""
    return _large if pixels > LARGE_PIXELS else nullcontext()


def run(
    jobs: Sequence[Job],
    batch: Batch,
    report: Report,
    work: Callable[[Job], Sizes],
    at_once: int = 1,
) -> None:
    """Do the work on each file; messages come in the order of the files.

    Parameters
    ----------
    jobs : the files
    batch : what to do with them beside the work
    report : takes the results, and an error for each file that fails
    work : on one file; returns its sizes
    at_once : threads that work
    """
    start, total = time.perf_counter(), _Total()

    def one(job: Job) -> tuple[Spoken, Outcome]:
        with report.file(job.source, hold=at_once > 1) as spoken:
            return spoken, _one(job, batch, report, work)
        return spoken, FAILED

    for spoken, outcome in _in_order(one, jobs, at_once):
        report.say(spoken)
        total.add(outcome)
    if jobs[0].folder is not None and not batch.dry_run and (len(jobs) > 1 or batch.recursive):
        report.summary(total.line(time.perf_counter() - start))


def _one(job: Job, batch: Batch, report: Report, work: Callable[[Job], Sizes]) -> Outcome:
    if os.path.isdir(job.source):
        raise BadParameter("a folder", expected="a file", remedy="-r goes through folders")
    job.check()
    if batch.skip_existing and job.is_done():
        return SKIPPED
    if batch.dry_run:
        if job.source != STANDARD:
            os.stat(job.source)  # raises if it is missing
        fields = {"input": job.source, "output": job.target}
        report.result(f"{job.source} -> {job.target} (not written: --dry-run)", fields)
        return SKIPPED
    sizes = work(job)
    if batch.preserve:
        job.keep_times()
    return sizes


def _in_order(
    one: Callable[[Job], tuple[Spoken, Outcome]], jobs: Sequence[Job], at_once: int
) -> Iterator[tuple[Spoken, Outcome]]:
    if at_once == 1:
        yield from map(one, jobs)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        yield from pool.map(one, jobs)
    finally:  # after Ctrl-C, or an error that ends the command, no other file begins
        pool.shutdown(wait=True, cancel_futures=True)
