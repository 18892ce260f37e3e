"""Bars for what takes longer than a moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(items: Sequence[T], what: str, *, hidden: bool = False) -> Iterable[T]:
    """Yield items while a bar on stderr grows, if that is a terminal; it goes away at the end.

    Parameters
    ----------
    what : the words beside the bar
    hidden : show none
    """
    console = Console(stderr=True)
    hidden |= not console.is_terminal
    return track(items, what, console=console, transient=True, disable=hidden)
