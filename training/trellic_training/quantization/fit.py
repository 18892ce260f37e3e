"""Frequency tables and centroids fitted to what a quantizer really emits.

Choosing indices by cost moves them away from the cells of plain rounding, so tables and centroids
depend on the choice, and the choice depends on them. `refit` is one turn of that loop, which
converges after a few::

    prior = parametric_tables(sigmas, trellis_step=21)
    tables = prior
    for _ in range(5):
        k, cls = search(t32, scale_index, lanes, states, tables, lam)
        tables = refit(tables, prior, t32, scale_index, k, cls)

Only numpy is needed. Floating point is fine here: tables are made once, at export, and travel as
integers.
"""

import dataclasses
from math import erf
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.entropy.tables import TOTAL, Tables, quantized_pmf
from trellic.limits import STEP32
from trellic.quantize.search_tables import Int32s, Uint8s
from trellic.quantize.trellis import CLASS_Q1, CLASS_SCALAR

Floats = npt.NDArray[np.float64]

PRIOR_WEIGHT: Final = 24.0  # samples that the prior of a table counts as
OFFSET_WEIGHT: Final = 24.0  # samples at offset 0 that a centroid starts from
MAX_FITTED_OFFSET: Final = 127  # 1/32 step
TAIL: Final = 4.5  # sigmas that a table covers before it escapes
MIN_HALF_WIDTH: Final = 3
MAX_HALF_WIDTH: Final = 400  # beyond, a wider table saves no bits worth its memory
NARROWING: Final = 0.7  # of the deviation that a table starts from
ZERO_LIMIT: Final = 0.92  # sigma in trellis steps above which the zero of Q1 starts out rare
RARE_ZERO: Final = 0.003


def base_levels(magnitude: Int32s, cls: int, step: int) -> Int32s:
    """Return the levels of index magnitudes before the centroid offset, in 1/32 step."""
    if cls == CLASS_SCALAR:
        return STEP32 * magnitude
    return np.maximum(2 * magnitude - (cls - 1), 0) * step


def _normal_cdf(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.array([erf(v / 2**0.5) for v in x]))


def _nearest_pmf(sigma: float, cls: int, half_width: int, step: int) -> Floats:
    """Return the probabilities of -K..K and escape where every latent takes its nearest level.

    The latent is normal, with a tenth of the weight at twice the deviation: real latents have
    heavier tails than their predicted scale says.
    """
    level = base_levels(np.arange(half_width + 2, dtype=np.int32), cls, step) / STEP32
    edge = (level[:-1] + level[1:]) / 2
    inside = 0.9 * _normal_cdf(edge / sigma) + 0.1 * _normal_cdf(edge / (2 * sigma))
    side = np.diff(inside)
    return np.concatenate([side[::-1], [2 * inside[0] - 1], side, [2 * (1 - inside[-1])]])


def _start_pmf(sigma: float, cls: int, half_width: int, step: int) -> Floats:
    """Return probabilities from which the loop of search and `refit` converges well.

    Tables and choices confirm each other, so the loop has many fixed points. Two effects matter.
    Choosing by cost narrows a distribution, hence `NARROWING`. The zero of Q1 lies between two
    close levels: it helps scales that are mostly zero, but spoils the distances of the code for all
    others. A search that starts with it gives it up only very slowly, so it starts with almost no
    probability above `ZERO_LIMIT`.
    """
    pmf = _nearest_pmf(NARROWING * sigma, cls, half_width, step)
    if cls == CLASS_Q1 and sigma > ZERO_LIMIT * step / STEP32:
        pmf[half_width] *= RARE_ZERO
    return pmf


def parametric_tables(sigmas: Floats, trellis_step: int) -> Tables:
    """Return tables for a ladder of scales, without any data: a start and a prior for `refit`.

    Parameters
    ----------
    sigmas : float, shape (S,)
        Standard deviation of each scale index, in units of the scalar step.
    trellis_step
        Distance D of neighbouring levels of the union of Q0 and Q1, in 1/32 scalar step.

    Returns
    -------
    Tables
        With all centroid offsets 0.
    """
    spacing = np.array([1.0, 2 * trellis_step / STEP32, 2 * trellis_step / STEP32])
    width = np.ceil(TAIL * np.asarray(sigmas)[None, :] / spacing[:, None])
    width = np.clip(width, MIN_HALF_WIDTH, MAX_HALF_WIDTH).astype(np.uint16)
    freqs = [
        quantized_pmf(_start_pmf(float(sigma), cls, int(width[cls, i]), trellis_step))
        for cls in range(3)
        for i, sigma in enumerate(sigmas)
    ]
    off = np.zeros((*width.shape, 4), np.int16)
    return Tables(width, np.concatenate(freqs), off, trellis_step)


def _histogram(k: Int32s, half_width: int) -> Floats:
    """Return the counts of -K..K and escape, both signs made equal."""
    magnitude = np.bincount(np.minimum(np.abs(k), half_width + 1), minlength=half_width + 2)
    side = magnitude[1:-1] / 2
    return np.concatenate([side[::-1], magnitude[:1], side, magnitude[-1:]])


def _offsets(t32: Int32s, k: Int32s, cls: int, step: int) -> Int32s:
    """Return by how much the mean latent of each index magnitude lies below its level."""
    magnitude = np.abs(k)
    group = np.minimum(magnitude, 3)
    below = (base_levels(magnitude, cls, step) - np.sign(k) * t32).astype(np.float64)
    total = np.bincount(group, below, minlength=4)
    mean = total / (np.bincount(group, minlength=4) + OFFSET_WEIGHT)
    mean[0] = 0.0
    return np.clip(np.rint(mean), -MAX_FITTED_OFFSET, MAX_FITTED_OFFSET).astype(np.int32)


def refit(
    tables: Tables, prior: Tables, t32: Int32s, scale_index: Uint8s, k: Int32s, cls: Uint8s
) -> Tables:
    """Return tables and centroids for the indices that a search chose.

    Classes that do not occur in `cls` keep their tables, so a scalar and a trellis run fit the two
    families one after the other.

    Parameters
    ----------
    tables
        Tables of the search that gave `k` and `cls`.
    prior
        Tables of the same shape, mixed in with the weight of 24 samples per table, so that rare
        symbols and tables keep sane frequencies.
    t32 : int32, shape (n,)
        Latents less their mean, in 1/32 step.
    scale_index, cls : uint8, shape (n,)
        Table and quantizer of each latent.
    k : int32, shape (n,)
        Indices.
    """
    freqs = tables.freqs.copy()
    off = np.array(tables.off)
    table = cls.astype(np.int64) * tables.scales + scale_index
    order = np.argsort(table, kind="stable")
    bounds = np.searchsorted(table[order], np.arange(len(tables.sizes) + 1))
    for c in np.unique(cls).tolist():
        for i in range(tables.scales):
            which = c * tables.scales + i
            mine = order[bounds[which] : bounds[which + 1]]
            place = slice(tables.start[which], tables.start[which] + tables.sizes[which])
            believed = prior.freqs[place] / TOTAL
            count = _histogram(k[mine], int(tables.half_width[c, i])) + PRIOR_WEIGHT * believed
            freqs[place] = quantized_pmf(count)
            off[c, i] = _offsets(t32[mine], k[mine], c, tables.trellis_step)
    return dataclasses.replace(tables, freqs=freqs, off=off)
