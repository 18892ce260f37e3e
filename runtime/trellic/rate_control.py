"""From what a user asks for (quality, bits per pixel, bytes) to a quality of the format."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

from .errors import BadParameter, TargetUnreachable

QUALITY16_MIN, QUALITY16_MAX = 16, 1600  # sixteenths of the quality
CLOSE = 0.985  # a size in [CLOSE * budget, budget] is good enough
TRIES = 20
GUIDED = 6  # tries that interpolate; where sizes jump, only halving is sure to end


def to_quality16(quality: float) -> int:
    """Round a quality in [1, 100] to sixteenths.

    Raises
    ------
    BadParameter
        When it is outside the range.
    """
    if not (isinstance(quality, Real) and 1 <= quality <= 100):
        raise BadParameter(f"quality {quality!r}", expected="a number from 1 to 100")
    return min(max(round(float(quality) * 16), QUALITY16_MIN), QUALITY16_MAX)


def to_budget(bpp: float | None, max_bytes: int | None, pixels: int) -> int:
    """Bytes to stay within, from bits per pixel or from bytes.

    Raises
    ------
    BadParameter
        When both are given, or less than a byte.
    """
    if bpp is not None and max_bytes is not None:
        raise BadParameter("both bpp and max_bytes are given", expected="one of them")
    wanted = bpp if max_bytes is None else max_bytes
    budget = 0.0
    if isinstance(wanted, Real):
        budget = float(wanted) * (pixels / 8 if max_bytes is None else 1)
    if not 1 <= budget < math.inf:
        raise BadParameter(
            f"bpp {bpp!r}" if max_bytes is None else f"max_bytes {max_bytes!r}",
            expected="a positive size of at least one byte",
        )
    return int(budget)


def fill(
    encode: Callable[[int], bytes], budget: int, *, allow_spare: bool, pixels: int
) -> tuple[int, bytes]:
    """Encode at the highest quality whose size is within a budget.

    Parameters
    ----------
    encode : from a quality in sixteenths to the bytes of a stream; sizes grow with quality
    budget : bytes, at most
    allow_spare : accept the best quality even if it leaves much of the budget unused
    pixels : of the picture, for messages

    Returns
    -------
    quality16 : int; data : bytes

    Raises
    ------
    TargetUnreachable
        When even the lowest quality is larger, or (unless ``allow_spare``) even the highest is
        more than 3 % smaller.
    """
    tried: dict[int, bytes] = {}

    def size(quality16: int) -> int:
        if quality16 not in tried:
            tried[quality16] = encode(quality16)
        return len(tried[quality16])

    low, high = QUALITY16_MIN, QUALITY16_MAX
    smallest, largest = size(low), size(high)
    if smallest > budget or (not allow_spare and largest < 0.97 * budget):
        raise TargetUnreachable(
            f"{budget} bytes ({8 * budget / pixels:.3f} bpp) cannot be met",
            remedy=(
                f"this picture takes {smallest} to {largest} bytes"
                f" ({8 * smallest / pixels:.3f} to {8 * largest / pixels:.3f} bpp)"
            ),
        )
    if largest <= budget:
        return high, tried[high]
    for turn in range(TRIES):
        if high - low <= 1 or size(low) >= CLOSE * budget:
            break
        guess = (low + high) // 2
        if turn < GUIDED:
            guess = _between(low, high, size(low), size(high), budget)
        if size(guess) <= budget:
            low = guess
        else:
            high = guess
    return low, tried[low]


def _between(low: int, high: int, small: int, large: int, budget: int) -> int:
    """Interpolate the logarithm of the size; aim a little below the budget."""
    wanted = math.log(budget * (1 + CLOSE) / 2)
    slope = math.log(large) - math.log(small)
    part = (wanted - math.log(small)) / slope if slope > 0 else 0.5
    part = min(max(part, 0.05), 0.95)
    return min(max(low + round(part * (high - low)), low + 1), high - 1)
