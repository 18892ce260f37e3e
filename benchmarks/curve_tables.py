"""Tables from the validation curves that runs of training left in docs/experiments/*.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from benchmarks.bdrate import Curve, bd_rate
from benchmarks.speed_tables import table

MEASURES: Final = {
    "psnr": "PSNR",
    "ssimulacra2": "SSIMULACRA 2",
    "ms_ssim": "MS-SSIM",
    "jod": "CVVDP",
}
LOW: Final = 60.0
"""The highest quality that counts as a low rate."""

Point = dict[str, float]


class Step(NamedTuple):
    """One validation of a run: a point at each quality."""

    step: int
    minutes: float
    points: list[Point]


def curve(results: Path, name: str) -> list[Step]:
    """Read docs/experiments/NAME.csv: the validations in order, the first being the start."""
    path = results.parents[1] / "docs" / "experiments" / f"{name}.csv"
    steps: dict[int, Step] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step = int(row["step"])
            one = steps.setdefault(step, Step(step, float(row["minutes"]), []))
            one.points.append({key: float(value) for key, value in row.items()})
    return list(steps.values())


def change(tested: Sequence[Point], start: Sequence[Point], measure: str) -> float:
    """Return the BD-rate in percent of one validation against another."""
    rate = bd_rate(_curve(tested, measure), _curve(start, measure))
    if rate is None:
        raise ValueError(f"the curves share no {measure}")
    return rate.percent


def _curve(points: Sequence[Point], measure: str) -> Curve:
    return Curve(*(np.array([point[key] for point in points]) for key in ("bpp", measure)))


def low(points: Sequence[Point]) -> list[Point]:
    """Return the points of low rates."""
    return [point for point in points if point["quality"] <= LOW]


def coarse_stage(results: Path) -> str:
    """Draw what a stage at 1/32 changed while it was trained."""
    return _changes(results, "coarse-stage-curve", (200, 600, 1171))


def encoder(results: Path) -> str:
    """Draw what training an encoder alone changed."""
    return _changes(results, "encoder-curve", (500, 1179))


def _changes(results: Path, name: str, steps: Sequence[int]) -> str:
    start, *later = curve(results, name)
    shown = [step for step in later if step.step in steps]
    rows = []
    for name, part in (("all six", list), (f"{LOW:g} and lower", low)):
        for step in shown:
            found = (change(part(step.points), part(start.points), m) for m in MEASURES)
            cells = [f"{value:+.1f}" for value in found]
            rows.append([f"{step.step:,}", f"{step.minutes:.0f}", name, *cells])
    return table(["step", "minutes", "qualities", *MEASURES.values()], rows)


def learning_curve(results: Path) -> str:
    """Draw BD-rate against AVIF over the minutes of training of `photo-psnr`."""
    path = results / "learning-curve-photo.json"
    found = json.loads(path.read_text(encoding="utf-8"))["bd_rate_percent"]
    head = ["minutes on two shared cores", *found]
    return table(head, [["BD-rate against AVIF", *(f"{rate:+.1f} %" for rate in found.values())]])


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "coarse-stage": coarse_stage,
    "learning-curve": learning_curve,
    "encoder-curve": encoder,
}
