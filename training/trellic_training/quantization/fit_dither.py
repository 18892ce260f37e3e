"""Frequency tables of dithered streams: from a model of the latents, and fitted to real ones.

Dithered rounding does not depend on its tables, so one pass of the encoder over photos is enough.
Latents and noise are independent, so every latent counts for the tables of all buckets.
"""

from itertools import pairwise
from math import erf
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import STORED_BUCKETS, TOTAL, DitherTables, quantized_pmf
from trellic.quantize.dither import BUCKETS, HALF64, quantize
from trellic.quantize.search_tables import Int32s, Uint8s
from trellic_training.quantization.fit import MAX_HALF_WIDTH, MIN_HALF_WIDTH, PRIOR_WEIGHT, TAIL

Floats = npt.NDArray[np.float64]

PER_BUCKET: Final = 2 * HALF64 // BUCKETS  # values of the noise in a bucket


def bucket_noise(bucket: int) -> Int32s:
    """Return the values of the noise in a bucket, in 1/64 step."""
    return np.arange(PER_BUCKET, dtype=np.int32) + (PER_BUCKET * bucket - HALF64)


def bucket_shifts(bucket: int) -> Floats:
    """Return the shifts, in steps, that the values of the noise in a bucket stand for."""
    return (2 * bucket_noise(bucket) + 1) / (4 * HALF64)


def _cdf(x: Floats) -> Floats:
    """Cumulative distribution of a unit normal with a tenth of the weight at twice the deviation.

    Real latents have heavier tails than their predicted scale says.
    """
    parts = [0.9 * erf(v / 2**0.5) + 0.1 * erf(v / 8**0.5) for v in x]
    return 0.5 + 0.5 * np.array(parts)


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


def refit_dither(prior: DitherTables, t32: Int32s, scale_index: Uint8s) -> DitherTables:
    """Return tables for latents: each counts for every noise, and for its negative.

    Parameters
    ----------
    prior
        Mixed in with the weight of 24 latents per table.
    t32 : int32, shape (n,)
        Latents less their mean, in 1/32 step.
    scale_index : uint8, shape (n,)
        Table of each.
    """
    freqs: list[npt.NDArray[np.uint16]] = []
    believed = np.split(prior.freqs / TOTAL, prior.start[1:])
    order = np.argsort(scale_index, kind="stable")
    bounds = np.searchsorted(scale_index[order], np.arange(prior.scales + 1))
    own = [t32[order[a:b]] for a, b in pairwise(bounds.tolist())]
    for bucket in range(STORED_BUCKETS):
        for scale, latents in enumerate(own):
            pmf = believed[bucket * prior.scales + scale]
            counts = _counts(latents, bucket, len(pmf) // 2 - 1)
            freqs.append(quantized_pmf(counts + PRIOR_WEIGHT * pmf))
    return DitherTables(prior.half_width, np.concatenate(freqs))


def _counts(t32: Int32s, bucket: int, half_width: int) -> Floats:
    """Return how often latents of either sign give each index of a bucket's table, escapes last."""
    values, number = np.unique(t32, return_counts=True)
    counts = np.zeros(2 * half_width + 2)
    for value in bucket_noise(bucket).tolist():
        u = np.full(len(values), value, np.int8)
        for signed in (values, -values):
            k = quantize(signed, u)
            place = np.where(np.abs(k) > half_width, 2 * half_width + 1, k + half_width)
            counts += np.bincount(place, number, len(counts))
    return counts / (2 * PER_BUCKET)
