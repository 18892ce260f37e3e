"""The committed record, its tables and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import svg
from benchmarks.bootstrap import mean_interval
from benchmarks.speed_tables import table
from benchmarks.universal_colour.measure import Row
from benchmarks.universal_colour.plan import TARGETS, Run

# Okabe and Ito's palette, which also colour-blind people can tell apart.
COLOURS = dict(zip(TARGETS, ("#0072b2", "#009e73", "#d55e00", "#cc79a7"), strict=True))
MARKERS = dict(zip(TARGETS, ("o", "s", "^", "v"), strict=True))
ALONE = "its own"
BASE = "quality"


def summary(
    models: Mapping[Run, Sequence[Row]], files: Sequence[Row] | None, untouched: Row
) -> dict[str, Any]:
    """Return rows of means; hits of single pictures are left out."""
    rows = []
    for run, found in models.items():
        twins = models.get(Run(run.target))
        for i, row in enumerate(found):
            head = {"encoder": run.encoder or ALONE, "target": run.target}
            extra = against(row, twins[i]) if run.encoder and twins else {}
            rows.append(head | _means(row) | extra)
    return {
        "targets": {name: vars(weights) for name, weights in TARGETS.items()},
        "untouched": _means(untouched),
        "models": rows,
        "files": [row for found in files or () for row in _decoders(found)],
    }


def against(row: Row, twin: Row) -> Row:
    """Return how far a row is from another of the same rate: shares, and right labels more."""
    gains = np.subtract(row["hits"], twin["hits"]).astype(np.float64)
    low, high = mean_interval(list(gains)) or (0.0, 0.0)
    return {
        "extra_mse": row["mse"] / twin["mse"] - 1,
        "extra_sliced": row["sliced_wasserstein"] / twin["sliced_wasserstein"] - 1,
        "accuracy_more": [float(gains.mean()), low, high],
    }


def _means(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "hits"}


def _decoders(row: Row) -> list[Row]:
    head = {k: row[k] for k in ("quality", "file_bpp", "payload_bpp")}
    made = row["decoders"]
    rows = []
    for name, found in made.items():
        others = {} if name == BASE else {BASE: against(found, made[BASE])}
        if name not in (BASE, "control"):
            others["control"] = against(found, made["control"])
        rows.append(head | {"decoder": name} | _means(found) | {"against": others})
    return rows


MEASURES = ("MSE, thousandths", "accuracy", "cross entropy", "accuracy, known", "sliced W")


def alone_table(run: Mapping[str, Any]) -> str:
    """Draw the end-to-end models at each rate."""
    rows = [row for row in by_rate(run) if row["encoder"] == ALONE]
    cells = [(f"{row['bpp']:.2f}", row["target"], *_measured(row)) for row in rows]
    return table(("bit/pixel", "trained for", *MEASURES), cells)


def reuse_table(run: Mapping[str, Any]) -> str:
    """Draw decoders on frozen encoders, against end-to-end models of the same target."""
    head = ["bit/pixel", "encoder trained for", "decoder trained for", *MEASURES]
    head += ["extra MSE", "extra sliced W", "labels more, points"]
    rows = [row for row in by_rate(run) if row["encoder"] != ALONE]
    return table(head, [_reused(row) for row in rows])


def by_rate(run: Mapping[str, Any]) -> list[Row]:
    """Return the rows of models, from the lowest rate on."""
    return sorted(run["models"], key=lambda row: float(row["rate"]))


def _reused(row: Row) -> tuple[str, ...]:
    extra = ("", "", "")
    if "extra_mse" in row:
        more = points(row["accuracy_more"])
        extra = (f"{row['extra_mse']:+.1%}", f"{row['extra_sliced']:+.1%}", more)
    return (f"{row['bpp']:.2f}", row["encoder"], row["target"], *_measured(row), *extra)


def _measured(row: Row) -> tuple[str, ...]:
    return (
        f"{1000 * row['mse']:.3f}",
        f"{row['accuracy']:.1%}",
        f"{row['cross_entropy']:.3f}",
        f"{row['known']['accuracy']:.1%}",
        f"{row['sliced_wasserstein']:.1f}",
    )


def files_table(run: Mapping[str, Any]) -> str:
    """Draw the decoders of the bundle on real files."""
    head = ["quality", "bit/pixel, files", "payloads", "decoder", *MEASURES]
    head += ["labels more than `quality`, points", "than `control`, points"]
    cells = [
        (
            f"{row['quality']:g}",
            f"{row['file_bpp']:.2f}",
            f"{row['payload_bpp']:.2f}",
            f"`{row['decoder']}`",
            *_measured(row),
            *(
                points(row["against"][name]["accuracy_more"]) if name in row["against"] else ""
                for name in (BASE, "control")
            ),
        )
        for row in run["files"]
    ]
    return table(head, cells)


def points(interval: Sequence[float]) -> str:
    """Return a difference of shares in points, and its 95 % interval."""
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def markdown(run: Mapping[str, Any]) -> str:
    """Draw all tables."""
    return "\n\n".join(draw(run) for draw in (alone_table, reuse_table, files_table))


def plot(run: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw models at each rate, and the bundle's decoders over bits, as far as they exist."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"colour-reuse": _models(run["models"])}
    if run["files"]:
        figures["colour-files"] = _files(run)
    written = []
    for name, figure in figures.items():
        written.append(folder / f"{name}.svg")
        svg.save(figure, written[-1])
    return written


def _models(rows: Sequence[Row]) -> Figure:
    rates = sorted({row["rate"] for row in rows})
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    panels = figure.subplots(2, len(rates), squeeze=False)
    for column, rate in zip(panels.T, rates, strict=True):
        own = [row for row in rows if row["rate"] == rate]
        for axes, (name, value) in zip(column, VALUES.items(), strict=True):
            _points(axes, own, value)
            axes.set_title(f"{rate:g} bit/pixel", fontsize=10, loc="left")
            axes.set_ylabel(name, fontsize=9)
            axes.set_xlabel("mean squared error, thousandths", fontsize=9)
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


VALUES = {
    "labels that are right, %": lambda row: 100 * row["accuracy"],
    "sliced Wasserstein distance": lambda row: row["sliced_wasserstein"],
}


def _points(axes: Axes, rows: Sequence[Row], value: Any) -> None:
    """Draw end-to-end models filled, decoders on other encoders hollow in the encoder's colour."""
    for row in rows:
        alone = row["encoder"] == ALONE
        colour = COLOURS[row["target"] if alone else row["encoder"]]
        what = "end to end" if alone else f"on the encoder for {row['encoder']}"
        axes.plot(
            1000 * row["mse"], value(row), MARKERS[row["target"]], color=colour, ms=8,
            mfc=colour if alone else "none", ls="none", label=f"{row['target']}, {what}",
        )  # fmt: skip
    axes.grid(color="#d8dee4", lw=0.7)
    axes.tick_params(labelsize=8)


def _files(run: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    names = dict.fromkeys(row["decoder"] for row in run["files"])
    for name, colour in zip(names, ("#6e7781", "#d55e00", "#cc79a7", "#0072b2"), strict=False):
        own = [row for row in run["files"] if row["decoder"] == name]
        bits = [row["file_bpp"] for row in own]
        right = [100 * row["accuracy"] for row in own]
        axes.plot(bits, right, color=colour, marker="o", ms=4, label=name)
    untouched = 100 * run["untouched"]["accuracy"]
    axes.axhline(untouched, color="#1f2328", lw=0.8, ls=":", label="untouched pictures")
    axes.set_xlabel("bit/pixel (whole files)")
    axes.set_ylabel("labels that are right, % (second classifier)")
    axes.grid(color="#d8dee4", lw=0.7)
    axes.legend(fontsize=8.5, frameon=False)
    return figure
