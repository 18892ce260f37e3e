"""From a user's target (quality, bits per pixel, bytes) to a quality of the format."""

from __future__ import annotations

import math
from collections.abc import Callable

from trellic.errors import BadParameter, TargetUnreachable
from trellic.support.numeric import is_number, is_whole

QUALITY16_MIN, QUALITY16_MAX = 16, 1600  # sixteenths of the quality
CLOSE = 0.985  # a size in [CLOSE * budget, budget] is good enough
LEAST = 0.97  # of the budget; less than this misses a requested rate
TRIES = 20
COMMON = -2.94, 0.00278, 4.3e-7  # log of the bits a pixel over quality16: Kodak, model `photo`
GUIDED = 6  # tries that interpolate; where sizes jump, only halving is sure to end


def to_quality16(quality: float) -> int:
    """Round a quality in [1, 100] to sixteenths.

    Raises
    ------
    BadParameter
        When it is outside the range.
    """
    if not (is_number(quality) and 1 <= quality <= 100):
        raise BadParameter(f"quality {quality!r}", expected="a number from 1 to 100")
    return min(max(round(float(quality) * 16), QUALITY16_MIN), QUALITY16_MAX)


def to_budget(bpp: float | None, max_bytes: int | None, pixels: int) -> int:
    """Return the budget in bytes, from bits per pixel or from bytes.

    Raises
    ------
    BadParameter
        When both are given, or less than a byte, or bytes that are no whole number.
    """
    if bpp is not None and max_bytes is not None:
        raise BadParameter("both bpp and max_bytes are given", expected="one of them")
    if max_bytes is not None:
        if not (is_whole(max_bytes) and max_bytes >= 1):
            raise BadParameter(
                f"max_bytes {max_bytes!r}", expected="a whole number of bytes, at least 1"
            )
        return int(max_bytes)
    budget = bpp * pixels / 8 if bpp is not None and is_number(bpp) else 0.0
    if not 1 <= budget < math.inf:
        raise BadParameter(f"bpp {bpp!r}", expected="a positive size of at least one byte")
    return int(budget)


def fill(
    encode: Callable[[int], bytes], budget: int, *, allow_spare: bool, pixels: int
) -> tuple[int, bytes]:
    """Encode at the highest quality whose size is within a budget.

    The first guess is that of a common photo, and later ones follow the sizes found so far. The
    ends of the range are encoded only if the search leads there.

    Parameters
    ----------
    encode : from a quality in sixteenths to the bytes of a stream; sizes grow with quality
    budget : bytes, at most
    allow_spare : accept the best quality even if it leaves much of the budget unused
    pixels : of the picture

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

    low, high = QUALITY16_MIN - 1, QUALITY16_MAX + 1  # one that fits, one that does not
    for turn in range(TRIES):
        if high - low <= 1 or (low in tried and size(low) >= CLOSE * budget):
            break
        guess = (low + high) // 2
        if turn < GUIDED:
            guess = _guess([(at, size(at)) for at in tried], budget, pixels)
            margin = 1 + (high - low) // 20 if tried.keys() >= {low, high} else 1
            guess = min(max(guess, low + margin), high - margin)
        if size(guess) <= budget:
            low = guess
        else:
            high = guess
    too_small = not allow_spare and low == QUALITY16_MAX and size(low) < LEAST * budget
    if low < QUALITY16_MIN or too_small:
        smallest, largest = size(QUALITY16_MIN), size(QUALITY16_MAX)
        raise TargetUnreachable(
            f"{budget} bytes ({8 * budget / pixels:.3f} bpp) cannot be met",
            remedy=(
                f"this picture takes {smallest} to {largest} bytes"
                f" ({8 * smallest / pixels:.3f} to {8 * largest / pixels:.3f} bpp)"
            ),
        )
    return low, tried[low]


def _guess(tried: list[tuple[int, int]], budget: int, pixels: int) -> int:
    """Guess the quality that fills a budget from the (quality16, bytes) that were tried so far.

    Sizes are assumed to grow like those of common photos: times a factor after one try, and to a
    power after more tries, through the last two. The guess aims a little below the budget.
    """
    wanted = math.log(8 * budget * (1 + CLOSE) / 2 / pixels)
    if not tried:
        return _common_quality(wanted)
    common, sizes = zip(
        *((_common_rate(at), math.log(8 * size / pixels)) for at, size in tried[-2:]), strict=True
    )
    slope = 1.0
    if sizes[-1] != sizes[0]:
        slope = max((common[-1] - common[0]) / (sizes[-1] - sizes[0]), 0)
    return _common_quality(common[-1] + slope * (wanted - sizes[-1]))


def _common_rate(quality16: int) -> float:
    """Logarithm of the mean bits per pixel of photos."""
    start, slope, bend = COMMON
    return start + slope * quality16 - bend * quality16**2


def _common_quality(rate: float) -> int:
    """Inverse of `_common_rate`; beyond its maximum the highest quality."""
    start, slope, bend = COMMON
    root = slope**2 - 4 * bend * (rate - start)
    return round((slope - math.sqrt(root)) / (2 * bend)) if root > 0 else QUALITY16_MAX
