"""What the quantizer and fine-tuning are worth: BD-rates against plain rounding, from real files.

::

    python -m benchmarks.quantizers --images DIR [--images DIR2] --before BUNDLE [--after BUNDLE]

Every quantizer codes every picture at a ladder of qualities, with the bundle before fine-tuning on
quantized latents and with the one after it. The anchor is plain rounding with the first bundle.
Rounding gets frequency tables and centroids fitted to rounding, because a bundle's scalar tables
are RDOQ's, and ``dither`` gets its own, because a bundle need not have any; ``--own-tables`` does
the same for every quantizer (a bundle's trellis tables are fitted to 8 states). Tables are fitted
to the measured pictures, which favours whoever gets them: the anchor, by default. ``--calibrate``
names other pictures to fit to.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import _machine
from benchmarks.bdrate import BdRate, bd_rate
from benchmarks.codecs import Spec, make
from benchmarks.measure import Task, Wanted, describe_image, find_images, read_pixels, run_tasks
from benchmarks.own_tables import with_dither, with_own_tables
from benchmarks.runs import Measured, save
from trellic.model.bundle import find

QUANTIZERS = ("round", "0", "4", "8", "32", "128", "256")
DITHER_SEED = 1
LADDER = (4.0, 14.0, 24.0, 34.0, 44.0, 54.0, 64.0, 74.0, 84.0, 94.0)
PACKAGES = ("numpy", "numba", "onnxruntime")
PAPER = (
    "Borzechowski et al., ICIP 2024: fine-tuning saves 1 to 2 % on Kodak, up to 2.2 % on TecNick"
)


@dataclass(frozen=True)
class Row:
    """One quantizer on one folder.

    BD-rates in percent, over the whole shared range; ``gain`` compares the same quantizer after and
    before, the others compare with rounding before.
    """

    folder: str
    quantizer: str
    before: BdRate | None
    after: BdRate | None
    gain: BdRate | None


@dataclass(frozen=True)
class Case:
    """One quantizer with one bundle: "before" or "after"."""

    stage: str
    quantizer: str
    model: Path

    @property
    def spec(self) -> Spec:
        """The codec to run."""
        more = {"round": ("search", "round"), "dither": ("dither", str(DITHER_SEED))}
        own = more.get(self.quantizer)
        options = [("model", str(self.model)), ("trellis", "0" if own else self.quantizer)]
        return Spec("trellic", (*options, *((own,) if own else ())))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            run(options, Console(), Path(folder))
    except FileNotFoundError as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


def run(options: argparse.Namespace, console: Console, scratch: Path) -> None:
    """Measure, compare, print and write."""
    folders = {path.resolve().name: find_images(path)[: options.limit] for path in options.images}
    fit_to = find_images(options.calibrate) if options.calibrate else next(iter(folders.values()))
    cases = list(_cases(options, fit_to, scratch, console))
    rows: list[Row] = []
    for name, images in folders.items():
        measured = _measure(cases, images, options, console)
        rows += compare(name, measured, options.quantizers.split(","))
        out = options.out / f"quantizers-{name}.json"
        head: dict[str, object] = {
            "benchmark": "quantizers",
            "machine": _machine.describe(PACKAGES),
            "paper": PAPER,
            "images": [describe_image(path) for path in images],
            "tables_fitted_to": [path.name for path in fit_to],
            "own_tables": "every quantizer" if options.own_tables else "rounding, dither",
        }
        mine = [asdict(row) for row in rows if row.folder == name]
        save(out, head, list(measured.values()), mine)
        console.print(f"wrote {out}")
        if not options.no_plot:
            _plot([row for row in rows if row.folder == name], name, options.plots, console)
    console.print(table(rows))
    console.print(PAPER)


def _cases(
    options: argparse.Namespace, fit_to: Sequence[Path], scratch: Path, console: Console
) -> Iterator[Case]:
    """Name bundle and quantizer of each run, with tables fitted where that is asked for."""
    bundles = {"before": options.before, **({"after": options.after} if options.after else {})}
    for stage, bundle in bundles.items():
        source = find(bundle)
        for quantizer in options.quantizers.split(","):
            model, own = source, scratch / f"{stage}-{quantizer}.zip"
            if quantizer in ("round", "dither") or options.own_tables:
                console.print(f"{stage}: fitting tables for {label(quantizer)}")
            if quantizer == "dither":
                model = with_dither(source, map(read_pixels, fit_to), own)
            elif quantizer == "round" or options.own_tables:
                model = with_own_tables(
                    source,
                    [read_pixels(path) for path in fit_to],
                    own,
                    trellis=0 if quantizer == "round" else int(quantizer),
                    search="round" if quantizer == "round" else "trellis",
                )
            yield Case(stage, quantizer, model)


def _measure(
    cases: Sequence[Case], images: Sequence[Path], options: argparse.Namespace, console: Console
) -> dict[tuple[str, str], Measured]:
    """Run all cases on one folder: results by stage and quantizer."""
    qualities = tuple(float(q) for q in options.quality.split(","))
    results: dict[tuple[str, str], Measured] = {}
    by_spec: dict[Spec, list[Measured]] = {}  # "before" and "after" may be one bundle
    for case in cases:
        codec = make(case.spec)
        name = f"{case.stage} {case.quantizer}"
        result = Measured(name, codec.settings, codec.versions)
        results[case.stage, case.quantizer] = result
        by_spec.setdefault(case.spec, []).append(result)
    wanted = tuple(map(Wanted, qualities))
    tasks = [Task(spec, image, wanted) for spec in by_spec for image in images]
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        bar = progress.add_task("encode + decode", total=len(tasks) * len(qualities))
        for task, points in run_tasks(tasks, options.jobs, lambda n: progress.advance(bar, n)):
            for result in by_spec[task.spec]:
                result.points.extend(points)
    return results


def compare(
    folder: str, measured: dict[tuple[str, str], Measured], quantizers: Sequence[str]
) -> list[Row]:
    """Compare the mean curves with rounding before, and after with before."""
    curves = {case: result.mean_curve() for case, result in measured.items()}
    anchor = curves["before", "round"]
    rows = []
    for quantizer in quantizers:
        before = curves["before", quantizer]
        after = curves.get(("after", quantizer))
        rows.append(
            Row(
                folder,
                quantizer,
                bd_rate(before, anchor),
                after and bd_rate(after, anchor),
                after and bd_rate(after, before),
            )
        )
    return rows


def label(quantizer: str) -> str:
    """Return how a quantizer is called.

    Examples
    --------
    >>> label("8")
    'trellis, 8 states'
    """
    names = {"round": "rounding", "0": "RDOQ", "dither": "dither"}
    return names.get(quantizer) or f"trellis, {quantizer} states"


def table(rows: Sequence[Row]) -> Table:
    """Return the table of BD-rates."""
    out = Table(title="BD-rate in % (RGB PSNR, whole files); negative: fewer bits")
    out.add_column("pictures")
    out.add_column("quantizer")
    for name in ("before vs rounding", "after vs rounding before", "after vs before"):
        out.add_column(name, justify="right")
    for row in rows:
        cells = [_percent(rate) for rate in (row.before, row.after, row.gain)]
        out.add_row(row.folder, label(row.quantizer), *cells)
    return out


def _percent(rate: BdRate | None) -> str:
    return "-" if rate is None else f"{rate.percent:+.2f}"


def _plot(rows: Sequence[Row], name: str, folder: Path, console: Console) -> None:
    from benchmarks.plots import bars  # matplotlib takes a second to import

    labels = [label(row.quantizer) for row in rows]
    groups = {"before fine-tuning": [row.before for row in rows]}
    if any(row.after for row in rows):
        groups["after fine-tuning"] = [row.after for row in rows]
    values = {key: [-rate.percent if rate else 0.0 for rate in g] for key, g in groups.items()}
    title = f"{name}: bits saved against plain rounding, in %"
    for path in bars(labels, values, title, folder, f"quantizers-{name}"):
        console.print(f"wrote {path}")


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quantizers",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, action="append", required=True, metavar="DIR", help="folder(s)")
    add("--before", default="photo", metavar="BUNDLE", help="name or path (default photo)")
    add("--after", metavar="BUNDLE", help="the fine-tuned one; left out: only before")
    add("--quantizers", default=",".join(QUANTIZERS), help="must begin with round")
    add("--quality", default=",".join(f"{q:g}" for q in LADDER), help="the ladder")
    add("--own-tables", action="store_true", help="fit tables to every quantizer")
    add("--calibrate", type=Path, metavar="DIR", help="photos to fit tables to")
    add("--jobs", type=int, default=1, help="processes (default 1)")
    add("--limit", type=int, metavar="N", help="only the first N photos of each folder")
    add("--out", type=Path, default=Path("benchmarks/results"), metavar="DIR")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--no-plot", action="store_true", help="draw nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
