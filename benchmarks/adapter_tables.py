"""The table of docs/domains.md, from the record of `benchmarks.domains`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bdrate import Curve, bd_rate
from benchmarks.bootstrap import mean_interval
from benchmarks.domain_tables import DOMAINS
from benchmarks.speed_tables import table

Row = Mapping[str, Any]


def adapters(results: Path) -> str:
    """Draw BD-rates of adapted models against the model itself."""
    result = json.loads((results / "domains.json").read_text(encoding="utf-8"))
    rows = [row for rows in result["sets"].values() for row in rows]
    made = [row for row in rows if "steps" in row]  # the others were made elsewhere
    steps, minutes = (_range([row[name] for row in made]) for name in ("steps", "minutes"))
    machine = result["machine"]
    return (
        f"{drawn(result)}\n\n"
        f"*Made on {machine['date'][:10]}, {machine['processor']}; {minutes} minutes"
        f" of training a split, which made {steps} steps; adapters of"
        f" {rows[0]['parameters']:,} parameters and {rows[0]['bytes']:,} bytes.*"
    )


def _range(values: Sequence[float]) -> str:
    few, many = min(values), max(values)
    return f"{few:g}" if few == many else f"{few:g} to {many:g}"


def by_quality(results: Path) -> str:
    """Draw bytes and scores at each quality, means over the tested pictures of each set."""
    result = json.loads((results / "domains.json").read_text(encoding="utf-8"))
    head = "pictures", "quality", "bytes", "adapted", "SSIMULACRA 2", "adapted"
    lines = []
    for name, rows in result["sets"].items():
        if name not in DOMAINS:  # the same pictures in another way
            continue
        pictures = [picture for row in rows for picture in row["pictures"]]
        for i, quality in enumerate(result["qualities"]):
            own = [
                float(np.mean([picture[which][i][what] for picture in pictures]))
                for what, which in (
                    ("bytes", "plain"),
                    ("bytes", "adapted"),
                    ("ssimulacra2", "plain"),
                    ("ssimulacra2", "adapted"),
                )
            ]
            cells = [f"{value:,.0f}" for value in own[:2]] + [f"{value:.1f}" for value in own[2:]]
            lines.append([DOMAINS.get(name, name), str(quality), *cells])
    return table(head, lines)


def drawn(result: Row) -> str:
    """Draw the table of a record."""
    head = "pictures", "splits", "adapted to", "tested", "by SSIMULACRA 2", "by PSNR"
    lines = []
    for name, rows in result["sets"].items():
        count = sum(len(row["pictures"]) for row in rows)
        cells = [cell(rates(rows, "adapted", measure)) for measure in ("ssimulacra2", "psnr")]
        adapted_to = str(rows[0].get("adapted_to", "-"))
        lines.append([DOMAINS.get(name, name), str(len(rows)), adapted_to, str(count), *cells])
    return table(head, lines)


def pairs(results: Path) -> str:
    """Draw adapters beside models all of whose free weights were trained on the same pictures."""
    result = json.loads((results / "domains.json").read_text(encoding="utf-8"))
    machine = result["pairs_machine"]
    return f"{paired(result)}\n\n*Made on {machine['date'][:10]}, {machine['processor']}.*"


def paired(result: Row) -> str:
    """Draw the table of pairs: a row for each set and each way of training."""
    head = ("pictures", "trained", "minutes", "steps", "tested", "by SSIMULACRA 2", "by PSNR")
    lines = []
    for name, rows in result["pairs"].items():
        for which, what in (("adapter", "an adapter"), ("whole", "all weights")):
            own = [row[which] for row in rows]
            minutes = _range([row["adapter"]["minutes"] for row in rows])
            steps = _range([row["steps"] for row in own])
            count = sum(len(row["pictures"]) for row in own)
            cells = [cell(rates(own, "adapted", measure)) for measure in ("ssimulacra2", "psnr")]
            cells = [what, minutes, steps, str(count), *cells]
            lines.append([DOMAINS.get(name, name), *cells])
    return table(head, lines)


def rates(rows: Sequence[Row], which: str, measure: str) -> list[float]:
    """BD-rates of all tested pictures, in percent against the model without the adapter."""
    found = []
    for row in rows:
        for picture in row["pictures"]:
            test, anchor = (curve(picture[name], measure) for name in (which, "plain"))
            if (rate := bd_rate(test, anchor)) is not None:
                found.append(rate.percent)
    return found


def curve(rows: Sequence[Row], measure: str) -> Curve:
    """Return bytes and scores as a curve."""
    bits = np.array([row["bytes"] for row in rows], float)
    return Curve(bits, np.array([row[measure] for row in rows]))


def cell(values: Sequence[float]) -> str:
    """Return a mean in percent and its 95 % interval; a dash if there are too few values."""
    interval = mean_interval(values)
    if interval is None:
        return "-"
    return f"{np.mean(values):+.1f} % ({interval[0]:+.1f} to {interval[1]:+.1f})"
