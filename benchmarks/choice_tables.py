"""What choosing among adapters saves, and the tables of docs/experiments/choice.md."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.bdrate import Curve, bd_rate
from benchmarks.bootstrap import mean_interval
from benchmarks.choice_measure import MEASURES, prices
from benchmarks.domain_tables import DOMAINS
from benchmarks.speed_tables import table

LABELS = {"ssimulacra2": "SSIMULACRA 2", "psnr": "PSNR"}
PEAK = 255.0**2
Row = Mapping[str, Any]
Points = Sequence[Row]


def percent(test: Points, anchor: Points, measure: str) -> float:
    """BD-rate of a curve, in percent; nan where both cannot be compared."""
    curves = (
        Curve(np.array([p["bytes"] for p in one], float), np.array([p[measure] for p in one]))
        for one in (test, anchor)
    )
    found = bd_rate(*curves)
    return float("nan") if found is None else found.percent


def error(points: Points, measure: str) -> list[float]:
    """Return what an encoder weighs against bytes: squared error, or points that are missing."""
    if measure == "psnr":
        return [PEAK / 10 ** (point["psnr"] / 10) for point in points]
    return [100.0 - point[measure] for point in points]


def by_cost(curves: Sequence[Points], measure: str) -> list[Row]:
    """Choose a curve at each quality by bytes plus error, at the slope of the plain curve."""
    worth = prices([point["bytes"] for point in curves[0]], error(curves[0], measure))
    errors = [error(curve, measure) for curve in curves]
    chosen = []
    for i, value in enumerate(worth):
        costs = [
            curve[i]["bytes"] + value * wrong[i]
            for curve, wrong in zip(curves, errors, strict=True)
        ]
        chosen.append(curves[int(np.argmin(costs))][i])
    return chosen


def rates(picture: Row, measure: str) -> dict[str, float]:
    """Percent of bits of a picture, against no adapter, for each adapter and each way to choose."""
    plain, *adapted = picture["curves"]
    found = {str(i + 1): percent(one, plain, measure) for i, one in enumerate(adapted)}
    known = [rate for rate in found.values() if np.isfinite(rate)]
    found["best"] = min([0.0, *known])
    found["cost"] = percent(by_cost(picture["curves"], measure), plain, measure)
    if "by_slice" in picture:
        found["slices"] = percent(picture["by_slice"], plain, measure)
    return found


def _cell(values: Sequence[float]) -> str:
    values = [value for value in values if np.isfinite(value)]
    if not values:
        return "-"
    interval = mean_interval(values)
    between = "" if interval is None else f" ({interval[0]:+.1f} to {interval[1]:+.1f})"
    return f"{np.mean(values):+.2f} %{between}"


def markdown(record: Row) -> str:
    """Draw what each adapter, and choices for each picture, come to."""
    count = len(record["clusters"])
    names = [str(i + 1) for i in range(count)]
    head = ("pictures", "number", "by", *(f"adapter {n}" for n in names), "best", "by cost")
    lines = []
    for name, pictures in record["sets"].items():
        for measure in MEASURES:
            found = [rates(picture, measure) for picture in pictures]
            cells = [_cell([one[key] for one in found]) for key in (*names, "best", "cost")]
            lines.append([DOMAINS.get(name, name), str(len(pictures)), LABELS[measure], *cells])
    return table(head, lines)


def slices(record: Row) -> str:
    """Draw what a choice for each slice comes to, on pictures of several slices."""
    head = (
        "pictures",
        "number",
        "slices each",
        "by",
        "best for a picture",
        "by cost",
        "each slice",
    )
    lines = []
    for name, pictures in record["sets"].items():
        large = [picture for picture in pictures if picture["slices"] > 1]
        for measure in MEASURES if large else ():
            found = [rates(picture, measure) for picture in large]
            cells = [_cell([one[key] for one in found]) for key in ("best", "cost", "slices")]
            many = f"{np.mean([picture['slices'] for picture in large]):.1f}"
            lines.append([DOMAINS.get(name, name), str(len(large)), many, LABELS[measure], *cells])
    return table(head, lines)


def clusters(record: Row) -> str:
    """Draw the clusters: how many photos, from where, and how long each adapter was trained."""
    head = ("adapter", "photos", "most are from", "steps")
    lines = []
    for i, row in enumerate(record["clusters"]):
        ranked = sorted(row["sources"].items(), key=lambda pair: -pair[1])[:3]
        where = ", ".join(f"{name} ({count})" for name, count in ranked)
        lines.append([str(i + 1), f"{row['photos']:,}", where, f"{row['steps']:,}"])
    return table(head, lines)


TABLES = {"clusters": clusters, "pictures": markdown, "slices": slices}
