"""Subtractive dither in plain numpy: the noise, rounding with it, and subtracting it again.

Specification: ``docs/format.md``, section 8.1. The noise of a latent follows from the seed of its
stream, the number of its slice and its own number in the slice::

    seed, slice -> key --+
    number --------------+--> u, -32 .. 31 in 1/64 step --> bucket (u + 32) >> 2 --> frequency table

    encoder: k = floor(t + e + 1/2)      decoder: k - e      with e = (2 u + 1) / 128 step

All in integers. `trellic.quantize.dither_cpu` has the compiled twins.

References
----------
J. Ziv, "On universal quantization", IEEE Trans. Inf. Theory 31 (1985); R. Zamir and M. Feder, "On
universal quantization by randomized uniform/lattice quantizers", IEEE Trans. Inf. Theory 38 (1992).
The mixing function is C. Wellons's "lowbias32" (2018).
"""

from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from trellic.constants import MAX_SEED
from trellic.limits import STEP32
from trellic.quantize.search_tables import Int32s, Uint8s, clamp_limit

FIRST_CLASS: Final = 3  # class of bucket 0
BUCKETS: Final = 16
GOLDEN: Final = 0x9E3779B9  # keeps small seeds away from 0, which mixes to 0
MULTIPLIERS: Final = (0x7FEB352D, 0x846CA68B)
NOISE_SHIFT: Final = 26  # leaves 6 bits
HALF64: Final = 32  # half a step, in 1/64

Int8s = npt.NDArray[np.int8]
Uint32s = npt.NDArray[np.uint32]
_Words = TypeVar("_Words", Uint32s, np.uint32)


def mix(x: _Words) -> _Words:
    """Scramble 32 bits, one-to-one.

    Examples
    --------
    >>> hex(mix(np.uint32(1)))
    '0x688990c0'
    """
    x = x ^ x >> np.uint32(16)
    x = _times(x, MULTIPLIERS[0])
    x = x ^ x >> np.uint32(15)
    x = _times(x, MULTIPLIERS[1])
    return x ^ x >> np.uint32(16)


def _times(x: Any, factor: int) -> Any:
    """Multiply modulo 2**32, without numpy's warning about scalars that wrap."""
    return (x.astype(np.uint64) * np.uint64(factor)).astype(np.uint32)


def slice_key(seed: int, slice_: int) -> int:
    """Return the key of the noise of a slice.

    Parameters
    ----------
    seed : of the stream, 0 to 2**32 - 1
    slice_ : number of the slice in its picture

    Examples
    --------
    >>> hex(slice_key(0, 0))
    '0xae6f80f1'
    """
    first = int(mix(np.uint32(seed + GOLDEN & MAX_SEED)))
    return int(mix(np.uint32(first + slice_ & MAX_SEED)))


def noise(key: int, first: int, position: Int32s) -> Int8s:
    """Return the noise of latents, in 1/64 step.

    Parameters
    ----------
    key : of their slice
    first : number in the slice of the latent at position 0
    position : int32, shape (n,)
        Where the latents lie, counted from there.

    Returns
    -------
    int8, shape (n,), -32 to 31

    Examples
    --------
    >>> noise(slice_key(0, 0), 0, np.arange(6, dtype=np.int32)).tolist()
    [13, 7, 1, 1, 31, -8]
    """
    number = (position.astype(np.int64) + (first + key)).astype(np.uint32)
    mixed = mix(mix(number) ^ np.uint32(key))
    return ((mixed >> np.uint32(NOISE_SHIFT)).astype(np.int32) - HALF64).astype(np.int8)


def classes(u: Int8s) -> Uint8s:
    """Return the class, 3 to 18, whose frequency tables belong to each noise."""
    return (FIRST_CLASS + ((u.astype(np.int32) + HALF64) >> 2)).astype(np.uint8)


def quantize(t32: Int32s, u: Int8s) -> Int32s:
    """Return the indices of latents.

    Parameters
    ----------
    t32 : int32, shape (n,)
        Latents less their mean, in 1/32 step; clamped to +-32767 steps.
    u : int8, shape (n,)
        Their noise.

    Returns
    -------
    int32, shape (n,), at most 32767 in magnitude
    """
    limit = clamp_limit(0, 1)
    t64 = 2 * np.clip(t32, -limit, limit).astype(np.int32)
    return (t64 + u + HALF64) >> 6


def reconstruct(k: Int32s, u: Int8s) -> Int32s:
    """Return the reconstructions of indices, in 1/32 step: int32, shape (n,)."""
    return STEP32 * k.astype(np.int32) - ((u.astype(np.int32) + 1) >> 1)
