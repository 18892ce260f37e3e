"""Draw the decoders of one file in the plane of distortion and perception."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.family import Row
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.scores import SCORES

ACROSS = ("ssimulacra2", "sliced_wasserstein")
Point = tuple[str, float, float]


def plot(rows: Sequence[Row], folder: Path, stem: str) -> list[Path]:
    """Draw PSNR over each measure of perception, a line for each quality, and write the files.

    Decoders of smaller pictures are left out: theirs is another original.
    """
    full = [row for row in rows if row.scale == 1]
    shown = [score for score in ACROSS if all(score in row.scores for row in full)]
    if not shown:
        return []
    return write(lambda theme: _draw(full, shown, theme), folder, stem)


def means(rows: Sequence[Row], quality: float, score: str) -> list[Point]:
    """Return each decoder's name, mean score and mean PSNR at a quality, in the rows' order."""
    names = dict.fromkeys(row.decoder for row in rows)
    found = []
    for name in names:
        some = [row for row in rows if (row.quality, row.decoder) == (quality, name)]
        values = fmean(row.scores[score] for row in some)
        found.append((name, values, fmean(row.scores["psnr"] for row in some)))
    return found


def _draw(rows: Sequence[Row], shown: Sequence[str], theme: Theme) -> Figure:
    figure = Figure(figsize=(5.2 * len(shown), 4.4), layout="constrained")
    for index, score in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        axes.set_facecolor(theme.background)
        _lines(axes, rows, score, theme)
        better = "" if SCORES[score].gain(1, 0) > 0 else " (less is better)"
        axes.set_xlabel(SCORES[score].label + better, color=theme.text)
        axes.set_ylabel("PSNR in dB (RGB)", color=theme.text)
        colour_axes(axes, "Decoders of the same files", theme)
    return figure


def _lines(axes: Axes, rows: Sequence[Row], score: str, theme: Theme) -> None:
    for index, quality in enumerate(sorted({row.quality for row in rows})):
        colour = theme.colours[index % len(theme.colours)]
        points = means(rows, quality, score)
        bpp = fmean(row.bpp for row in rows if row.quality == quality)
        label = f"quality {quality:g}, {bpp:.2f} bpp"
        axes.plot([p[1] for p in points], [p[2] for p in points], "o", color=colour, label=label)
        for name, x, y in points:
            axes.annotate(
                name, (x, y), (4, 4), textcoords="offset points", fontsize=7, color=theme.text
            )
