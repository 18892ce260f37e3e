"""What a slim model costs: bits at equal score on pictures that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trellic.codec import Codec
from trellic_export.adapters.check import Pixels, curve, middle, percent, scored_by

MEASURES = {"ssimulacra2": "SSIMULACRA 2", "psnr": "PSNR"}
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
    for picture in map(middle, pictures[:MOST]):
        before, after = (curve(codec, codec, picture, score) for codec in codecs)
        found.append(percent(before, after))
    comparable = [value for value in found if math.isfinite(value)]
    return float(np.mean(comparable)) if comparable else math.nan


def said(needed: float, count: int, measure: str) -> str:
    """Say it in a sentence."""
    value = "not comparable" if math.isnan(needed) else f"{needed:+.1f} %"
    return (
        f"bits on {count} pictures that it was not trained on, at equal {MEASURES[measure]},"
        f" against the large model: {value}"
    )
