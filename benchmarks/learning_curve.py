"""BD-rate over training time: the learning curve of a run, and what twice the time would gain.

::

    python -m benchmarks.learning_curve CURVE.csv --photos DIR [--add 118=WEIGHTS.pt]

``trellic train`` writes ``curve.csv``. The anchor is AVIF (aom, speed 6) on the same crops of
validation photos, in whole files; the model's bits are its own estimate with plain rounding, so
real files with a trellis do better. ``--add`` measures weights of a run that has no curve and
writes their points into the file first. The gain of doubling the time is read off a straight line
through BD-rate over the logarithm of time, fitted to the second half of the points.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track

from benchmarks import _machine
from benchmarks.bdrate import Curve, bd_rate
from benchmarks.codecs import Spec, make
from benchmarks.metrics import psnr
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.weights import load_weights
from trellic_training.stages.learning_curve import append_points
from trellic_training.stages.validation import PHOTOS, validation_crops

ANCHOR = "avif:speed=6"
BPP_RANGE = (0.15, 1.0)
LEAST = 3  # points that a line is fitted to

Points = dict[float, Curve]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write JSON and plots."""
    options = _parser().parse_args(arguments)
    console = Console()
    pack = PackedPhotos(options.photos)
    for text in options.add or []:
        _add(options.curve, *text.split("=", 1), pack)
    anchor = _anchor(pack, console)
    rates = {
        minutes: found.percent
        for minutes, curve in read(options.curve).items()
        if (found := bd_rate(curve, anchor, BPP_RANGE))
    }
    result: dict[str, Any] = {
        "benchmark": "learning_curve",
        "machine": _machine.describe(("pillow", "torch")),
        "anchor": ANCHOR,
        "bpp_range": BPP_RANGE,
        "bd_rate_percent": {f"{minutes:g}": rate for minutes, rate in rates.items()},
        "gain_of_doubling_percent": doubling(rates),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if not rates:
        console.print(f"error: no curve reaches {BPP_RANGE[0]} to {BPP_RANGE[1]} bit a pixel")
        return 1
    rows = [[f"{minutes:.0f}", f"{rate:+.1f} %"] for minutes, rate in rates.items()]
    console.print(table(("minutes", "BD-rate against AVIF"), rows), markup=False, highlight=False)
    console.print(f"twice the time: {result['gain_of_doubling_percent']} points", highlight=False)
    for path in write(lambda theme: _draw(rates, theme), options.plots, options.out.stem):
        console.print(f"wrote {path}")
    return 0


def read(path: Path) -> Points:
    """Return the rate-distortion curve at each time, in minutes."""
    points: dict[float, list[tuple[float, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            point = float(row["bpp"]), float(row["psnr"])
            points.setdefault(float(row["minutes"]), []).append(point)
    return {m: Curve(*np.array(points[m]).T) for m in sorted(points) if m > 0}


def doubling(rates: Mapping[float, float]) -> float | None:
    """Return the change of BD-rate for twice the time, in points; None with too few points."""
    late = list(rates.items())[len(rates) // 2 :]
    if len(late) < LEAST:
        return None
    minutes, percent = np.array(late).T
    slope: npt.NDArray[np.float64] = np.polyfit(np.log2(minutes), percent, 1)
    return round(float(slope[0]), 2)


def _add(path: Path, minutes: str, weights: str, pack: PackedPhotos) -> None:
    """Measure weights and append their points."""
    model, facts = load_weights(Path(weights))
    crops = validation_crops(pack, PHOTOS)
    append_points(path, facts.get("steps", 0), minutes, model.eval(), crops)


def _anchor(pack: PackedPhotos, console: Console) -> Curve:
    """Return the mean curve of the anchor on the same crops."""
    crops = validation_crops(pack, PHOTOS).permute(0, 2, 3, 1).numpy()
    pictures = np.round((crops + 0.5) * 255).astype(np.uint8)
    codec = make(Spec.parse(ANCHOR))
    points = []
    for quality in track(codec.ladder, "AVIF on the same crops", console=console, transient=True):
        files = [codec.encode(picture, quality) for picture in pictures]
        bpp = np.mean([8 * len(data) for data in files]) / pictures[0, :, :, 0].size
        pairs = zip(pictures, files, strict=True)
        points.append((bpp, np.mean([psnr(p, codec.decode(data)) for p, data in pairs])))
    return Curve(*np.array(points).T)


def _draw(rates: Mapping[float, float], theme: Theme) -> Figure:
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(theme.background)
    line = {"color": theme.ours, "marker": "o", "ms": 3, "label": "averaged weights"}
    axes.plot(list(rates), list(rates.values()), **line)
    axes.set_xscale("log")
    ticks = [m for m in (5, 10, 20, 50, 100, 200, 500, 1000) if min(rates) <= m <= max(rates)]
    axes.set_xticks(ticks, [str(m) for m in ticks])
    axes.minorticks_off()
    axes.set_xlabel("minutes of training", color=theme.text)
    colour_axes(axes, "BD-rate against AVIF in %, validation crops, model's estimate", theme)
    return figure


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning_curve",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("curve", type=Path, metavar="CURVE.csv", help="of a run")
    add("--photos", type=Path, required=True, metavar="DIR", help="the run's packed photos")
    add("--add", action="append", metavar="MINUTES=WEIGHTS", help="points of other weights")
    default = Path("benchmarks/results/learning-curve.json")
    add("--out", type=Path, default=default, metavar="JSON", help=f"default {default}")
    add("--plots", type=Path, default=Path("docs/plots"), metavar="DIR", help="folder of plots")
    return parser


if __name__ == "__main__":
    sys.exit(main())
