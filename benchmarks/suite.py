"""The whole set of benchmarks in order, then the tables of the pages: what ``make bench`` runs.

::

    python -m benchmarks.suite --images DIR [--only speed,rd]

Each is a process of its own, one after the other, those that measure time first. One that fails
does not stop the rest. Ends with a summary; the exit code is 1 if one failed. Meant for the 24
Kodak photos (``--name kodak``), whose results the pages show, and a machine that does nothing else.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks import published
from benchmarks.measure import find_images
from benchmarks.speed_tables import table

CODECS = (
    "trellic,jpeg,jpeg:tune=psnr,webp,avif,avif:tune=psnr,avif:speed=3,jxl,heic,heic:tune=psnr,jp2"
)
METRICS = "psnr,ms_ssim,ssimulacra2"


class Step(NamedTuple):
    """One benchmark: a module and its arguments."""

    name: str
    arguments: tuple[str, ...] = ()


class Done(NamedTuple):
    """A benchmark that ran: minutes, and its exit code."""

    step: Step
    minutes: float
    code: int


def plan(images: Path, name: str, jobs: int) -> list[Step]:
    """Return the benchmarks in order; names ending in ``kodak`` feed the pages' tables."""
    pictures = ("--images", str(images), "--name", name)
    whole = published.is_kodak([path.name for path in find_images(images)])
    rates = ("--trellis", "0,8,32,256", "--decoders", "quality,fast", "--jobs", str(jobs))
    rates += ("--bpp-min", "0.15", "--bpp-max", "1", "--metrics", METRICS, "--metric-every", "3")
    return [
        Step("speed", pictures),
        Step("big", ("--repeat", "2")),
        Step("coder"),
        Step("gaussian_rd"),
        Step(
            "rd",
            (*pictures, "--codecs", CODECS, *rates, "--brief", *["--published"] * whole),
        ),
        Step("readme", ("--write",)),
    ]


def run(step: Step) -> Done:
    """Run one; what it prints goes where this process prints."""
    start = time.perf_counter()
    command = [sys.executable, "-m", f"benchmarks.{step.name}", *step.arguments]
    code = subprocess.run(command, check=False).returncode
    return Done(step, (time.perf_counter() - start) / 60, code)


def summary(done: Sequence[Done]) -> str:
    """Return a table of what ran, how long, and whether it succeeded."""
    rows = [
        [one.step.name, f"{one.minutes:.1f}", "done" if one.code == 0 else f"failed ({one.code})"]
        for one in done
    ]
    rows.append(["all", f"{sum(one.minutes for one in done):.1f}", ""])
    return table(("benchmark", "minutes", ""), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        steps = plan(options.images, options.name or options.images.resolve().name, options.jobs)
    except FileNotFoundError as error:
        console.print(f"error: {error}", markup=False, highlight=False)
        return 2
    wanted = options.only.split(",") if options.only else [step.name for step in steps]
    if unknown := set(wanted) - {step.name for step in steps}:
        console.print(f"error: no benchmark {', '.join(sorted(unknown))}", markup=False)
        return 2
    done = []
    for step in steps:
        if step.name in wanted:
            console.rule(f"benchmarks.{step.name}")
            done.append(run(step))
    console.rule("summary")
    console.print(summary(done), markup=False, highlight=False)
    return int(any(one.code for one in done))


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.suite",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--name", help="name of the data set (default: the folder's)")
    add("--only", metavar="NAME,NAME", help="only these of them")
    add("--jobs", type=int, default=2, help="processes of the rate-distortion run (default 2)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
