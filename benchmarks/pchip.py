"""PCHIP: piecewise cubic Hermite interpolation that stays monotone between monotone points.

References
----------
F. N. Fritsch and J. Butland, "A method for constructing local monotone piecewise cubic
interpolants", SIAM J. Sci. Stat. Comput. 5 (1984).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Pchip:
    """The interpolant through points of increasing abscissa.

    Parameters
    ----------
    x
        Abscissae, strictly increasing, at least two.
    y
        Ordinates.
    """

    def __init__(self, x: Floats, y: Floats) -> None:
        self.x = np.asarray(x, dtype=np.float64)
        self.y = np.asarray(y, dtype=np.float64)
        if self.x.ndim != 1 or self.x.shape != self.y.shape or len(self.x) < 2:
            raise ValueError(f"need two or more points, got {self.x.shape} and {self.y.shape}")
        if not np.all(np.diff(self.x) > 0):
            raise ValueError("abscissae must be strictly increasing")
        self.slopes = _slopes(np.diff(self.x), np.diff(self.y) / np.diff(self.x))

    def __call__(self, at: npt.ArrayLike) -> Floats:
        """Evaluate inside the range of the points (outside, the end pieces go on)."""
        at = np.asarray(at, dtype=np.float64)
        piece = np.clip(np.searchsorted(self.x, at, side="right") - 1, 0, len(self.x) - 2)
        width = self.x[piece + 1] - self.x[piece]
        t = (at - self.x[piece]) / width
        value = (1 + 2 * t) * (1 - t) ** 2 * self.y[piece] + t**2 * (3 - 2 * t) * self.y[piece + 1]
        bend = t * (1 - t) ** 2 * self.slopes[piece] - t**2 * (1 - t) * self.slopes[piece + 1]
        return np.asarray(value + width * bend)

    def mean(self, low: float, high: float) -> float:
        """Return the mean over an interval, exactly: Simpson's rule on each cubic."""
        inner = self.x[(self.x > low) & (self.x < high)]
        edges = np.concatenate(([low], inner, [high]))
        middles = (edges[:-1] + edges[1:]) / 2
        areas = np.diff(edges) / 6 * (self(edges[:-1]) + 4 * self(middles) + self(edges[1:]))
        return float(areas.sum() / (high - low))


def _slopes(width: Floats, secant: Floats) -> Floats:
    """Return the slope at each point: weighted harmonic mean of its neighbours' secants."""
    if len(secant) == 1:
        return np.repeat(secant, 2)
    w1, w2 = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    left, right = secant[:-1], secant[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = (w1 + w2) / (w1 / left + w2 / right)
    inner = np.where(left * right > 0, inner, 0.0)
    first = _end_slope(width[0], width[1], secant[0], secant[1])
    last = _end_slope(width[-1], width[-2], secant[-1], secant[-2])
    return np.concatenate(([first], inner, [last]))


def _end_slope(w0: float, w1: float, s0: float, s1: float) -> float:
    """Return the three-point slope at an end, cut so that the piece stays monotone."""
    slope = ((2 * w0 + w1) * s0 - w0 * s1) / (w0 + w1)
    if slope * s0 <= 0:
        return 0.0
    if s0 * s1 < 0 and abs(slope) > 3 * abs(s0):
        return float(3 * s0)
    return float(slope)
