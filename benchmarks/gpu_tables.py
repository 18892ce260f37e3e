"""Tables of what a GPU's host does: counts of a training step, Python's time for a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.speed_tables import table

EVERY: Final = 10  # steps between new bases


def _rows(results: Path, name: str, section: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((results / f"{name}.json").read_text("utf-8"))[section]
    return found


def step_total(rows: list[dict[str, Any]], recipe: str, what: str) -> float:
    """Return the operators or bytes of a mean step of a recipe: every tenth has new bases."""
    parts = {row["part"]: row[what] for row in rows if row["recipe"] == recipe}
    renewing = parts.pop("optimizer, new bases") - parts["optimizer"]
    return float(sum(parts.values()) + renewing / EVERY)


def train_step(results: Path) -> str:
    """Draw the operators of a step's parts, and the bytes of one crop in the networks' parts."""
    rows = _rows(results, "train-step", "parts")
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    of = {(row["recipe"], row["part"]): row for row in rows}
    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [of[recipe, part] for recipe in recipes]
        lines.append([part, *(f"{row['operators']:,}" for row in own)])
        lines[-1].append(str(sum(row.get("reads", 0) for row in own)))
    whole = [f"**{step_total(rows, recipe, 'operators'):,.0f}**" for recipe in recipes]
    lines.append(["mean of ten steps", *whole, ""])
    moved = [
        sum(of[recipe, part]["bytes"] for part in ("forward", "backward")) / 1e9
        for recipe in recipes
    ]
    lines.append(["GB read and written for a crop", *(f"{one:.2f}" for one in moved), ""])
    head = ["part", *(f"operators, `{recipe}`" for recipe in recipes), "questions"]
    return table(head, lines)


def host(results: Path) -> str:
    """Draw the time of Python for a picture, in batches."""
    lines = [
        [
            f"{row['what']}, batch of {row['batch']}",
            f"{row['ms'] / row['batch']:.1f}",
            f"{row['engines']:.0f}",
            f"{row['launches']:.0f}",
            f"{row['graphs']:.0f}",
        ]
        for row in _rows(results, "gpu-host", "host")
    ]
    head = [
        "1080p",
        "ms a picture",
        "runs of networks a batch",
        "launches a batch",
        "graphs",
    ]
    return table(head, lines)


TABLES: Final[dict[str, Callable[[Path], str]]] = {"train-step": train_step, "gpu-host": host}
