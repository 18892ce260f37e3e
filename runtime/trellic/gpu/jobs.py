"""The input of the coder's kernels: a table of jobs, and the task of each warp.

A *job* is one segment of one slice. A batch of pictures, of any sizes and qualities, is a table of
jobs in the device's memory. One launch does them all, with one warp for each group of 32 lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.lanes import GROUP, group_count
from trellic.quantize.trellis import PARITY_CHECKS

# Columns of the table of jobs.
LANES: Final = 0  # lanes of the slice
STATE_AT: Final = 1  # where the slice's rANS states begin
SYMBOL_AT: Final = 2  # where the segment's symbols begin
FIRST_CLASS: Final = 3  # 0 scalar, 1 trellis
H0: Final = 4  # parity checks of the trellis, without bit 0; both 0: scalar
H1: Final = 5
FRESH: Final = 6  # 1 for the first segment of a slice, which begins with states
WORD_AT: Final = 7  # decoder: where the segment's words begin
WORDS: Final = 8  # decoder: how many there are, states included
REGION_AT: Final = 9  # encoder: where the groups' words may go
REGION: Final = 10  # encoder: words reserved for each group
USED_AT: Final = 11  # where the groups' numbers of words go; decoder: their status
STATES: Final = 12  # of the trellis, 0: scalar
LAMBDA: Final = 13  # price of 1/64 bit for the search
TARGET_AT: Final = 14  # where the positions of the segment's symbols count from, in the latents
COLUMNS: Final = 15

WORD_PADDING: Final = 128  # words that a decoder may read beyond the last segment
ROOMS: Final = 4  # sizes of room for words between a power of two and the next
WORDS_A_SYMBOL: Final = 3  # at most

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Uint16s = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Trellis:
    """A trellis as kernels compute it: ``next = s >> 1 ^ (h0 if s & 1) ^ (h1 if k & 1)``."""

    states: int

    @property
    def first_class(self) -> int:
        """Class of state 0."""
        return 1 if self.states else 0

    @property
    def checks(self) -> tuple[int, int]:
        """The parity checks without bit 0."""
        h0, h1 = PARITY_CHECKS.get(self.states, (0, 0))
        return h0 >> 1, h1 >> 1


@dataclass(frozen=True)
class JobPlan:
    """The jobs of a batch, on the host: those of z, then those of step 0, step 1, ...

    Attributes
    ----------
    rows : int64 (jobs, COLUMNS); only the columns for words are filled in later
    order : int32 (slices, segments), jobs of each slice in coding order; -1 for none, only in front
    rooms : int64 (steps, slices), the most symbols of each job of a step
    counts : int32 (jobs,), symbols of each; 0 where they are not known yet
    """

    rows: Int64s
    order: Int32s
    rooms: Int64s
    counts: Int32s

    @property
    def most(self) -> Int64s:
        """The most symbols of each job."""
        return np.concatenate([self.counts[: self.leading], self.rooms.ravel()]).astype(np.int64)

    @property
    def coded_lanes(self) -> list[int]:
        """Lanes of each slice."""
        lanes: list[int] = self.rows[self.order[:, -1], LANES].tolist()
        return lanes

    @property
    def states(self) -> int:
        """RANS states of all slices."""
        return int((self.rows[:, STATE_AT] + self.rows[:, LANES]).max(initial=0))

    @property
    def leading(self) -> int:
        """Number of jobs of z."""
        return len(self.rows) - self.rooms.size

    def of_step(self, k: int) -> slice:
        """Return which jobs are those of a step, one for each slice."""
        number = self.rooms.shape[1]
        first = self.leading + k * number
        return slice(first, first + number)


def describe(lanes: int, state_at: int, symbol_at: int, states: int, *, fresh: bool) -> list[int]:
    """Return a row of the table of jobs; the columns for words and the price are 0."""
    trellis = Trellis(states)
    row = [0] * COLUMNS
    row[LANES], row[STATE_AT], row[SYMBOL_AT] = lanes, state_at, symbol_at
    row[FIRST_CLASS], (row[H0], row[H1]) = trellis.first_class, trellis.checks
    row[FRESH], row[STATES] = int(fresh), states
    return row


def warps(lanes: Sequence[int]) -> Int32s:
    """Return (job, group) of each warp for jobs of these lanes, shape (warps, 2)."""
    groups = np.array([group_count(n) for n in lanes], np.int64)
    job = np.repeat(np.arange(len(groups)), groups)
    group = np.arange(len(job)) - np.repeat(np.cumsum(groups) - groups, groups)
    return np.stack([job, group], axis=1).astype(np.int32)


def reserve(jobs: Int64s, counts: Int64s) -> tuple[int, int]:
    """Fill in where encoded words go; return the total numbers of words and groups.

    Parameters
    ----------
    jobs : int64 (jobs, COLUMNS), changed in place
    counts : int64 (jobs,), the most symbols of each
    """
    lanes = jobs[:, LANES]
    groups = -(-lanes // GROUP)
    rounds = -(-counts // lanes)
    jobs[:, REGION] = WORDS_A_SYMBOL * (rounds + 1) * np.minimum(lanes, GROUP)
    sizes = jobs[:, REGION] * groups
    jobs[:, REGION_AT] = np.cumsum(sizes) - sizes
    jobs[:, USED_AT] = np.cumsum(groups) - groups
    return int(sizes.sum()), int(groups.sum())


def place_words(jobs: Int64s, parts: Sequence[bytes]) -> Uint16s:
    """Bring the words of all segments together; fill in where each job's lie.

    What follows the last word is at least `WORD_PADDING` zeros.

    Parameters
    ----------
    jobs : int64 (jobs, COLUMNS), changed in place
    parts : a segment for each, of whole words
    """
    sizes = np.array([len(part) // 2 for part in parts], np.int64)
    jobs[:, WORDS] = sizes
    jobs[:, WORD_AT] = np.cumsum(sizes) - sizes
    total = int(sizes.sum())
    words = np.zeros(room_for(total + WORD_PADDING), np.uint16)
    words[:total] = np.frombuffer(b"".join(parts), "<u2")
    return words


def room_for(words: int) -> int:
    """Return room for this many words, of few sizes: batches of one layout have the same.

    Examples
    --------
    >>> [room_for(n) for n in (1, 1024, 1025, 1280, 1281)]
    [1, 1024, 1280, 1280, 1536]
    """
    unit = max((1 << (words - 1).bit_length()) // (2 * ROOMS), 1)
    return -(-words // unit) * unit
