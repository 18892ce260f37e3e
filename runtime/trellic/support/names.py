"""Names that users type."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches

from trellic.errors import BadParameter


def text_of(name: object, what: str) -> str:
    """Return a name or a path as text.

    Parameters
    ----------
    name : that a user gave
    what : it is of, for the error: "model"

    Raises
    ------
    BadParameter
        When it is neither text nor a path.
    """
    text = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(text, str):
        raise BadParameter(
            f"{what} {name!r}", expected=f"the name of an installed {what}, or a path"
        )
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question with the known name that is nearest; empty if none is near.

    Examples
    --------
    >>> did_you_mean("qualty", ["quality", "bytes"])
    "did you mean 'quality'?"
    """
    close = get_close_matches(name, [*known], 1)
    return f"did you mean {close[0]!r}?" if close else ""
