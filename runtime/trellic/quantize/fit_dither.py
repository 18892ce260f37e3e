"""Frequency tables of dithered streams: from a model of the latents, and fitted to real ones.

Dithered rounding never looks at its tables, so one pass of the encoder over photos is enough. Only
buckets 0 to 7 are stored: symbols of the others count with the sign turned, as mirror images.
"""

from math import erf
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import STORED_BUCKETS, TOTAL, DitherTables, quantized_pmf
from trellic.quantize.dither import BUCKETS, FIRST_CLASS, HALF64
from trellic.quantize.fit import MAX_HALF_WIDTH, MIN_HALF_WIDTH, PRIOR_WEIGHT, TAIL
from trellic.quantize.levels import Int32s, Uint8s

Floats = npt.NDArray[np.float64]

PER_BUCKET: Final = 2 * HALF64 // BUCKETS  # values of the noise in a bucket


def bucket_shifts(bucket: int) -> Floats:
    """Return the shifts, in steps, of the values of the noise in a bucket."""
    u = np.arange(PER_BUCKET) + PER_BUCKET * bucket - HALF64
    return (2 * u + 1) / (4 * HALF64)


def _cdf(x: Floats) -> Floats:
    """Cumulative distribution of a unit normal with a tenth of the weight at twice the deviation.

    Real latents have heavier tails than their predicted scale says.
    """
    return 0.5 + 0.5 * np.vectorize(lambda v: 0.9 * erf(v / 2**0.5) + 0.1 * erf(v / 8**0.5))(x)


def shifted_pmf(sigma: float, shifts: Floats, half_width: int) -> Floats:
    """Return the probabilities of -K..K and escape of normal latents rounded with these shifts."""
    edges = np.arange(-half_width, half_width + 2) - 0.5
    below = np.mean([_cdf((edges - shift) / sigma) for shift in shifts], axis=0)
    return np.append(np.diff(below), below[0] + 1 - below[-1])


def parametric_dither(sigmas: Floats) -> DitherTables:
    """Return tables for a ladder of scales, without any data: a prior for `refit_dither`.

    Parameters
    ----------
    sigmas : float, shape (S,)
        Standard deviation of each scale index, in units of the scalar step.
    """
    width = np.clip(np.ceil(TAIL * np.asarray(sigmas) + 0.5), MIN_HALF_WIDTH, MAX_HALF_WIDTH)
    freqs = [
        quantized_pmf(shifted_pmf(float(sigma), bucket_shifts(bucket), int(k)))
        for bucket in range(STORED_BUCKETS)
        for sigma, k in zip(sigmas, width, strict=True)
    ]
    half_width = np.tile(width, (STORED_BUCKETS, 1)).astype(np.uint16)
    return DitherTables(half_width, np.concatenate(freqs))


def refit_dither(prior: DitherTables, scale_index: Uint8s, k: Int32s, cls: Uint8s) -> DitherTables:
    """Return tables for what dithered rounding emitted.

    Parameters
    ----------
    prior
        Mixed in with the weight of 24 samples a table.
    scale_index, cls : uint8, shape (n,)
        Table and class (3 to 18) of each latent.
    k : int32, shape (n,)
        Indices.
    """
    bucket = cls.astype(np.int64) - FIRST_CLASS
    turned = bucket >= STORED_BUCKETS
    k = np.where(turned, -k, k)
    table = np.where(turned, BUCKETS - 1 - bucket, bucket) * prior.scales + scale_index
    order = np.argsort(table, kind="stable")
    bounds = np.searchsorted(table[order], np.arange(len(prior.sizes) + 1))
    believed = np.split(prior.freqs / TOTAL, prior.start[1:])
    freqs = [
        quantized_pmf(_counts(k[order[a:b]], len(pmf)) + PRIOR_WEIGHT * pmf)
        for a, b, pmf in zip(bounds[:-1], bounds[1:], believed, strict=True)
    ]
    return DitherTables(prior.half_width, np.concatenate(freqs))


def _counts(k: Int32s, size: int) -> Floats:
    """Return how often each index of a table of so many entries occurs, escapes last."""
    half_width = size // 2 - 1
    place = np.where(np.abs(k) > half_width, size - 1, k + half_width)
    return np.bincount(place, minlength=size).astype(np.float64)
