"""The law of a latent around its predicted mean, as tables of integers.

It is nine tenths of a normal law of the predicted deviation and one tenth of one twice as wide,
which frequency tables are fitted from, too. (Specification: ``docs/format.md``, section 8.4.)
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import PRECISION, RATE_UNIT, TOTAL, rates_of
from trellic.latents.refine import variances
from trellic.limits import SIGMA_FIRST, SIGMA_LAST, STEP32

Int64 = npt.NDArray[np.int64]

LAW_BITS: Final = 24  # of the tables of the law
NODE_BITS: Final = 6  # nodes in a deviation, and as many places between two nodes
FAR: Final = 16  # deviations beyond which the law is not tabulated
INVERSE_BITS: Final = 28  # of the reciprocal of a deviation
SIGMA_BITS: Final = 8  # of a deviation, beyond 1/32 step
MIXTURE: Final = ((0.9, 1.0), (0.1, 2.0))  # weight and width of each normal law


class Law(NamedTuple):
    """The model's law as integers.

    Attributes
    ----------
    mass : int64, probability up to each node, of 2**24
    moment : int64, first moment up to each node, in deviations, of 2**24
    sigma : int64 (scales,), deviation of each scale index, in 1/8192 step
    inverse : int64 (scales,), its reciprocal, as 2**28 / deviation in 1/32 step
    centres, borders : variances of scale indices, and the borders between them
    """

    mass: Int64
    moment: Int64
    sigma: Int64
    inverse: Int64
    centres: Int64
    borders: Int64


@cache
def law(scales: int) -> Law:
    """Return the law for a number of scale indices."""
    nodes = np.arange(-FAR << NODE_BITS, (FAR << NODE_BITS) + 1)
    mass, moment = [], []
    for node in np.abs(nodes).tolist():
        x, tail, first = node / 2**NODE_BITS, 0.0, 0.0
        for weight, width in MIXTURE:
            tail += weight * math.erfc(x / width / math.sqrt(2)) / 2
            first -= weight * width * math.exp(-((x / width) ** 2) / 2) / math.sqrt(2 * math.pi)
        mass.append(math.floor(2**LAW_BITS * tail + 0.5))
        moment.append(math.floor(2**LAW_BITS * first + 0.5))
    tails = np.array(mass, np.int64)
    sigma = SIGMA_FIRST * (SIGMA_LAST / SIGMA_FIRST) ** (np.arange(scales) / max(scales - 1, 1))
    found = Law(
        np.where(nodes > 0, 2**LAW_BITS - tails, tails),
        np.array(moment, np.int64),
        np.rint(sigma * STEP32 * 2**SIGMA_BITS).astype(np.int64),
        np.rint(2**INVERSE_BITS / (sigma * STEP32)).astype(np.int64),
        *variances(scales),
    )
    for table in found:
        table.flags.writeable = False
    return found


@cache
def rates() -> Int64:
    """Bits that symbols of each frequency cost, in 1/64 bit; of frequency 0, more than any."""
    found: Int64 = np.append(2 * PRECISION * RATE_UNIT, rates_of(np.arange(1, TOTAL + 1)))
    found.flags.writeable = False
    return found
