"""Rate-distortion benchmark: Trellic and other codecs on a folder of photos.

::

    python -m benchmarks.rd --images DIR --codecs trellic,jpeg,webp,avif,jxl,heic [--published]

Every codec runs over a ladder of its own quality settings on every picture. Sizes are those of
whole files, pictures come from real decoders, and PSNR is over the RGB samples at 8 bits. It prints
the mean curves and a table of BD-rates (negative: fewer bits than the anchor), and writes JSON and
plots. Nothing is taken from an earlier run unless ``--reuse`` names its JSON (or the .partial.json
of a run that was broken off); a codec must then have the same settings, versions and pictures.

A codec may carry options: ``avif:speed=3``, ``avif:tune=psnr``, ``heic:tune=psnr``,
``jpeg:tune=psnr``, ``jxl:effort=9``, ``trellic:trellis=32:decoder=fast``.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import _machine, published, tables
from benchmarks.bdrate import Curve
from benchmarks.codecs import CodecUnavailableError, Spec, SpecError, make
from benchmarks.labels import label
from benchmarks.measure import Task, describe_image, find_images, run_tasks
from benchmarks.runs import Comparison, Measured, compare, compare_curves, load, save

PACKAGES = ("numpy", "pillow", "imagecodecs", "pillow-heif", "pyvips-binary", "onnxruntime")
LIVE_ANCHORS = ("jpeg", "webp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return the exit code."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        run(options, console)
    except (CodecUnavailableError, SpecError, FileNotFoundError, UsageError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    return 0


class UsageError(ValueError):
    """Options contradict each other or the pictures."""


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, compare, print and write."""
    images = find_images(options.images)[: options.limit]
    if options.published and not published.is_kodak([path.name for path in images]):
        raise UsageError("--published needs exactly the 24 Kodak photos (kodim01 to kodim24)")
    specs, bpp_range = _specs(options), _bpp_range(options)
    stem = f"rd-{options.name or options.images.resolve().name}"
    out = options.out or Path("benchmarks/results") / f"{stem}.json"
    head: dict[str, object] = {
        "benchmark": "rd",
        "machine": _machine.describe(PACKAGES),
        "images": [describe_image(path) for path in images],
        "bpp_range": bpp_range,
        "bd_note": "percent at equal RGB PSNR (PCHIP of log-rate); bpp_range is the codec's",
    }
    partial = out.with_suffix(".partial.json")
    codecs = measure(
        specs, images, options, console, keep=lambda done: save(partial, head, done, [])
    )
    comparisons = compare_all(codecs, options.published, bpp_range)
    if not options.brief:
        console.print(tables.mean_points(codecs))
    console.print(tables.bd_rates(comparisons, bpp_range))
    save(out, head, codecs, [asdict(comparison) for comparison in comparisons])
    partial.unlink(missing_ok=True)
    console.print(f"wrote {out}")
    if not options.no_plot:
        _plot(codecs, options, stem, console)


def measure(
    specs: Sequence[Spec],
    images: Sequence[Path],
    options: argparse.Namespace,
    console: Console,
    keep: Callable[[list[Measured]], None],
) -> list[Measured]:
    """Run the codecs, taking over what ``--reuse`` offers and fits.

    ``keep`` gets all finished codecs whenever one finishes, so that a run that is broken off can be
    taken up again.
    """
    results, tasks = _plan(specs, images, options, console)
    left = Counter(task.spec for task in tasks)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress:
        total = sum(len(task.qualities) for task in tasks)
        bar = progress.add_task("encode + decode", total=total)
        for task, points in run_tasks(tasks, options.jobs, lambda n: progress.advance(bar, n)):
            progress.update(bar, description=f"{task.spec} {task.image.name}")
            results[task.spec].points.extend(points)
            left[task.spec] -= 1
            if not left[task.spec]:
                keep([result for spec, result in results.items() if not left[spec]])
    return list(results.values())


def _plan(
    specs: Sequence[Spec], images: Sequence[Path], options: argparse.Namespace, console: Console
) -> tuple[dict[Spec, Measured], list[Task]]:
    """Return each codec's result, still empty or reused, and the tasks that fill the empty ones."""
    ladders = _ladders(options.quality)
    offered = _offered(options, images)
    results: dict[Spec, Measured] = {}
    tasks: list[Task] = []
    for spec in specs:
        codec = make(spec)
        qualities = ladders.get(spec.name, codec.ladder)
        results[spec] = Measured(str(spec), codec.settings, codec.versions)
        if (old := _reusable(results[spec], qualities, images, offered, options)) is not None:
            console.print(f"{spec}: taken from {options.reuse.name}")
            results[spec] = old
        else:
            tasks += [Task(spec, image, qualities, options.ms_ssim) for image in images]
    return results, tasks


