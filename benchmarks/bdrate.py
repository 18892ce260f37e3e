"""Bjontegaard delta rate: how many more bits a codec needs than an anchor at equal quality.

Both curves are interpolated by PCHIP (piecewise cubic, monotone) as log-rate over quality, which is
PSNR or any other measure that grows with it; the mean difference over the range of quality that
they share is turned into percent. Nothing is extrapolated.

References
----------
G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001);
PCHIP instead of one cubic as in JCTVC-L1100's and JVET's common test conditions.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.pchip import Pchip

Floats = npt.NDArray[np.float64]


class Curve(NamedTuple):
    """A rate-distortion curve: any order, positive rates."""

    bpp: Floats
    """Bits per pixel."""
    quality: Floats
    """PSNR in dB, or another measure that is larger where the picture is better."""


@dataclass(frozen=True)
class BdRate:
    """A BD-rate and where it holds."""

    percent: float
    """Mean rate difference at equal quality; negative: fewer bits than the anchor."""
    quality: tuple[float, float]
    """The range of quality compared: the overlap of both curves within ``bpp_range``."""
    bpp: tuple[float, float]
    """The tested codec's rates at both ends of that range."""
    complete: bool
    """Whether the whole rate range that was asked for is covered (True if none was)."""


def frontier(curve: Curve) -> Curve:
    """Return a curve's points in order of rate, without those that a cheaper point beats.

    Parameters
    ----------
    curve
        Points in any order.

    Returns
    -------
    Curve
        The points that cost more and are better than all before them: strictly increasing.
    """
    order = np.lexsort((-np.asarray(curve.quality), np.asarray(curve.bpp)))
    bpp = np.asarray(curve.bpp, dtype=np.float64)[order]
    quality = np.asarray(curve.quality, dtype=np.float64)[order]
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(quality)[:-1]))
    keep = quality > best_before
    return Curve(bpp[keep], quality[keep])


def bd_rate(
    test: Curve, anchor: Curve, bpp_range: tuple[float, float] | None = None
) -> BdRate | None:
    """Compare two curves.

    Parameters
    ----------
    test, anchor
        The tested codec's curve and the one it is measured against.
    bpp_range
        Compare only where the *tested* codec's rate lies in this range, in bits per pixel; the
        anchor may need any rate there.

    Returns
    -------
    BdRate or None
        None where the curves share no quality, one has fewer than two usable points, or one has
        an infinite quality (PSNR of a file without loss).

    Examples
    --------
    >>> anchor = Curve(np.array([0.1, 0.2, 0.4, 0.8]), np.array([26.0, 29.0, 32.0, 35.0]))
    >>> half = Curve(anchor.bpp / 2, anchor.quality)
    >>> round(bd_rate(half, anchor).percent, 6)
    -50.0
    """
    if not (np.isfinite(test.quality).all() and np.isfinite(anchor.quality).all()):
        return None
    test, anchor = frontier(test), frontier(anchor)
    if min(len(test.bpp), len(anchor.bpp)) < 2:
        return None
    low = max(test.quality[0], anchor.quality[0])
    high = min(test.quality[-1], anchor.quality[-1])
    complete = True
    if bpp_range is not None:
        wanted = [quality_at(test, rate) for rate in bpp_range]
        low, high, complete = _restrict(test, bpp_range, wanted, low, high)
    if high <= low:
        return None
    rate_test, rate_anchor = log_rate(test), log_rate(anchor)
    difference = rate_test.mean(low, high) - rate_anchor.mean(low, high)
    percent = float(np.expm1(difference) * 100)
    bpp = (float(np.exp(rate_test(low))), float(np.exp(rate_test(high))))
    return BdRate(percent, (float(low), float(high)), bpp, complete)


def log_rate(curve: Curve) -> Pchip:
    """Return the natural logarithm of the rate as a function of quality (of a frontier)."""
    return Pchip(curve.quality, np.log(curve.bpp))


def quality_at(curve: Curve, bpp: float) -> float:
    """Return the quality of a frontier at a rate; its end value outside its range.

    Inverts `log_rate` by bisection, so that both directions are the same curve.
    """
    rate, target = log_rate(curve), np.log(bpp)
    low, high = float(curve.quality[0]), float(curve.quality[-1])
    for _ in range(60):  # the interval shrinks below float64's resolution
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < target else (low, middle)
    return (low + high) / 2


def _restrict(
    test: Curve,
    bpp_range: tuple[float, float],
    wanted: list[float],
    low: float,
    high: float,
) -> tuple[float, float, bool]:
    """Cut the shared range of quality to the wanted one; say whether nothing of that is missing."""
    reached = test.bpp[0] <= bpp_range[0] and bpp_range[1] <= test.bpp[-1]
    slack = 1e-9
    complete = bool(reached and low <= wanted[0] + slack and high >= wanted[1] - slack)
    return max(low, wanted[0]), min(high, wanted[1]), complete
