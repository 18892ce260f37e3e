"""Speed benchmark: encoders and decoders at equal PSNR, on the same processors, and their memory.

::

    python -m benchmarks.speed --images DIR [--threads 1,2] [--limit N] [--decoders NAME,NAME]

Trellic encodes at one quality; every other codec's quality is searched for the same PSNR on each
picture. For each number of threads one process lets all codecs take turns, limited to that many
processors by the system. The time of a picture is the least of its turns; ratios are of the sums
over the pictures. Everybody goes from pixels in memory to the bytes of a whole file and back, so
conversions of colour count for all. Peak memory is measured in a process for each encoder and
decoder. Writes JSON (drawn by `benchmarks.readme`) and a plot, and prints the goals and all times.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import _machine, probe, speed_tables
from benchmarks.codecs import CodecUnavailableError, Spec, SpecError, make
from benchmarks.measure import describe_image, find_images
from benchmarks.plan import UsageError
from benchmarks.rd import PACKAGES
from benchmarks.runs import lines
from benchmarks.threads import CAN_PIN, WorkerError, run_pinned, told
from benchmarks.timing import Job
from trellic.constants import DEFAULT_TRELLIS

PEERS = "avif:speed=6,jxl:effort=7,webp,jpeg"
Rows = list[dict[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        run(options, Console())
    except (CodecUnavailableError, SpecError, FileNotFoundError, UsageError, WorkerError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write."""
    images = find_images(options.images)[: options.limit]
    ours, peers = _ours(options), options.peers.split(",")
    for text in peers:
        make(Spec.parse(text))  # its error comes before the work
    name = options.name or options.images.resolve().name
    threads = [int(count) for count in options.threads.split(",")]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=len(threads) + 2 * len(ours + peers))

        def step(what: str) -> None:
            progress.update(bar, description=what, advance=1)

        timed = _timed(images, ours, peers, threads, options, step)
        quality = _qualities(timed)
        memory = _memory(images[0], ours + peers, quality, step)
    names = {text: str(Spec.parse(text)) for text in ours + peers}  # no folders of a machine
    parts = (memory, *(one[part] for one in timed for part in ("rows", "stages")))
    for row in (row for part in parts for row in part):
        row["codec"] = names[row["codec"]]
    result = {
        "benchmark": "speed",
        "machine": _machine.describe((*PACKAGES, "numba")),
        "pinned": CAN_PIN,
        "images": [describe_image(path) for path in images],
        "quality": options.quality,
        "repeat": options.repeat,
        "ours": [names[text] for text in ours],
        "times": timed,
        "memory": memory,
    }
    out = options.out or Path("benchmarks/results") / f"speed-{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(lines(result) + "\n", encoding="utf-8")
    for draw in (*speed_tables.TABLES.values(), speed_tables.goals):
        console.print(draw(result) + "\n", markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote {out}")
    if not options.no_plot:
        for path in _plot(result, options.plots, f"speed-{name}"):
            console.print(f"wrote {path}")


def _plot(result: dict[str, Any], folder: Path, stem: str) -> list[Path]:
    from benchmarks.plots import bars  # matplotlib takes a second to import

    means = speed_tables.mean_times(result["times"][0]["rows"])
    threads = result["times"][0]["threads"]
    title = f"Milliseconds a photo at equal PSNR, {threads} thread" + "s" * (threads > 1)
    groups = {
        direction: [1e3 * seconds[direction] for seconds in means.values()]
        for direction in ("decode", "encode")
    }
    return bars([speed_tables.short(codec) for codec in means], groups, title, folder, stem)


def _ours(options: argparse.Namespace) -> list[str]:
    """Name one Trellic for each decoder, the one whose PSNR the others match first.

    Those that can be computed in other precisions come once more with each.
    """
    model = {"model": options.model} if options.model else {}
    found = make(Spec("trellic", tuple(model.items())))
    decoders = options.decoders.split(",")
    if options.decoders == "all":
        decoders = sorted(found.decoders, key=lambda name: name != "quality")
    settings = {**model, "trellis": str(options.trellis)}
    ours = [{**settings, "decoder": name} for name in decoders]
    for precision in ("bf16", "int8"):
        able = [name for name in decoders if precision in found.precisions(name)]
        ours += [{**settings, "precision": precision, "decoder": name} for name in able]
    return [Spec("trellic", tuple(one.items())).text() for one in ours]


def _timed(
    images: Sequence[Path],
    ours: Sequence[str],
    peers: Sequence[str],
    threads: Sequence[int],
    options: argparse.Namespace,
    step: Callable[[str], None],
) -> Rows:
    """Return what `benchmarks.timing` measured with each number of threads."""
    found = []
    for count in threads:
        step(f"all codecs in turn, {count} thread{'s' if count > 1 else ''}")
        paths = [str(path.resolve()) for path in images]
        job = Job(paths, list(ours), list(peers), options.quality, count, options.repeat)
        output = run_pinned(["benchmarks.timing"], count, json.dumps(asdict(job)))
        found.append({"threads": count, **json.loads(output.splitlines()[-1])})
    return found


def _qualities(timed: Rows) -> dict[str, float]:
    """Return each codec's matched quality on the first picture."""
    first = timed[0]["rows"][0]["image"]
    return {row["codec"]: row["quality"] for row in timed[0]["rows"] if row["image"] == first}


def _memory(
    photo: Path, codecs: Sequence[str], quality: dict[str, float], step: Callable[[str], None]
) -> Rows:
    """Measure each codec with one thread, each direction in a process of its own."""
    rows = []
    for text in codecs:
        row: dict[str, Any] = {"codec": text, "quality": quality[text]}
        with tempfile.TemporaryDirectory() as folder:
            for direction in ("encode", "decode"):
                step(f"memory: {Spec.parse(text)}, {direction}")
                spec = told(Spec.parse(text), 1)
                one = probe.measure(direction, spec, quality[text], photo, Path(folder) / "file")
                row[direction] = asdict(one)
        rows.append(row)
    return rows


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--peers", default=PEERS, help=f"separated by commas (default {PEERS})")
    add("--decoders", default="all", help="of Trellic; all: those of the model (default)")
    add("--trellis", type=int, default=DEFAULT_TRELLIS, help="states (default %(default)s)")
    add("--quality", type=float, default=60.0, help="of Trellic (default 60)")
    add("--model", metavar="NAME|PATH", help="Trellic's model (default photo)")
    add("--threads", default="1,2", help="numbers of processors (default 1,2)")
    add("--repeat", type=int, default=7, help="turns of every codec on every photo (default 7)")
    add("--limit", type=int, default=6, metavar="N", help="only the first N photos (default 6)")
    add("--name", help="name of the data set (default: the folder's)")
    add("--out", type=Path, metavar="JSON", help="default benchmarks/results/speed-NAME.json")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--no-plot", action="store_true", help="draw nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
