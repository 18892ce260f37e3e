"""Rate-distortion benchmark: Trellic and other codecs on a folder of photos.

::

    python -m benchmarks.rd --images DIR --codecs trellic,jpeg,webp,avif,jxl,heic [--published]

Every codec runs over a ladder of its own quality settings on every picture. Sizes are those of
whole files, pictures come from real decoders, and PSNR is over the RGB samples at 8 bits. It prints
the mean curves and a table of BD-rates (negative: fewer bits than the anchor) for each metric, and
writes JSON, a Markdown table and plots. Nothing is taken from an earlier run unless ``--reuse``
names its JSON (or the .partial.json of a run that was broken off); a point is then taken over if
its codec's settings and versions and its picture are the same and it has the metrics wanted.
``--files DIR`` keeps the encoded files, so that more metrics can be added without encoding again.

A codec may carry options: ``avif:speed=3``, ``avif:tune=psnr``, ``heic:tune=psnr``,
``jpeg:tune=psnr``, ``jxl:effort=9``, ``trellic:trellis=32:decoder=fast``.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import _machine, plan, published, scores, tables
from benchmarks.bdrate import Curve
from benchmarks.codecs import CodecUnavailableError, Spec, SpecError, make
from benchmarks.labels import label
from benchmarks.measure import Task, describe_image, find_images, run_tasks
from benchmarks.plan import UsageError
from benchmarks.runs import Comparison, Measured, compare, compare_curves, save
from benchmarks.scores import SCORES, ScoreUnavailableError

ERRORS = (
    CodecUnavailableError,
    ScoreUnavailableError,
    SpecError,
    FileNotFoundError,
    UsageError,
)
EVERY_HELP = "compute metrics other than PSNR at each N-th quality only (default 1)"
QUALITY_HELP = "replace a ladder; CODEC may have options, as --codecs has them"
PACKAGES = (
    "numpy",
    "pillow",
    "imagecodecs",
    "pillow-heif",
    "pyvips-binary",
    "onnxruntime",
    "ssimulacra2",
    "torch",
    "cvvdp",
    "piq",
    "flip-evaluator",
    "ajpegli",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        run(options, console)
    except ERRORS as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, compare, print and write."""
    images = find_images(options.images)[: options.limit]
    if options.published and not published.is_kodak([path.name for path in images]):
        raise UsageError("--published needs exactly the 24 Kodak photos (kodim01 to kodim24)")
    specs, bpp_range = plan.specs(options), _bpp_range(options)
    stem = f"rd-{options.name or options.images.resolve().name}"
    out = options.out or Path("benchmarks/results") / f"{stem}.json"
    earlier = plan.Earlier(options.reuse, images)
    head: dict[str, object] = {
        "benchmark": "rd",
        "machine": _machine.describe(PACKAGES),
        "reused_from": earlier.machine,
        "images": [describe_image(path) for path in images],
        "bpp_range": bpp_range,
        "bd_note": "percent at equal score (PCHIP of log-rate); bpp_range is the codec's; ci95 of "
        "per_image by bootstrap over pictures",
    }
    partial = out.with_suffix(".partial.json")
    tasks, results = _plan(specs, images, options, earlier)
    for spec, result in results.items():
        if result.points:
            console.print(f"{spec}: {len(result.points)} points taken from earlier runs")
    codecs = measure(
        tasks, results, options.jobs, console, lambda x: save(partial, head, x, []), earlier
    )
    comparisons = compare_all(codecs, options.anchors.split(","), options.published, bpp_range)
    if not options.brief:
        console.print(tables.mean_points(codecs))
    by_score = {name: [c for c in comparisons if c.score == name] for name in SCORES}
    for chosen in filter(None, by_score.values()):
        console.print(tables.bd_rates(chosen, bpp_range))
    save(out, head, codecs, [asdict(comparison) for comparison in comparisons])
    partial.unlink(missing_ok=True)
    out.with_suffix(".md").write_text(tables.page(comparisons, bpp_range), encoding="utf-8")
    console.print(f"wrote {out} and {out.with_suffix('.md').name}")
    if not options.no_plot:
        _plot(codecs, options, stem, console)


def measure(
    tasks: Sequence[Task],
    results: Mapping[Spec, Measured],
    jobs: int,
    console: Console,
    keep: Callable[[list[Measured]], None],
    earlier: plan.Earlier,
) -> list[Measured]:
    """Do the tasks, adding their points to the results.

    ``keep`` gets all there is whenever a codec is done with a picture, so that a run that is broken
    off can be taken up again. Scores that an earlier run has of the same file are not lost.
    """
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        bar = progress.add_task("encode + decode", total=sum(len(task.points) for task in tasks))
        for task, points in run_tasks(tasks, jobs, lambda n: progress.advance(bar, n)):
            progress.update(bar, description=f"{task.spec} {task.image.name}")
            result = results[task.spec]
            old = earlier.points(result)
            result.points.extend(
                plan.with_scores_of(point, old.get((point.image, float(point.quality))))
                for point in points
            )
            result.points.sort(key=lambda point: (point.image, point.bpp))
            keep([result for result in results.values() if result.points])
    return list(results.values())


