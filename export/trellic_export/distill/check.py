"""What a slim model costs: bits at equal score on pictures that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trellic.codec import Codec
from trellic_export.adapters.check import (
    MEASURES,
    Pixels,
    curve,
    mean,
    middle,
    percent,
    scored_by,
    spoken,
)
from trellic_training.bars import shown

MOST = 12  # pictures that are checked


def percent_more(large: Path, slim: Path, pictures: Sequence[Pixels], measure: str) -> float:
    """Mean percent of the bits that the slim model needs more than the large one; nan if unknown.

    Parameters
    ----------
    large, slim : bundles
    pictures : uint8 (height, width, 3); the first of them are taken
    measure : "ssimulacra2" or "psnr"
    """
    codecs = Codec(large, "cpu", 1), Codec(slim, "cpu", 1)
    score = scored_by(measure)
    found = []
    for picture in map(middle, shown(pictures[:MOST], "checking")):
        before, after = (curve(codec, picture, score) for codec in codecs)
        found.append(percent(before, after))
    return mean(found)


def said(needed: float, count: int, measure: str) -> str:
    """Say it in a sentence."""
    return (
        f"bits on {count} pictures that it was not trained on, at equal {MEASURES[measure]},"
        f" against the large model: {spoken(needed)}"
    )
