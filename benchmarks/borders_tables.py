"""Tables and plot of `benchmarks.borders`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table

FAR = 8  # latents from a border: what is at least so far counts as inside
GRIDS = ((3, 4), (6, 8), (10, 10))  # slices of pictures of 12, 50 and 100 megapixels


def dependence(rows: int, columns: int) -> dict[str, float]:
    """Return what prediction from the left and from above takes from a grid of slices.

    "at once": slices that can be decoded at the same time, on average, of all that can be today;
    "for one": slices that have to be decoded for one of them, on average; 1 today.
    """
    slices = rows * columns
    for_one = np.mean([(r + 1) * (c + 1) for r in range(rows) for c in range(columns)])
    return {"at once": slices / (rows + columns - 1), "for one": float(for_one)}


def summary(record: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what each quality and size of slices comes to, over all pictures."""
    keys = dict.fromkeys((row["quality"], row["side"]) for row in record["rows"])
    for quality, side in keys:
        rows = [r for r in record["rows"] if (r["quality"], r["side"]) == (quality, side)]
        total = {key: sum(row[key] for row in rows) for key in ("bits", "whole")}
        shift = {key: sum(r["shifted"][key] for r in rows) for key in rows[0]["shifted"]}
        away = np.sum([row["by_distance"] for row in rows], axis=0)
        with np.errstate(invalid="ignore"):  # small slices have nothing that is far
            more = away[:, 0] / away[:, 1] - 1
        yield {
            "quality": quality,
            "side": side,
            "more": total["bits"] / total["whole"] - 1,
            "by_distance": more.tolist(),
            "best": shift["best"] / shift["none"] - 1,
            "before": shift["before"] / shift["none"] - 1,
            **{key: float(np.mean([r["seams"][key] for r in rows])) for key in rows[0]["seams"]},
        }


def markdown(record: Mapping[str, Any]) -> str:
    """Draw bits of slices and what shifted tables gain as Markdown."""
    head = (
        *("quality", "slices of", "bits more than as one slice", "at the border", "next to it"),
        *(f"{FAR} or more away", "shifted as in the slices before", "shifted as is best"),
    )
    rows = []
    for one in summary(record):
        away = [one["by_distance"][i] for i in (0, 1, FAR)]
        shares = (one["more"], *away, one["before"], one["best"])
        rows.append([*_named(one), *("-" if np.isnan(x) else _percent(x) for x in shares)])
    return table(head, rows)


def seam_table(record: Mapping[str, Any]) -> str:
    """Draw errors and jumps at borders as Markdown."""
    head = (
        *("quality", "slices of", "error at borders", "error inside"),
        *("jump across borders", "jump there in the original"),
    )
    keys = ("error", "inside", "jump", "original")
    rows = [[*_named(one), *(f"{one[key]:.3f}" for key in keys)] for one in summary(record)]
    return table(head, rows)


def _named(one: Mapping[str, Any]) -> tuple[str, str]:
    return f"{one['quality']:g}", f"{16 * one['side']} pixels"


def lost() -> str:
    """Draw what prediction across slices takes from parallel decoding and from regions."""
    head = ("slices", "at once today", "at once", "for a region of one slice today", "then")
    rows = []
    for grid in GRIDS:
        found = dependence(*grid)
        once = f"{found['at once']:.1f}"
        name = f"{grid[0]} x {grid[1]}"
        rows.append([name, str(grid[0] * grid[1]), once, "1", f"{found['for one']:.1f}"])
    return table(head, rows)


def _percent(share: float) -> str:
    return f"{100 * share:+.2f} %"


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the bits that slices cost, over the distance from the border."""

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor(theme.background)
        for colour, one in zip(theme.colours * 2, summary(record), strict=False):
            label = f"quality {one['quality']:g}, {16 * one['side']} pixels"
            values = [100 * x for x in one["by_distance"]]
            axes.plot(range(FAR + 1), values, marker="o", ms=3, color=colour, label=label)
        axes.set_xlabel(f"latents from the border ({FAR}: as far or farther)", color=theme.text)
        axes.set_ylabel("bits more than as one slice, %", color=theme.text)
        colour_axes(axes, "What slices cost", theme)
        return figure

    return write(draw, folder, "borders")
