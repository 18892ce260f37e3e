"""Rate-distortion plots, light and dark."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import svg
from benchmarks.bdrate import Curve, frontier

mpl.use("Agg")


@dataclass(frozen=True)
class Theme:
    """Colours of one variant."""

    name: str
    background: str
    text: str
    grid: str
    colours: tuple[str, ...]
    ours: str


# Okabe and Ito's palette, which also colour-blind people can tell apart, lightened for dark.
THEMES = (
    Theme(
        "light",
        "#ffffff",
        "#1f2328",
        "#d8dee4",
        ("#0072b2", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#7a5195", "#8c6d31", "#6e7781"),
        "#d1242f",
    ),
    Theme(
        "dark",
        "#0d1117",
        "#e6edf3",
        "#30363d",
        ("#58a6ff", "#3fb98a", "#f0b545", "#e39ac4", "#7fcdf5", "#b596e0", "#c9a863", "#9aa4ae"),
        "#ff6b6b",
    ),
)


@dataclass(frozen=True)
class Line:
    """One curve of a plot."""

    label: str
    curve: Curve
    published: bool = False
    ours: bool = False


def rd_plots(
    lines: Sequence[Line],
    title: str,
    folder: Path,
    stem: str,
    bpp_high: float = 1.5,
    axis: str = "PSNR in dB (RGB)",
) -> list[Path]:
    """Draw quality over bit/pixel as ``STEM-light.svg`` and the same for dark.

    Parameters
    ----------
    lines
        What to draw; published curves are dashed.
    title
        Of the plot.
    folder, stem
        Where to write.
    bpp_high
        Right end of the plot, in bit/pixel.
    axis
        What the curves' quality is.

    Returns
    -------
    list of Path
        The files written.
    """
    return write(lambda theme: _draw(lines, title, bpp_high, axis, theme), folder, stem)


def bars(
    labels: Sequence[str],
    groups: Mapping[str, Sequence[float]],
    title: str,
    folder: Path,
    stem: str,
) -> list[Path]:
    """Draw bars, one of each group at each label, as ``STEM-light.svg`` and dark."""
    return write(lambda theme: _draw_bars(labels, groups, title, theme), folder, stem)


def growth_plots(rows: Sequence[Mapping[str, Any]], folder: Path, stem: str) -> list[Path]:
    """Draw time and peak memory over megapixels, both axes logarithmic, light and dark.

    Parameters
    ----------
    rows
        Of `benchmarks.big`: ``megapixels`` and, for ``encode``, ``decode`` and ``region``,
        ``seconds``, ``peak_bytes`` and ``bound``, the memory allowed.
    folder, stem
        Where to write.
    """
    return write(lambda theme: _draw_growth(rows, theme), folder, stem)


def _draw_growth(rows: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    times, memory = figure.subplots(1, 2)
    sizes = [row["megapixels"] for row in rows]
    colours = theme.ours, *theme.colours[:2]
    for colour, part in zip(colours, ("encode", "decode", "region"), strict=True):
        line = {"color": colour, "marker": "o", "ms": 3}
        times.plot(sizes, [row[part]["seconds"] for row in rows], label=part, **line)
        memory.plot(sizes, [row[part]["peak_bytes"] / 1e6 for row in rows], label=part, **line)
        bounds = [row[part]["bound"] / 1e6 for row in rows]
        memory.plot(sizes, bounds, color=colour, lw=0.8, ls="--", label=f"{part}, bound")
    for axes, title in ((times, "time in seconds"), (memory, "peak memory of the process in MB")):
        axes.set_facecolor(theme.background)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [f"{size:.3g}" for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("megapixels", color=theme.text)
        _plain_ticks(axes)
        colour_axes(axes, title, theme)
    return figure


def _plain_ticks(axes: Axes) -> None:
    """Mark 1, 2 and 5 times powers of ten, as plain numbers."""
    low, high = axes.get_ylim()
    marks = [m * 10.0**p for p in range(-3, 6) for m in (1, 2, 5)]
    marks = [mark for mark in marks if low <= mark <= high]
    axes.set_yticks(marks, [f"{mark:g}" for mark in marks])


def write(draw: Callable[[Theme], Figure], folder: Path, stem: str) -> list[Path]:
    """Draw in both themes and write ``STEM-light.svg`` and the same for dark."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for theme in THEMES:
        path = folder / f"{stem}-{theme.name}.svg"
        svg.save(draw(theme), path, theme.background)
        written.append(path)
    return written


def _draw_bars(
    labels: Sequence[str], groups: Mapping[str, Sequence[float]], title: str, theme: Theme
) -> Figure:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(theme.background)
    width = 0.8 / len(groups)
    colours = (theme.colours[-1], theme.ours)
    for i, (name, values) in enumerate(groups.items()):
        places = np.arange(len(labels)) + (i - (len(groups) - 1) / 2) * width
        drawn = axes.bar(places, values, width, label=name, color=colours[i], zorder=3)
        axes.bar_label(drawn, fmt="%.1f", fontsize=8, color=theme.text, padding=2)
    axes.set_xticks(range(len(labels)), labels)
    colour_axes(axes, title, theme)
    return figure


def _draw(lines: Sequence[Line], title: str, bpp_high: float, axis: str, theme: Theme) -> Figure:
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor(theme.background)
    measured = iter(theme.colours * 3)
    published = iter(theme.colours[::-1] * 3)
    styles = iter(("-", "--", "-.", ":") * 3)
    for line in lines:
        if line.ours:
            axes.plot(*_inside(line, bpp_high), color=theme.ours, lw=2.4, ls=next(styles), zorder=5)
        elif line.published:
            axes.plot(*_inside(line, bpp_high), color=next(published), lw=1.1, ls=(0, (4, 3)))
        else:
            axes.plot(*_inside(line, bpp_high), color=next(measured), lw=1.6, marker="o", ms=2.5)
        axes.lines[-1].set_label(line.label + (" (published)" if line.published else ""))
    axes.set_xlim(0, bpp_high)
    axes.set_ylim(*_limits(lines, bpp_high))
    axes.set_xlabel("bit/pixel (whole files)", color=theme.text)
    axes.set_ylabel(axis, color=theme.text)
    colour_axes(axes, title, theme, loc="lower right")
    return figure


def _limits(lines: Sequence[Line], bpp_high: float) -> tuple[float, float]:
    """Return limits that show all measured points from a few hundredths of a bit on."""
    visible = [
        float(quality)
        for line in lines
        for bpp, quality in zip(*line.curve, strict=True)
        if 0.05 <= bpp <= bpp_high and math.isfinite(quality)
    ]
    return (math.floor(min(visible)), math.ceil(max(visible))) if visible else (20.0, 45.0)


def _inside(line: Line, bpp_high: float) -> Curve:
    """Return the points left of the plot's end and one beyond, so that the line reaches it."""
    bpp, quality = frontier(line.curve)
    count = int(np.searchsorted(bpp, bpp_high)) + 1
    return Curve(bpp[:count], quality[:count])


def colour_axes(axes: Axes, title: str, theme: Theme, loc: str = "best") -> None:
    """Give axes their title, their legend and a theme's colours."""
    axes.set_title(title, color=theme.text, fontsize=11, loc="left")
    axes.tick_params(colors=theme.text, which="both")
    axes.grid(color=theme.grid, lw=0.7)
    for spine in axes.spines.values():
        spine.set_color(theme.grid)
    legend = axes.legend(loc=loc, fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set_color(theme.text)
