"""Whether an adapter helps: bits at equal score on pictures that it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from trellic.codec import Codec
from trellic.constants import Trellis
from trellic.model.adapter import Adapter
from trellic.model.bundle import Bundle
from trellic_training.bars import shown
from trellic_training.losses.eye import BEST, ERRORS, squared_error
from trellic_training.pixels import to_network

Pixels = npt.NDArray[np.uint8]
MEASURES = {"ssimulacra2": "SSIMULACRA 2", "psnr": "PSNR"}
QUALITIES = (20.0, 40.0, 60.0, 80.0)
LARGEST = 768  # pixels a side of the middle of a picture that is checked
STATES: Trellis = 8
Curve = npt.NDArray[np.float64]  # (points, 2): bits a pixel and score


def gain(bundle: Bundle, adapter: Adapter, pictures: Sequence[Pixels], measure: str) -> float:
    """Percent of the bits at equal score, against the model without the adapter; less is better.

    Parameters
    ----------
    bundle : its model
    adapter : what is measured
    pictures : uint8 (height, width, 3)
    measure : "ssimulacra2" or "psnr"
    """
    path = str(bundle.path)
    plain = Codec(path, "cpu", 1)
    adapted = Codec(path, "cpu", 1, adapter=adapter)
    score = scored_by(measure)
    found = []
    for picture in map(middle, shown(pictures, "checking")):
        before, after = (curve(codec, picture, score) for codec in (plain, adapted))
        found.append(percent(before, after))
    return mean(found)


def mean(percents: Sequence[float]) -> float:
    """Mean of those that could be compared; nan if there are none."""
    comparable = [value for value in percents if np.isfinite(value)]
    return float(np.mean(comparable)) if comparable else float("nan")


def middle(picture: Pixels, rows: int = LARGEST, columns: int = LARGEST) -> Pixels:
    """Return a copy of the middle of a picture, at most so many rows and columns."""
    sizes = zip(picture.shape, (rows, columns), strict=False)
    top, left = (max(0, (size - most) // 2) for size, most in sizes)
    return picture[top : top + rows, left : left + columns].copy()


def scored_by(measure: str) -> Callable[[Pixels, Pixels], float]:
    """Return the function that scores a picture against the original."""

    def score(picture: Pixels, original: Pixels) -> float:
        x_hat, x = (to_network(torch.from_numpy(array[None])) for array in (picture, original))
        with torch.no_grad():
            if measure == "psnr":
                return float(-10 * squared_error(x_hat, x).clamp_min(1e-9).log10())
            return float(BEST[measure] - ERRORS[measure](x_hat, x))

    return score


def curve(codec: Codec, picture: Pixels, score: Callable[[Pixels, Pixels], float]) -> Curve:
    """Bits per pixel and score at each of `QUALITIES`."""
    points = []
    for quality in QUALITIES:
        data = codec.encode(picture, quality=quality, trellis=STATES)
        bits = 8 * len(data) / (picture.shape[0] * picture.shape[1])
        points.append((bits, score(codec.decode(data), picture)))
    return np.array(points)


def percent(before: Curve, after: Curve) -> float:
    """Mean difference of bits in percent, over the scores that both reach; nan if there are none.

    Logarithms of bits are straight between points.
    """
    curves = [np.sort(one[np.argsort(one[:, 1])].T, axis=1) for one in (before, after)]
    low, high = (f(c[1][i] for c in curves) for f, i in ((max, 0), (min, -1)))
    if low >= high:
        return float("nan")
    at = np.linspace(low, high, 100)
    logs = [np.interp(at, scores, np.log(bits)) for bits, scores in curves]
    return float(100 * (np.exp(np.mean(logs[1] - logs[0])) - 1))


def spoken(value: float) -> str:
    """Return a percent in words for people."""
    return "not comparable" if math.isnan(value) else f"{value:+.1f} %"


def said(gained: float, count: int, measure: str) -> str:
    """Say in a sentence what an adapter gains on so many pictures."""
    return (
        f"on {count} pictures that it was not trained on, at equal {MEASURES[measure]}:"
        f" {spoken(gained)} bits"
    )
