"""Tables and plot of the experiment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.bdrate import Curve, bd_rate
from benchmarks.plots import Theme, colour_axes, write
from benchmarks.speed_tables import table
from benchmarks.video.container import KINDS

LOOPED = "Trellic, loops"
ANCHOR = "H.264, intra"


def curves(record: Mapping[str, Any], clip: str) -> dict[str, Curve]:
    """Return PSNR over bits per pixel of every codec on a clip."""
    rows = [row for row in record["rows"] if row["clip"] == clip]
    found = {}
    for name in dict.fromkeys(row["codec"] for row in rows):
        points = sorted((row["bpp"], row["psnr"]) for row in rows if row["codec"] == name)
        found[name] = Curve(*(np.array(values) for values in zip(*points, strict=True)))
    return found


def markdown(record: Mapping[str, Any]) -> str:
    """Draw BD-rates against H.264 intra as Markdown."""
    clips = list(dict.fromkeys(row["clip"] for row in record["rows"]))
    found = {clip: curves(record, clip) for clip in clips}
    rows = []
    for name in next(iter(found.values())):
        cells = []
        for clip in clips:
            rate = bd_rate(found[clip][name], found[clip][ANCHOR])
            cells.append("-" if rate is None else f"{rate.percent:+.0f} %")
        rows.append([name, *cells])
    return table(("codec", *(f"clip {clip!r}".replace("'", "`") for clip in clips)), rows)


def plot(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw PSNR over bits of both clips."""
    clips = list(dict.fromkeys(row["clip"] for row in record["rows"]))

    def draw(theme: Theme) -> Figure:
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        for axes, clip in zip(figure.subplots(1, len(clips)), clips, strict=True):
            axes.set_facecolor(theme.background)
            colours = iter(theme.colours)
            for name, curve in curves(record, clip).items():
                colour = theme.ours if name == LOOPED else next(colours)
                axes.plot(*curve, color=colour, marker="o", ms=3, label=name)
            axes.set_xscale("log")
            axes.set_xlabel("bits per pixel and frame", color=theme.text)
            axes.set_ylabel("PSNR in dB (RGB)", color=theme.text)
            colour_axes(axes, f"clip {clip}", theme, loc="lower right")
        return figure

    return write(draw, folder, "video")


def kinds(record: Mapping[str, Any]) -> str:
    """Draw how the frames of each clip are made as Markdown."""
    rows = [
        [
            row["clip"],
            f"{row['quality']:g}",
            f"{row['bytes']:,}",
            f"{row['psnr']:.2f}",
            *(str(row["kinds"][kind]) for kind in KINDS),
        ]
        for row in record["rows"]
        if row["codec"] == LOOPED
    ]
    return table(("clip", "quality", "bytes", "PSNR, dB", *KINDS), rows)
