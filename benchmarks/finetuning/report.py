"""BD-rates of all arms against the start, with intervals over pictures and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bdrate import bd_rate, frontier
from benchmarks.bootstrap import two_way_interval
from benchmarks.finetuning.arms import ARMS
from benchmarks.finetuning.evaluate import curve_of
from benchmarks.pchip import Pchip

PLATEAU = 0.02  # dB: less than this gained by more of the same is a plateau
Floats = npt.NDArray[np.float64]
Points = Mapping[str, list[list[float]]]  # of each picture
Runs = Mapping[str, Mapping[str, Mapping[str, Points]]]  # by unit, folder, quantizer


def rates(
    runs: Runs, arm: str, seeds: Sequence[int], folder: str, quantizer: str, metric: int = 0
) -> Floats | None:
    """BD-rate in percent of each seed (rows) and picture against the start, same quantizer."""
    units = [f"{arm}-{seed}" for seed in seeds]
    if "start" not in runs or not all(unit in runs for unit in units):
        return None
    anchor = runs["start"][folder][quantizer]
    rows = []
    for unit in units:
        points = runs[unit][folder][quantizer]
        found = [
            bd_rate(curve_of(points[name], metric), curve_of(anchor[name], metric))
            for name in anchor
        ]
        rows.append([np.nan if one is None else one.percent for one in found])
    table = np.array(rows)
    return table[:, ~np.isnan(table).any(0)]


def decibels(
    runs: Runs, arm: str, seeds: Sequence[int], folder: str, quantizer: str
) -> float | None:
    """Mean gain of PSNR at equal rate against the start, over pictures and seeds."""
    gains = []
    for seed in seeds:
        if f"{arm}-{seed}" not in runs or "start" not in runs:
            return None
        anchor = runs["start"][folder][quantizer]
        for name, points in runs[f"{arm}-{seed}"][folder][quantizer].items():
            test, base = frontier(curve_of(points)), frontier(curve_of(anchor[name]))
            low, high = (np.log([c.bpp[at] for c in (test, base)]) for at in (0, -1))
            if min(len(test.bpp), len(base.bpp)) > 1 and high.min() > low.max():
                means = [
                    Pchip(np.log(c.bpp), c.quality).mean(low.max(), high.min())
                    for c in (test, base)
                ]
                gains.append(means[0] - means[1])
    return float(np.mean(gains)) if gains else None


def summary(
    runs: Runs,
    seeds: Sequence[int],
    folders: Sequence[str],
    quantizers: Sequence[str],
    metrics: Sequence[str] = ("psnr",),
) -> list[dict[str, Any]]:
    """One row for each folder, metric, arm and quantizer; those that lack a seed are left out.

    ``over_proxy`` is the difference to the control: the same decoder trained by the stand-in.
    """
    rows = []
    cells = product(folders, enumerate(metrics), ARMS, quantizers)
    for folder, (number, metric), arm, quantizer in cells:
        where = folder, quantizer, number
        found = rates(runs, arm, seeds, *where)
        if found is None or not found.size:
            continue
        row = {"folder": folder, "metric": metric, "arm": arm, "quantizer": quantizer}
        row |= _interval(found)
        if metric == "psnr":
            row["decibels"] = decibels(runs, arm, seeds, folder, quantizer)
        control = rates(runs, "proxy-decoder", seeds, *where)
        if control is not None and control.shape == found.shape:
            row["over_proxy"] = _interval(found - control)
        rows.append(row)
    return rows


def _interval(table: Floats) -> dict[str, Any]:
    return {"percent": float(table.mean()), "interval": two_way_interval(table)}


def plateau(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the start is a plateau: what the whole network gains by more of the same."""
    gains = [
        row["decibels"]
        for row in rows
        if (row["metric"], row["arm"], row["quantizer"]) == ("psnr", "proxy", "round")
    ]
    if not gains or None in gains:
        return "The arm proxy is missing: whether the start is a plateau is not known."
    gain = float(np.mean(gains))
    verdict = "a plateau" if gain < PLATEAU else "no plateau: train the first stage on"
    return (
        f"More of the first stage gains {gain:+.3f} dB (limit {PLATEAU}): the start is {verdict}."
    )


def markdown(rows: Sequence[Mapping[str, Any]], quantizers: Sequence[str]) -> str:
    """Tables of all folders and metrics: percent of bits at equal score against the start."""
    names = {"round": "rounding", "0": "RDOQ"}
    head = [names.get(q, f"{q} states") for q in quantizers]
    lines = []
    for folder, metric in dict.fromkeys((row["folder"], row["metric"]) for row in rows):
        lines += [f"{folder}, {metric}: decoded by", "", f"| trained | {' | '.join(head)} |"]
        lines += [f"|---|{'---:|' * len(head)}"]
        here = [row for row in rows if (row["folder"], row["metric"]) == (folder, metric)]
        for arm in dict.fromkeys(row["arm"] for row in here):
            mine = {row["quantizer"]: row for row in here if row["arm"] == arm}
            cells = [_cell(mine[q]) if q in mine else "-" for q in quantizers]
            lines.append(f"| {ARMS[arm].what} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: Mapping[str, Any]) -> str:
    interval = row["interval"]
    around = f" ({interval[0]:+.2f} to {interval[1]:+.2f})" if interval else ""
    return f"{row['percent']:+.2f}{around}"
