"""Whether a run made enough steps to be of use."""

from __future__ import annotations

WARM_UPS = 10  # a run of fewer than so many warm-ups has learned next to nothing


def too_few(steps: int, warm_up: int, speed: float | None) -> str | None:
    """Say that so many steps are too few to be of use, and what would be enough; or None.

    Parameters
    ----------
    steps : of a run
    warm_up : steps of its warm-up
    speed : steps a second, if known

    Examples
    --------
    >>> too_few(30, 20, 0.5)
    '30 steps are too few to be of use: the warm-up alone takes 20; try --minutes 7'
    >>> too_few(200, 20, 0.5)
    """
    useful = WARM_UPS * warm_up
    if steps >= useful:
        return None
    said = f"{steps:,} step{'s are' if steps != 1 else ' is'} too few to be of use"
    text = f"{said}: the warm-up alone takes {warm_up:,}"
    return f"{text}; try --minutes {max(1, round(useful / speed / 60 + 0.5))}" if speed else text
