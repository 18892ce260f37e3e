"""Plots as SVG files: equal figures give equal files, with no more digits than can be seen."""

import re
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

PLACE = re.compile(r"scale\([^)]*\)|-?\d+\.\d{3,}")  # how text is scaled needs all its digits
INDENT = re.compile(r"\n +")


def save(figure: Figure, path: Path, background: str = "white") -> None:
    """Write a figure: no date, fixed ids, places to a hundredth of a point."""
    with mpl.rc_context({"svg.hashsalt": "trellic"}):
        figure.savefig(path, facecolor=background, metadata={"Date": None})
    path.write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8")


def shortened(text: str) -> str:
    """Round places to two decimals, and drop what indents lines."""
    return INDENT.sub("\n", PLACE.sub(_rounded, text))


def _rounded(found: re.Match[str]) -> str:
    if found[0].startswith("scale"):
        return found[0]
    return f"{round(float(found[0]), 2) + 0.0:.10g}"  # -0 is 0
