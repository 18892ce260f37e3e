"""Intervals of a latent under the model's law: their probability, centroid and variance.

The law of a latent around its predicted mean is the one that the models' frequency tables begin
with (`trellic_training.quantization.fit`): nine tenths of a normal law of the predicted deviation,
one tenth of one twice as wide. All functions take intervals in deviations from the mean.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]

WEIGHTS: Final = ((0.9, 1.0), (0.1, 2.0))  # weight and width of each normal law
FAR: Final = 30.0  # deviations beyond which nothing is counted
LEAST: Final = 1e-9  # an interval of less mass counts as flat: rounding would decide


class Cells(NamedTuple):
    """Cells of a quantizer: float64 ends, in the unit of the latents."""

    low: Floats
    high: Floats


def mass(a: Floats, b: Floats) -> Floats:
    """Return the probability of [a, b], exact in both tails."""
    flip = a > 0
    first, last = np.where(flip, -b, a), np.where(flip, -a, b)
    total = np.zeros(np.broadcast(a, b).shape)
    for weight, width in WEIGHTS:
        total += weight * (ndtr(last / width) - ndtr(first / width))
    return total


def centroid(a: Floats, b: Floats) -> Floats:
    """Return the mean over [a, b], the middle where the law has next to no mass."""
    a, b = np.clip(a, -FAR, FAR), np.clip(b, -FAR, FAR)
    first = np.zeros(a.shape)
    for weight, width in WEIGHTS:
        first += weight * width * (_normal(a / width) - _normal(b / width))
    inside = mass(a, b)
    return np.where(inside < LEAST, (a + b) / 2, first / np.maximum(inside, LEAST)).clip(a, b)


def variance(a: Floats, b: Floats) -> Floats:
    """Return the variance over [a, b], that of a flat law where there is next to no mass."""
    a, b = np.clip(a, -FAR, FAR), np.clip(b, -FAR, FAR)
    second = np.zeros(a.shape)
    for weight, width in WEIGHTS:
        up, down = b / width, a / width
        inner = ndtr(up) - up * _normal(up) - ndtr(down) + down * _normal(down)
        second += weight * width * width * inner
    inside, flat = mass(a, b), (b - a) ** 2 / 12
    spread = second / np.maximum(inside, LEAST) - centroid(a, b) ** 2
    return np.where(inside < LEAST, flat, spread.clip(0, flat))


def cells(y: Floats, mean: Floats, known: Cells, dead: float, snap: float) -> Cells:
    """Return the cell of each latent: of a dead-zone quantizer of step 1, within what is known.

    Parameters
    ----------
    y, mean, known : latents, predicted means and known intervals, all in steps
    dead : half of the width of the zone around the mean
    snap : an edge that is no further than that from an end of the known interval is left out
    """
    first, last = known.low + snap, known.high - snap
    below = mean + _edge_below(np.minimum(y, last) - mean, dead)
    above = mean - _edge_below(mean - np.maximum(y, first), dead)
    low = np.where(below < first, known.low, below)
    return Cells(low, np.where(above > last, known.high, above))


def _edge_below(t: Floats, dead: float) -> Floats:
    """Return the greatest edge up to t, of edges at dead, dead + 1, ... on both sides of 0."""
    right = dead + np.floor(t - dead)
    left = -dead - np.ceil(-t - dead)
    return np.where(t >= dead, right, np.where(t >= -dead, -dead, left))


def _normal(t: Floats) -> Floats:
    return np.asarray(np.exp(-t * t / 2) / np.sqrt(2 * np.pi), np.float64)
