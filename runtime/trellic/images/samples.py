"""The meaning of Pillow's samples: how deep they were, and which value is white."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.images.picture import Pixels, round_to_8_bits


class Reading(NamedTuple):
    """How to interpret the samples of an image that Pillow loads."""

    bits: int = 8  # of a sample in the file
    peak: int | None = None  # value that Pillow gives for white; None: 255, or 65535 if deep
    inverted: bool = False  # whether white is 0


def to_8_bits(samples: npt.NDArray[Any], reading: Reading) -> Pixels:
    """Scale samples to 0 to 255, rounded.

    Parameters
    ----------
    samples : ndarray of uint8 or uint16
        As Pillow gives them.
    reading : Reading
        Their meaning.

    Returns
    -------
    ndarray of uint8
        The same array if no scaling is needed.
    """
    if reading.peak is not None:
        scaled = samples.astype(np.uint32) * 255 + reading.peak // 2
        samples = np.minimum(scaled // reading.peak, 255).astype(np.uint8)
    elif samples.dtype != np.uint8:
        samples = round_to_8_bits(samples)
    return 255 - samples if reading.inverted else samples
