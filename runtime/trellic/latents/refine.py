"""What a layer knows about latents for the next layer, in integers.

The layers below give a latent with some error. The error counts as Gaussian, like the latent around
its predicted mean, and the two are combined by their variances: the mean moves towards the known
value, and the scale index falls. (Specification: ``docs/format.md``, section 8.2. Li, "Learned
progressive image compression with dead-zone quantizers", 2023, refines intervals instead.)
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.limits import (
    MEAN_LIMIT,
    SIGMA_FIRST,
    SIGMA_LAST,
    VARIANCE_BITS,
    VARIANCE_LIMIT,
    VARIANCE_OTHER,
    VARIANCE_ZERO,
)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

RATIO_BITS = 12  # of a ratio of gains
RATIO_LIMIT = 1 << 20
WEIGHT_BITS = 15


class Known(NamedTuple):
    """Known values of latents.

    Attributes
    ----------
    v32 : int64, values in 1/32 step of a layer
    variance : int64, of their errors, in 1/1024 square step of that layer; 0 where no layer has
        coded the latent
    """

    v32: Int64
    variance: Int64

    def window(self, first: int, last: int) -> Known:
        """Return some of the channels."""
        return Known(self.v32[first:last], self.variance[first:last])


@cache
def variances(scales: int) -> tuple[Int64, Int64]:
    """Variances of scale indices, and the borders between them.

    Returns
    -------
    centres : int64 (scales,), in 1/1024 square step
    borders : int64 (scales - 1,), half-way between neighbours on the scale of indices
    """
    ratio = (SIGMA_LAST / SIGMA_FIRST) ** (2 / max(scales - 1, 1))
    at = np.arange(2 * scales - 1) / 2
    all_of = np.rint((SIGMA_FIRST**2 * 2**VARIANCE_BITS) * ratio**at).astype(np.int64)
    all_of.flags.writeable = False
    return all_of[::2], all_of[1::2]


def carried(known: Known, before: Int64, after: Int64) -> Known:
    """Convert known values to another layer's steps.

    Parameters
    ----------
    known : (channels, rows, columns)
    before, after : int64 (channels,), gains of the two layers
    """
    ratio = np.minimum((after << RATIO_BITS) // before, RATIO_LIMIT)
    square = (ratio * ratio >> RATIO_BITS)[:, None, None]
    variance = (known.variance * square + (1 << RATIO_BITS - 1)) >> RATIO_BITS
    variance = np.clip(variance, 1, VARIANCE_LIMIT)
    return Known(rescaled(known.v32, before, after), np.where(known.variance > 0, variance, 0))


def rescaled(v32: npt.NDArray[np.signedinteger], before: Int64, after: Int64) -> Int64:
    """Return latents of one layer in 1/32 step of another."""
    gains = before[:, None, None], after[:, None, None]
    scaled: Int64 = (v32.astype(np.int64) * gains[1] + (gains[0] >> 1)) // gains[0]
    return np.clip(scaled, -MEAN_LIMIT, MEAN_LIMIT)


def informed(mean32: Int64, index: Int64, known: Known, scales: int) -> tuple[Int64, Int64]:
    """Combine a prediction with known values.

    Parameters
    ----------
    mean32, index : int64, means in 1/32 step and scale indices, as the networks predict them
    known : of the same latents, in the same steps
    scales : how many scale indices there are

    Returns
    -------
    mean32, index : int64, of the part that is still unknown
    """
    centres, borders = variances(scales)
    spread = centres[index]
    total = spread + np.maximum(known.variance, 1)
    weight = (spread << WEIGHT_BITS) // total
    half = 1 << WEIGHT_BITS - 1
    moved = mean32 + (((known.v32 - mean32) * weight + half) >> WEIGHT_BITS)
    left = spread * known.variance // total
    finer = np.searchsorted(borders, left, side="right")
    unknown = known.variance == 0
    return np.where(unknown, mean32, moved), np.where(unknown, index, finer)


def learned(k: Int32) -> Int64:
    """Variance of the error of coded latents, from their indices, in 1/1024 square step."""
    return np.where(k == 0, VARIANCE_ZERO, VARIANCE_OTHER).astype(np.int64)
