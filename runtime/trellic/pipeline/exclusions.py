"""Options of encoding that exclude each other: one rule for all interfaces. Loads nothing heavy."""

from __future__ import annotations

from trellic.constants import DEFAULT_TRELLIS
from trellic.errors import BadParameter


def check_together(
    *,
    trellis: int = DEFAULT_TRELLIS,
    search: str = "trellis",
    dither: int | None = None,
    progressive: bool = False,
    steady: bool = False,
) -> None:
    """Refuse options that exclude each other; each alone is in its range.

    Parameters
    ----------
    trellis, search, dither, progressive, steady : as of `trellic.Codec.encode_picture`. The default
        trellis goes with steady, since it cannot be told from one not given

    Raises
    ------
    BadParameter
    """
    rounded = search == "round"
    for name, given in (("search 'round'", rounded), ("dither", dither is not None)):
        if given and trellis and not steady:
            raise BadParameter(f"{name} with trellis {trellis}", expected="trellis 0")
    chosen = {
        "steady": steady,
        f"trellis {trellis}": steady and trellis not in (0, DEFAULT_TRELLIS),
        "search 'round'": rounded,
        "progressive": progressive,
        "dither": dither is not None,
    }
    first, *others = [name for name, given in chosen.items() if given] or [""]
    if others:
        raise BadParameter(f"{first} with {others[0]}", expected="one of the two")
