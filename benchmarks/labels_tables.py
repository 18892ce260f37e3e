"""What docs/model-cifar.md shows of `benchmarks.labels_rate`: a table and a plot."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.labels import label
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table

EMPTY = "-"
OURS, OTHERS = "trellic", ("jpeg", "webp")
BITS = {"file_bpp": "whole files", "payload_bpp": "payloads"}
Row = Mapping[str, Any]


def markdown(run: Mapping[str, Any]) -> str:
    """Return a row for each quality of Trellic, with the other codecs at as many bits."""
    rows = run["rows"]
    head = ["quality", "bit/pixel, files", "payloads", "PSNR", "`class`", "Trellic's pictures"]
    head += [f"{label(name)}, equal {what}" for what in BITS.values() for name in OTHERS]
    body = []
    for row in (row for row in rows if row["codec"] == OURS):
        cells = [f"{row['quality']:g}", *(f"{row[bits]:.2f}" for bits in BITS)]
        cells += [f"{row['psnr']:.1f} dB"]
        cells += [f"{row['accuracy'][who]:.1%}" for who in ("latents", "pictures")]
        cells += [_at(rows, name, bits, row[bits]) for bits in BITS for name in OTHERS]
        body.append(cells)
    return table(head, body)


def _at(rows: Sequence[Row], codec: str, bits: str, bpp: float) -> str:
    """Accuracy from a codec's pictures, interpolated between its own qualities."""
    points = sorted((r[bits], r["accuracy"]["pictures"]) for r in rows if r["codec"] == codec)
    x, y = np.array(points).T
    return f"{np.interp(bpp, x, y):.1%}" if x[0] <= bpp <= x[-1] else EMPTY


def plot(run: Mapping[str, Any], folder: Path, stem: str) -> list[Path]:
    """Draw labels that are right over bits, of whole files and of payloads, light and dark."""
    return write(lambda theme: _draw(run, theme), folder, stem)


def _draw(run: Mapping[str, Any], theme: Theme) -> Figure:
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    for axes, (bits, what) in zip(figure.subplots(1, 2, sharey=True), BITS.items(), strict=True):
        axes.set_facecolor(theme.background)
        _curves(axes, run["rows"], bits, theme)
        axes.axhline(
            100 * run["untouched"], color=theme.text, lw=0.8, ls=":", label="untouched pictures"
        )
        axes.set_xlim(0, 6)
        axes.set_xlabel("bit/pixel", color=theme.text)
        colour_axes(axes, f"labels that are right, %: {what}", theme, loc="lower right")
    return figure


def _curves(axes: Axes, rows: Sequence[Row], bits: str, theme: Theme) -> None:
    colours = {OURS: theme.ours} | dict(zip(OTHERS, theme.colours, strict=False))
    for name, colour in colours.items():
        for who, style in (("latents", "-"), ("pictures", "--")):
            own = [row for row in rows if row["codec"] == name and who in row["accuracy"]]
            points = [r[bits] for r in own], [100 * r["accuracy"][who] for r in own]
            if own:
                text = f"{label(name)}, from {who}"
                axes.plot(*points, color=colour, ls=style, marker="o", ms=3, label=text)
