"""Segments whose symbols have frequencies of their own, in place of tables of the model.

Such a symbol is one of a few parts that an interval is divided into (docs/format.md, section 8.4).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import TOTAL
from trellic.errors import BadParameter

Int32s = npt.NDArray[np.int32]
Uint16s = npt.NDArray[np.uint16]


class Divided(NamedTuple):
    """Symbols of one segment, in coding order.

    Attributes
    ----------
    k : int32, shape (n,)
        Parts, from 0.
    cumulative : uint16, shape (n, m)
        Frequencies of all parts before each, of ``2**15``: they rise from 0, and are ``2**15``
        after the last part. At least two parts each.
    """

    k: Int32s
    cumulative: Uint16s


def check_cumulative(cumulative: Uint16s) -> None:
    """Raise BadParameter unless each row rises from 0 to ``2**15`` by two parts or more."""
    shape = cumulative.shape
    if cumulative.dtype != np.uint16 or len(shape) != 2 or (shape[0] and shape[1] < 3):
        raise BadParameter(
            f"frequencies {cumulative.dtype} {shape}", expected="uint16, 3 or more for each symbol"
        )
    before, after = cumulative[:, :-1], cumulative[:, 1:]
    rising = (before < after) | ((before == TOTAL) & (after == TOTAL))
    ends = (cumulative[:, :1] == 0) & (cumulative[:, -1:] == TOTAL)
    if not (rising.all() and ends.all()) or (cumulative[:, 1:2] == TOTAL).any():
        raise BadParameter("frequencies that do not divide 2**15", expected="rising from 0 to it")


def check_divided(segment: Divided) -> None:
    """Raise BadParameter unless every symbol is a part that it can be."""
    k, cumulative = segment
    check_cumulative(cumulative)
    if k.dtype != np.int32 or k.shape != cumulative.shape[:1]:
        raise BadParameter(f"parts {k.dtype} {k.shape}", expected=f"int32 {cumulative.shape[:1]}")
    parts = np.count_nonzero(cumulative < TOTAL, axis=1)
    if ((k < 0) | (k >= parts)).any():
        raise BadParameter("a part beyond the last", expected="below the number of parts")


def intervals(segment: Divided) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return the sum of frequencies before each symbol, and its frequency."""
    at = np.arange(len(segment.k))
    before = segment.cumulative[at, segment.k].astype(np.uint64)
    return before, segment.cumulative[at, segment.k + 1] - before
