"""Names that users type."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the known name that is nearest; empty if none is near.

    Examples
    --------
    >>> did_you_mean("qualty", ["quality", "bytes"])
    "did you mean 'quality'?"
    """
    close = get_close_matches(name, [*known], 1)
    return f"did you mean {close[0]!r}?" if close else ""
