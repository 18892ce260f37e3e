"""Limits of one call: pixels, memory, time, and a hook that stops it.

Limits apply to everything that a thread does inside ``with limited(...)``. They are checked where
pixels are counted, where memory is planned, and between slices and tiles. So they work for the
codec, the functions, Pillow's plugin and the command line, and need not be passed on.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from trellic.constants import LARGE_PIXELS, MAX_PIXELS
from trellic.errors import BadParameter, Cancelled, DeadlineExceeded, TrellicWarning
from trellic.support.numeric import is_number

_UNITS: Final = {"max_pixels": "pixels", "max_memory": "bytes", "deadline": "seconds"}


@dataclass(frozen=True)
class Limits:
    """Limits of one call; None means no limit. If several limits apply, the strictest one counts.

    Parameters
    ----------
    max_pixels : of a picture
    max_memory : bytes that the process may use (see `trellic.pipeline.memory`)
    deadline : seconds, counted from ``with``. It is checked between slices and tiles, so a call
        ends some tenths of a second later. Pillow is not interrupted while it reads or writes a
        picture file
    cancel : a function that is called at the same places, and stops the call if it returns True

    Raises
    ------
    BadParameter
        When a limit is not a positive number, or `cancel` is not a function.
    """

    max_pixels: int | None = None
    max_memory: int | None = None
    deadline: float | None = None
    cancel: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        for name in _UNITS:
            _check_positive(name, getattr(self, name))
        if self.cancel is not None and not callable(self.cancel):
            raise BadParameter(f"cancel {self.cancel!r}", expected="a function, or None")


def _check_positive(name: str, value: Any) -> None:
    if value is not None and not (is_number(value) and value > 0):  # false for nan, too
        raise BadParameter(
            f"{name} {value!r}", expected=f"a positive number of {_UNITS[name]}, or None"
        )


PROFILES: Final = {"service": Limits(max_pixels=2**25, max_memory=2 * 10**9, deadline=60.0)}


@dataclass(frozen=True)
class _Running:
    limits: Limits
    until: float | None  # of time.monotonic()


_running: ContextVar[tuple[_Running, ...]] = ContextVar("limits", default=())


@contextlib.contextmanager
def limited(limits: Limits | str) -> Iterator[None]:
    """Apply limits to what this thread does inside, in addition to the limits around it.

    Parameters
    ----------
    limits : or the name of a profile: "service", for pictures and streams of strangers, allows
        2^25 pixels, 2 GB and 60 s

    Raises
    ------
    BadParameter
        When there is no such profile, or it is something else.
    """
    if isinstance(limits, str):
        limits = PROFILES.get(limits, limits)
    if not isinstance(limits, Limits):
        profiles = ", ".join(map(repr, PROFILES))
        raise BadParameter(f"limits {limits!r}", expected=f"trellic.Limits, or {profiles}")
    until = None if limits.deadline is None else time.monotonic() + limits.deadline
    token = _running.set((*_running.get(), _Running(limits, until)))
    try:
        yield
    finally:
        _running.reset(token)


def check() -> None:
    """Stop here if a deadline has passed or a caller has cancelled.

    Raises
    ------
    DeadlineExceeded, Cancelled
    """
    for running in _running.get():
        if running.limits.cancel is not None and running.limits.cancel():
            raise Cancelled("the call was cancelled by its caller")
        if running.until is not None and time.monotonic() > running.until:
            raise DeadlineExceeded(
                f"not done after {running.limits.deadline:g} s",
                remedy="raise --deadline (Limits(deadline=) in Python), or code a smaller picture",
            )


def most_pixels(asked: int | None, pixels: int) -> int | None:
    """Return how many pixels a picture may have; warn of a large one if nobody chose a limit.

    Parameters
    ----------
    asked : limit of the call itself, `MAX_PIXELS` if the user chose none
    pixels : of the picture

    Raises
    ------
    BadParameter
        When the limit of the call is not a positive number.
    """
    _check_positive("max_pixels", asked)
    limit = _tightest(asked, [running.limits.max_pixels for running in _running.get()])
    if limit == MAX_PIXELS and LARGE_PIXELS < pixels <= MAX_PIXELS:
        warnings.warn(
            f"a picture of {pixels / 1e6:.0f} megapixels takes long and much memory; "
            "choose --max-pixels (max_pixels=) to continue without this warning",
            TrellicWarning,
            stacklevel=2,
        )
    return limit


def most_memory(asked: int | None) -> int | None:
    """Return how many bytes may be taken, with the limit of the call itself if it has one.

    Raises
    ------
    BadParameter
        When the limit of the call is not a positive number.
    """
    _check_positive("max_memory", asked)
    return _tightest(asked, [running.limits.max_memory for running in _running.get()])


def _tightest(asked: int | None, others: list[int | None]) -> int | None:
    return min((one for one in (asked, *others) if one is not None), default=None)