def compare_all(
    codecs: Sequence[Measured], with_published: bool, bpp_range: tuple[float, float] | None
) -> list[Comparison]:
    """Compare every codec with JPEG, WebP and, if wanted, both published VTM curves."""
    by_spec = {codec.spec: codec for codec in codecs}
    anchors = [by_spec[name] for name in LIVE_ANCHORS if name in by_spec]
    comparisons = [
        compare(codec, anchor, bpp_range)
        for codec in codecs
        for anchor in anchors
        if codec is not anchor
    ]
    if not with_published:
        return comparisons
    known = published.load()
    published_anchors = [(one.label, one.curve) for one in known if one.name in published.VTM]
    live_anchors = [(anchor.spec, anchor.mean_curve()) for anchor in anchors]
    live = [(codec.spec, codec.mean_curve()) for codec in codecs]
    comparisons += _against(live, published_anchors, bpp_range)
    rows = [(one.label, one.curve) for one in known]
    return comparisons + _against(rows, live_anchors + published_anchors, bpp_range)


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


def _specs(options: argparse.Namespace) -> list[Spec]:
    """Read the codecs, one Trellic for each ``--trellis``."""
    specs = []
    for spec in map(Spec.parse, options.codecs.split(",")):
        if spec.name != "trellic":
            specs.append(spec)
            continue
        chosen = {**({"model": options.model} if options.model else {}), **dict(spec.options)}
        for states in options.trellis.split(",") if options.trellis else [None]:
            more = {} if states is None else {"trellis": states}
            specs.append(Spec("trellic", tuple({**chosen, **more}.items())))
    if len({str(spec) for spec in specs}) < len(specs):
        raise UsageError("a codec is named twice")
    return specs


def _ladders(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
    ladders = {}
    for text in texts:
        name, _, values = text.partition("=")
        try:
            ladders[name] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise UsageError(f"--quality {text!r}: expected CODEC=NUMBER,NUMBER,...") from None
    return ladders


def _offered(options: argparse.Namespace, images: Sequence[Path]) -> list[Measured]:
    """Read an earlier run, if it was on the very same pictures."""
    if options.reuse is None:
        return []
    head, codecs = load(options.reuse)
    if head["images"] != [describe_image(path) for path in images]:
        raise UsageError(f"{options.reuse} was measured on other pictures")
    return codecs


def _reusable(
    wanted: Measured,
    qualities: Sequence[float],
    images: Sequence[Path],
    offered: Sequence[Measured],
    options: argparse.Namespace,
) -> Measured | None:
    """Find an earlier result of the same settings, versions, pictures and qualities."""
    expected = {(image.name, float(quality)) for image in images for quality in qualities}
    for old in offered:
        same = (old.spec, old.settings, old.versions) == (
            wanted.spec,
            wanted.settings,
            wanted.versions,
        )
        points = {(point.image, float(point.quality)) for point in old.points}
        has_metric = not options.ms_ssim or all(p.ms_ssim is not None for p in old.points)
        if same and points == expected and has_metric:
            return old
    return None


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

    lines = [
        Line(label(codec.spec), codec.mean_curve(), ours=codec.spec.startswith("trellic"))
        for codec in codecs
    ]
    if options.published:
        known = {one.name: one for one in published.load()}
        lines += [Line(name, known[name].curve, published=True) for name in published.PLOTTED]
    images = {point.image for codec in codecs for point in codec.points}
    name = "Kodak" if published.is_kodak(sorted(images)) else stem.removeprefix("rd-")
    title = f"{name}, {len(images)} photos: mean PSNR over rate"
    for path in rd_plots(lines, title, options.plots, stem, options.plot_bpp):
        console.print(f"wrote {path}")


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
    add("--model", metavar="NAME|PATH", help="Trellic's model (default photo)")
    add("--quality", action="append", default=[], metavar="CODEC=Q,Q", help="replace a ladder")
    add("--bpp-min", type=float, help="BD-rates only where the codec spends at least this")
    add("--bpp-max", type=float, help="BD-rates only where the codec spends at most this")
    add("--ms-ssim", action="store_true", help="compute MS-SSIM too")
    add("--jobs", type=int, default=1, help="processes (default 1)")
    add("--limit", type=int, metavar="N", help="only the first N photos")
    add("--reuse", type=Path, metavar="JSON", help="take over unchanged codecs from an earlier run")
    add("--name", help="name of the data set (default: the folder's)")
    add("--out", type=Path, metavar="JSON", help="default benchmarks/results/rd-NAME.json")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    add("--plot-bpp", type=float, default=1.5, help="right end of the plot")
    add("--no-plot", action="store_true", help="draw nothing")
    add("--brief", action="store_true", help="print the BD-rates only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
