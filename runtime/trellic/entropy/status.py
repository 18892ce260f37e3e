"""Statuses of all decoders, CPU and GPU: what may be wrong with the words of a segment."""

from __future__ import annotations

from trellic.errors import CorruptStream, TruncatedStream
from trellic.limits import MAX_INDEX

OK, NO_WORDS, LEFT_OVER, LONG_ESCAPE, TRUNCATED, LONG_FORM = range(6)

Fault = CorruptStream | TruncatedStream


def error_of(status: int) -> Fault:
    """Return what is wrong with a segment.

    Parameters
    ----------
    status : of a kernel, not `OK`. The CPU's kernels return only the first four, because its counts
        of words are checked before (`trellic.entropy.lanes.unpack`).
    """
    errors: dict[int, Fault] = {
        NO_WORDS: CorruptStream("a group that runs out of words", expected="more words"),
        LEFT_OVER: CorruptStream("words left over in a group", expected="none"),
        LONG_ESCAPE: CorruptStream(
            "an escape of more than 15 digits", expected=f"|k| <= {MAX_INDEX}"
        ),
        TRUNCATED: TruncatedStream("a segment of too few words", expected="more for its groups"),
        LONG_FORM: CorruptStream("a small number of words in the long form", expected="the short"),
    }
    return errors[status]
