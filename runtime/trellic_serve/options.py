"""Names of options, in a query or in a URL: each is known, and given once."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from trellic.errors import BadParameter
from trellic.support.names import did_you_mean

_SHOWN = 64  # characters of a name


def check_names(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names of options that are unknown or repeated.

    Parameters
    ----------
    names : as given, in order
    known : those that there are

    Raises
    ------
    BadParameter
    """
    seen: set[str] = set()
    for name in names:
        if name not in known:
            raise BadParameter(
                f"option {name[:_SHOWN]!r}",
                expected=f"one of {', '.join(known)}" if known else "none",
                remedy=did_you_mean(name[:_SHOWN], known),
            )
        if name in seen:
            raise BadParameter(f"option {name!r} given twice", expected="one value")
        seen.add(name)
