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
    if search == "round" and trellis:
        raise BadParameter(
            f"search {search!r} with trellis {trellis}",
            expected="search='trellis', or search='round' with trellis=0",
        )
    if dither is not None and (trellis or search == "round"):
        raise BadParameter(
            f"dither with trellis {trellis}, search {search!r}",
            expected="trellis=0 and search='trellis'",
        )
    if steady:
        _check_steady(trellis, search, dither, progressive)
    if progressive and (dither is not None or search == "round"):
        raise BadParameter("progressive with dither or plain rounding", expected="neither")


def _check_steady(trellis: int, search: str, dither: int | None, progressive: bool) -> None:
    others = {
        f"trellis {trellis}": trellis not in (0, DEFAULT_TRELLIS),
        "search='round'": search == "round",
        "dither": dither is not None,
        "progressive": progressive,
    }
    for name, given in others.items():
        if given:
            raise BadParameter(f"steady with {name}", expected="one of the two")