def _plan(
    specs: Sequence[Spec],
    images: Sequence[Path],
    options: argparse.Namespace,
    earlier: plan.Earlier,
) -> tuple[list[Task], dict[Spec, Measured]]:
    """Return what is left to do, and each codec's result, empty or with points taken over."""
    ladders, names = plan.ladders(options.quality), scores.parse(options.metrics)
    results: dict[Spec, Measured] = {}
    tasks: list[Task] = []
    for spec in specs:
        codec = make(spec)
        asked = ladders.get(str(spec)) or ladders.get(spec.name)
        ladder = asked or plan.thinned(codec.ladder, options.points)
        wanted = plan.wanted_points(ladder, names, options.metric_every)
        results[spec], missing = plan.plan(spec, codec, images, wanted, earlier, options.files)
        tasks += missing
    return tasks, results


def compare_all(
    codecs: Sequence[Measured],
    anchors: Sequence[str],
    with_published: bool,
    bpp_range: tuple[float, float] | None,
) -> list[Comparison]:
    """Compare every codec with the anchors, by every score that both have.

    Published curves, if wanted, are compared by PSNR, and both VTM curves are anchors too.
    """
    by_spec = {codec.spec: codec for codec in codecs}
    live_anchors = [by_spec[name] for name in anchors if name in by_spec]
    comparisons = [
        compare(codec, anchor, bpp_range, score)
        for score in SCORES
        for codec in codecs
        for anchor in live_anchors
        if codec is not anchor and score in codec.scores() and score in anchor.scores()
    ]
    if not with_published:
        return comparisons
    known = published.load()
    theirs = [(one.label, one.curve) for one in known if one.name in published.VTM]
    ours = [(anchor.spec, anchor.mean_curve()) for anchor in live_anchors]
    live = [(codec.spec, codec.mean_curve()) for codec in codecs]
    comparisons += _against(live, theirs, bpp_range)
    rows = [(one.label, one.curve) for one in known]
    return comparisons + _against(rows, ours + theirs, bpp_range)


def _against(
    rows: Sequence[tuple[str, Curve]],
    anchors: Sequence[tuple[str, Curve]],
    bpp_range: tuple[float, float] | None,
) -> list[Comparison]:
    return [
        compare_curves(name, curve, anchor, against, bpp_range)
        for name, curve in rows
        for anchor, against in anchors
        if name != anchor
    ]


def _bpp_range(options: argparse.Namespace) -> tuple[float, float] | None:
    if options.bpp_min is None and options.bpp_max is None:
        return None
    low, high = options.bpp_min or 0.01, options.bpp_max or 24.0
    if not 0 < low < high:
        raise UsageError(f"--bpp-min {low:g} must be positive and below --bpp-max {high:g}")
    return low, high


def _plot(
    codecs: Sequence[Measured], options: argparse.Namespace, stem: str, console: Console
) -> None:
    from benchmarks.plots import Line, rd_plots  # matplotlib takes a second to import

    images = {point.image for codec in codecs for point in codec.points}
    name = "Kodak" if published.is_kodak(sorted(images)) else stem.removeprefix("rd-")
    for score in SCORES:
        lines = [
            Line(label(codec.spec), codec.mean_curve(score), ours=codec.spec.startswith("trellic"))
            for codec in codecs
            if score in codec.scores()
        ]
        if not lines:
            continue
        if options.published and score == "psnr":
            known = {one.name: one for one in published.load()}
            lines += [Line(name, known[name].curve, published=True) for name in published.PLOTTED]
        title = f"{name}, {len(images)} photos: mean {SCORES[score].label} over rate"
        file = stem if score == "psnr" else f"{stem}-{score}"
        axis = SCORES[score].axis
        for path in rd_plots(lines, title, options.plots, file, options.plot_bpp, axis):
            console.print(f"wrote {path}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _several(text: str) -> int:
    if (value := int(text)) < 2:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rd",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
    add("--codecs", default="trellic,jpeg,webp,avif,jxl,heic", help="separated by commas")
    add("--published", action="store_true", help="add published curves (Kodak only)")
    add("--trellis", metavar="N,N", help="run Trellic once for each number of states")
    add("--decoders", metavar="NAME,NAME", help="and for each of these decoders; all: the model's")
    add("--model", metavar="NAME|PATH", help="Trellic's model (default photo)")
    add(
        "--quality",
        action="append",
        default=[],
        metavar="CODEC=Q,Q",
        help="replace a ladder; CODEC may have options",
    )
    add("--points", type=_several, metavar="N", help="only N qualities of each ladder")
    add("--bpp-min", type=float, help="BD-rates only where the codec spends at least this")
    add("--bpp-max", type=float, help="BD-rates only where the codec spends at most this")
    add("--metrics", default="psnr", help=f"of {', '.join(SCORES)}; eye: {', '.join(scores.EYE)}")
    add("--metric-every", type=_positive, default=1, metavar="N", help=EVERY_HELP)
    add("--anchors", default="jpeg,webp,avif", help="codecs to compare the others with")
    add("--jobs", type=int, default=1, help="processes (default 1)")
    add("--limit", type=int, metavar="N", help="only the first N photos")
    add(
        "--reuse",
        type=Path,
        action="append",
        default=[],
        metavar="JSON",
        help="take over an earlier run's points; may be repeated",
    )
    add(
        "--files",
        type=Path,
        metavar="DIR",
        help="keep encoded files there: a later run that asks for more metrics only decodes them",
    )
    add("--name", help="name of the data set (default: the folder's)")
    add("--out", type=Path, metavar="JSON", help="default benchmarks/results/rd-NAME.json")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--plot-bpp", type=float, default=1.5, help="right end of the plot")
    add("--no-plot", action="store_true", help="draw nothing")
    add("--brief", action="store_true", help="print the BD-rates only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
