"""The tables of ablations, from their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.bdrate import Curve, bd_rate
from benchmarks.speed_tables import table

BASE: Final = "the recipe"
AGAIN: Final = " with seed 2"
SEEDS: Final = (BASE, "the same" + AGAIN)
ALL: Final = slice(None)
HIGH: Final = slice(3, None)  # the three highest of the six qualities


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table of the rows that are there."""
    rows = result["rows"]
    if BASE not in rows:
        return "The unchanged recipe is missing: no BD-rates."
    lines = [
        [row["topic"] or "-", name, f"{row['steps']:,}", _percent(row, rows[BASE])]
        for name, row in rows.items()
    ]
    return table(("topic", "changed", "steps", "BD-rate"), lines)


def by_seeds(result: Mapping[str, Any], topics: tuple[str, ...]) -> str:
    """Return the table of rows of some topics that were run with two seeds.

    Cells give the first seed / the second, each against the unchanged recipe of the same seed.
    Rounds code pictures again and again: what the tenth has lost against the first.
    """
    rows, lines = result["rows"], []
    for name, row in rows.items():
        if name.endswith(AGAIN) or (name != BASE and row["topic"] not in topics):
            continue
        second = rows.get(SEEDS[1] if name == BASE else name + AGAIN)
        seeds = [row, *([second] if second else [])]
        anchors = [rows[base] for base in SEEDS]
        pairs = list(zip(seeds, anchors, strict=False))
        if name == BASE:
            pairs = [(anchors[1], anchors[0])]
        cells = [" / ".join(_percent(*pair, part=part) for pair in pairs) for part in (ALL, HIGH)]
        first = " / ".join(f"{seed['rounds'][0]:.2f}" for seed in seeds)
        lost = " / ".join(f"{seed['rounds'][0] - seed['rounds'][-1]:.2f}" for seed in seeds)
        steps = " / ".join(f"{seed['steps']:,}" for seed in seeds)
        lines.append([name, steps, *cells, first, lost])
    head = (
        "changed",
        "steps",
        "BD-rate",
        "qualities 60 to 95",
        "round 1, dB",
        "lost by round 10, dB",
    )
    return table(head, lines)


def _percent(row: Mapping[str, Any], anchor: Mapping[str, Any], part: slice = ALL) -> str:
    found = bd_rate(_curve(row, part), _curve(anchor, part))
    return f"{found.percent:+.1f} %" if found else "-"


def _curve(row: Mapping[str, Any], part: slice) -> Curve:
    return Curve(np.array(row["bpp"][part]), np.array(row["psnr"][part]))


def _of(file: str, *topics: str) -> Callable[[Path], str]:
    def draw(results: Path) -> str:
        return by_seeds(json.loads((results / file).read_text(encoding="utf-8")), topics)

    return draw


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "ablation-attention": _of("ablation-small.json", "attention", "guidance"),
    "ablation-attention-added": _of("ablation-added.json", "attention"),
    "ablation-invertible": _of("ablation-small.json", "invertible"),
}
