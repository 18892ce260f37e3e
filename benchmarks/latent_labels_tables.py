"""Tables and plot of `benchmarks.latent_labels`, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table

SOURCES = {
    "latents": "latents",
    "decoded": "decoded pictures",
    "jpeg": "JPEG of as many bytes",
    "untouched": "untouched pictures",
}


def markdown(record: Mapping[str, Any]) -> str:
    """Draw accuracies as Markdown."""
    head = ("quality", "bytes", "JPEG's bytes", *SOURCES.values(), "latents less decoded")
    rows = []
    for one in record["rows"]:
        mean, low, high = (100 * x for x in one["latents_less"]["decoded"])
        rows.append(
            [
                f"{one['quality']:g}",
                f"{one['bytes']:.0f}",
                f"{one['jpeg_bytes']:.0f}",
                *(f"{100 * one['accuracy'][name]:.1f} %" for name in SOURCES),
                f"{mean:+.1f} ({low:+.1f} to {high:+.1f}) points",
            ]
        )
    return table(head, rows)


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw accuracy over bytes."""

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor(theme.background)
        for colour, (name, label) in zip(theme.colours, SOURCES.items(), strict=False):
            key = "jpeg_bytes" if name == "jpeg" else "bytes"
            across = [row[key] for row in record["rows"]]
            values = [100 * row["accuracy"][name] for row in record["rows"]]
            axes.plot(across, values, marker="o", ms=3, color=colour, label=label)
        axes.set_xlabel("bytes a picture, without headers", color=theme.text)
        axes.set_ylabel("labels that are right, %", color=theme.text)
        colour_axes(axes, "One head, four sources", theme)
        return figure

    return write(draw, folder, "latent-labels")
