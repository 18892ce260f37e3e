"""Lanes and groups: how symbols are distributed, and where the words of a segment lie.

Symbol `i` of a segment goes to lane ``i % L``. Each lane is one rANS state; 32 neighbouring lanes
form a group and share one stream of 16-bit words. A segment is, all little endian::

    first segment of a slice only:  state of the first lane of each group, 4 bytes each
    for each group but the last:    its number of words
    for each group:                 its words

A number of words below ``2**15`` is one 16-bit word; a larger one is two, the first holding
``0x8000 | number >> 16``, the second the low 16 bits.

In the first segment of a slice a group's words begin with the states of its other lanes, in order.
For a state `x` with ``e = floor(log2(x)) - 16``, the first lane's state gives `e` as 4 raw bits and
`m` as `e` raw bits, and the next word completes ``x = (2**e + m) << 16 | word``. So a lane costs
19.5 bits beyond the payload that its state holds; a plain 32-bit state would cost 24.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.constants import MAX_LANES
from trellic.entropy.divided import Divided, check_divided
from trellic.errors import BadParameter, CorruptStream, TruncatedStream
from trellic.limits import MAX_INDEX

if TYPE_CHECKING:
    from trellic.entropy.tables import FrequencyTables

GROUP: Final = 32  # lanes that share a word stream
LANE_PAYLOAD: Final = 600  # bytes that a lane must carry to be worth its cost of 2.5
STATE_LOW: Final = 1 << 16  # states lie in 2**16 .. 2**32 - 1; each lane ends at 2**16
STATE_BYTES: Final = 4
EXPONENT_BITS: Final = 4  # of a state's exponent
MAX_DIGITS: Final = 15  # of an escape's excess plus 1, in bits
LONG_COUNT: Final = 0x8000

Uint16s = npt.NDArray[np.uint16]
Uint32s = npt.NDArray[np.uint32]
Int64s = npt.NDArray[np.int64]


class Segment(NamedTuple):
    """Symbols of one segment, in coding order.

    Attributes
    ----------
    k : int32, shape (n,)
        Indices, at most 32767 in magnitude.
    table : uint16, shape (n,)
        Table of each: ``class * S + scale_index``.
    """

    k: npt.NDArray[np.int32]
    table: npt.NDArray[np.uint16]


def choose_lanes(payload_bytes: int) -> int:
    """Return the largest power of two of lanes that leaves each 600 bytes of payload.

    Parameters
    ----------
    payload_bytes
        Expected size of all segments of a slice together.

    Returns
    -------
    int
        1 to 1024.

    Examples
    --------
    >>> [choose_lanes(n) for n in (0, 1199, 1200, 20_000, 10**9)]
    [1, 1, 2, 32, 1024]
    """
    lanes = MAX_LANES
    while lanes > 1 and lanes * LANE_PAYLOAD > payload_bytes:
        lanes //= 2
    return lanes


def max_compressed_size(n: int, lanes: int) -> int:
    """Return the most bytes that a segment of `n` symbols can take, with states.

    A symbol is one word at most, the two rounds of an escape are one each, as are the three parts
    of a state; a number of words takes two.
    """
    return 2 * 3 * (n + lanes) + 2 * STATE_BYTES * group_count(lanes)


def check_lanes(lanes: int) -> None:
    """Raise BadParameter unless `lanes` is a power of two from 1 to 1024."""
    if not 1 <= lanes <= MAX_LANES or lanes & (lanes - 1):
        raise BadParameter(f"{lanes} lanes", expected=f"a power of two in 1..{MAX_LANES}")


def check_segments(
    segments: Sequence[Segment | Divided], tables: "FrequencyTables", lanes: int
) -> None:
    """Raise BadParameter unless the segments can be coded with these tables and lanes."""
    check_lanes(lanes)
    count = tables.half_width.size
    for segment in segments:
        if not isinstance(segment, Segment):
            check_divided(segment)
            continue
        k, table = segment
        if k.ndim != 1 or k.shape != table.shape:
            raise BadParameter(
                f"indices {k.shape} with tables {table.shape}", expected="equal rows"
            )
        if k.dtype != np.int32 or table.dtype != np.uint16:
            raise BadParameter(f"{k.dtype} and {table.dtype}", expected="int32 and uint16")
        if len(k) and (int(k.max()) > MAX_INDEX or int(k.min()) < -MAX_INDEX):
            raise BadParameter(
                f"indices in {k.min()}..{k.max()}", expected=f"-{MAX_INDEX}..{MAX_INDEX}"
            )
        if len(k) and int(table.max()) >= count:
            raise BadParameter(f"table {table.max()}", expected=f"less than {count}")


def check_scale_index(scale_index: npt.NDArray[np.uint8], tables: "FrequencyTables") -> None:
    """Raise BadParameter unless `scale_index` is a row of uint8, each with a table."""
    if scale_index.ndim != 1 or scale_index.dtype != np.uint8:
        raise BadParameter(
            f"scale index {scale_index.dtype} {scale_index.shape}", expected="a row of uint8"
        )
    if len(scale_index) and int(scale_index.max()) >= tables.scales:
        raise BadParameter(f"scale index {scale_index.max()}", expected=f"below {tables.scales}")


def check_classes(
    cls: npt.NDArray[np.uint8], scale_index: npt.NDArray[np.uint8], tables: "FrequencyTables"
) -> None:
    """Raise BadParameter unless `cls` is a row of uint8 like `scale_index`, each with tables."""
    if cls.shape != scale_index.shape or cls.dtype != np.uint8:
        raise BadParameter(
            f"classes {cls.dtype} {cls.shape}", expected=f"uint8 {scale_index.shape}"
        )
    if len(cls) and int(cls.max()) >= len(tables.half_width):
        raise BadParameter(f"class {cls.max()}", expected=f"below {len(tables.half_width)}")


def check_next_state(next_state: npt.NDArray[np.uint8]) -> None:
    """Raise BadParameter unless `next_state` is the table of a linear code of 1 to 256 states.

    Linear as `trellic.quantize.trellis.next_state` is: ``s >> 1``, exclusive-or one constant if `s`
    is odd, exclusive-or another if the index is odd.
    """
    shape = next_state.shape
    if next_state.dtype != np.uint8 or len(shape) != 2 or shape[1] != 2 or not 1 <= shape[0] <= 256:
        raise BadParameter(f"next_state {next_state.dtype} {shape}", expected="uint8 (states, 2)")
    if int(next_state.max()) >= shape[0]:
        raise BadParameter(f"next_state leads to {next_state.max()} of {shape[0]} states")
    s, x = np.arange(shape[0])[:, None], np.arange(2)
    after_q1 = int(next_state[1, 0]) if shape[0] > 1 else 0
    linear = s >> 1 ^ after_q1 * (s & 1) ^ int(next_state[0, 1]) * x
    if not np.array_equal(next_state, linear):
        raise BadParameter("a next_state that is not linear", expected="that of a trellis")


def group_count(lanes: int) -> int:
    """Return the number of groups, each of 32 lanes or of all if there are fewer."""
    return -(-lanes // GROUP)


def pack(states: Sequence[int] | Uint32s, groups: Sequence[Uint16s]) -> bytes:
    """Lay out a segment.

    Parameters
    ----------
    states
        States of the groups' first lanes for the first segment of a slice, else empty.
    groups
        Words of each group, in the order in which the decoder reads them.
    """
    counts: list[int] = []
    for words in groups[:-1]:
        if len(words) < LONG_COUNT:
            counts.append(len(words))
        else:
            counts += [LONG_COUNT | len(words) >> 16, len(words) & 0xFFFF]
    parts = [np.asarray(states, "<u4"), np.array(counts, "<u2")]
    return b"".join(part.tobytes() for part in [*parts, *(g.astype("<u2") for g in groups)])


def unpack_states(segment: bytes, lanes: int) -> Uint32s:
    """Read the states of the groups' first lanes from the first segment of a slice.

    Raises
    ------
    TruncatedStream
        The segment is too short for them.
    CorruptStream
        A state is out of range.
    """
    groups = group_count(lanes)
    if len(segment) < STATE_BYTES * groups:
        raise TruncatedStream(
            f"a first segment of {len(segment)} bytes",
            expected=f"at least {STATE_BYTES * groups} for the states of {lanes} lanes",
        )
    states = np.frombuffer(segment, "<u4", groups).astype(np.uint32)
    if int(states.min()) < STATE_LOW:
        raise CorruptStream(f"an initial rANS state of {states.min()}", expected=f">= {STATE_LOW}")
    return states


def check_size(segment: bytes, lanes: int, first: bool) -> None:
    """Check that a segment consists of whole words, and that a slice's first one holds its states.

    Raises
    ------
    CorruptStream
        When one of these is not so.
    """
    least = STATE_BYTES * group_count(lanes) if first else 0
    if len(segment) < least or len(segment) % 2:
        raise CorruptStream(f"a segment of {len(segment)} bytes", expected="whole 16-bit words")


def unpack(segment: bytes, lanes: int, first: bool) -> tuple[Uint16s, Int64s]:
    """Find the words of every group.

    Parameters
    ----------
    segment
        All bytes of the segment.
    lanes
        Lanes of the slice.
    first
        Whether this is the slice's first segment, which begins with states.

    Returns
    -------
    words : uint16
        The segment after the states, followed by `GROUP` zeros, so that reading one word for each
        lane of a group never leaves the array.
    bounds : int64, shape (groups + 1,)
        Where each group's words begin in `words`, and where the last group's end.

    Raises
    ------
    TruncatedStream, CorruptStream
        The segment has an odd length or is shorter than its groups.
    """
    check_size(segment, lanes, first)
    skip = STATE_BYTES * group_count(lanes) if first else 0
    size = len(segment) - skip
    words = np.zeros(size // 2 + GROUP, np.uint16)
    words[: size // 2] = np.frombuffer(segment, "<u2", size // 2, skip)
    end = size // 2
    counts, at = [], 0
    for _ in range(group_count(lanes) - 1):
        if at >= end:
            at = end + 1
            break
        count, at = int(words[at]), at + 1
        if count >= LONG_COUNT:
            count, at = (count - LONG_COUNT) << 16 | int(words[at]), at + 1
            if count < LONG_COUNT:
                raise CorruptStream(f"{count} words in the long form", expected=f">= {LONG_COUNT}")
        counts.append(count)
    bounds = np.cumsum([at, *counts])
    if at > end or bounds[-1] > end:
        raise TruncatedStream(
            f"a segment of {end} words", expected=f"{bounds[-1]} or more for its groups"
        )
    return words, np.append(bounds, end)


def split(words: Uint16s, bounds: Int64s) -> list[list[int]]:
    """Return the words of each group as integers."""
    return [words[a:b].tolist() for a, b in pairwise(bounds.tolist())]


def check_final(states: Uint32s) -> None:
    """Raise CorruptStream unless every lane ended at ``2**16``, where the encoder began."""
    wrong = np.flatnonzero(states != STATE_LOW)
    if len(wrong):
        raise CorruptStream(
            f"lane {wrong[0]} ended in state {states[wrong[0]]}", expected=f"{STATE_LOW}"
        )
