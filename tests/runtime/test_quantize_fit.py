"""Tables and centroids fitted to what a search emits."""

import numpy as np
import pytest

from trellic.entropy.tables import TOTAL
from trellic.quantize import cpu
from trellic.quantize.search_tables import SearchTables
from trellic_training.quantization.fit import MIN_HALF_WIDTH, parametric_tables, refit

SIGMAS = np.geomspace(0.2, 4, 6)


def latents(count=40_000, seed=1):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(SIGMAS), count).astype(np.uint8)
    t32 = np.rint(32 * SIGMAS[index] * rng.standard_normal(count)).astype(np.int32)
    return t32, index


def total_cost(t32, index, states, tables, lam=38):
    """Mean of 16 e^2 + lam * rate, with escapes charged without their digits."""
    k, cls = cpu.search(t32, index, 4, states, tables, lam)
    levels = SearchTables.of(tables)
    width = levels.half_width[cls, index]
    rate = levels.rate[levels.zero[cls, index] + np.where(np.abs(k) > width, width + 1, k)]
    error = (t32 - cpu.reconstruct(k, cls, index, tables)).astype(np.float64)
    return np.mean(16 * error**2 + lam * rate)


def table_of(tables, cls, index):
    which = cls * tables.scales + index
    return tables.freqs[tables.start[which] : tables.start[which] + tables.sizes[which]]


def test_start_is_symmetric_and_wide_enough():
    tables = parametric_tables(SIGMAS, 21)
    assert tables.trellis_step == 21
    assert tables.half_width.min() >= MIN_HALF_WIDTH
    assert not tables.off.any()
    for cls in range(3):
        for i in range(len(SIGMAS)):
            side = table_of(tables, cls, i)[:-1].astype(int)
            assert np.abs(side - side[::-1]).max() <= 1  # rounding of the last unit


def test_extreme_scales_still_make_tables():
    tables = parametric_tables(np.array([1e-3, 64.0]), 21)
    assert tables.scales == 2


@pytest.mark.parametrize("states", [0, 8])
def test_each_round_costs_less(states):
    """On fresh latents."""
    prior = tables = parametric_tables(SIGMAS, 21)
    t32, index = latents()
    fresh = latents(seed=2)
    costs = [total_cost(*fresh, states, tables)]
    for _ in range(3):
        k, cls = cpu.search(t32, index, 4, states, tables, 38)
        tables = refit(tables, prior, t32, index, k, cls)
        costs.append(total_cost(*fresh, states, tables))
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.99 * costs[0]


def test_centroid_is_the_mean_latent():
    prior = parametric_tables(np.array([1.0]), 21)
    t32 = np.array([20, 24] * 5000 + [-22] * 5000, np.int32)
    k = np.array([1] * 10_000 + [-1] * 5000, np.int32)
    cls, index = np.zeros(15_000, np.uint8), np.zeros(15_000, np.uint8)
    tables = refit(prior, prior, t32, index, k, cls)
    assert tables.off[0, 0].tolist() == [0, 10, 0, 0]
    assert cpu.reconstruct(k, cls, index, tables)[0] == 22
    assert (cpu.reconstruct(k, cls, index, tables)[-1]) == -22


def test_classes_that_do_not_occur_are_kept():
    prior = parametric_tables(SIGMAS, 21)
    t32, index = latents(500)
    k, cls = cpu.search(t32, index, 1, 0, prior, 38)
    tables = refit(prior, prior, t32, index, k, cls)
    scalar = int(tables.sizes[: len(SIGMAS)].sum())
    assert not np.array_equal(tables.freqs[:scalar], prior.freqs[:scalar])
    assert np.array_equal(tables.freqs[scalar:], prior.freqs[scalar:])


def test_symbols_and_tables_never_seen_keep_sane_frequencies():
    prior = parametric_tables(SIGMAS, 21)
    k = np.zeros(100, np.int32)
    zeros = np.zeros(100, np.uint8)
    tables = refit(prior, prior, k, zeros, k, zeros)  # nothing but zeros, of one scale index
    assert np.array_equal(table_of(tables, 0, 1), table_of(prior, 0, 1))
    seen, before = table_of(tables, 0, 0).astype(int), table_of(prior, 0, 0).astype(int)
    zero = int(tables.half_width[0, 0])
    assert seen[zero] > before[zero]
    assert seen.sum() == TOTAL
    near, believed = seen[zero + 1], before[zero + 1]
    assert believed * 24 / 124 - 2 <= near <= believed


def test_escapes_are_counted_as_one_symbol():
    prior = parametric_tables(np.array([0.3]), 21)
    k = np.array([0, 100, -200, 30_000], np.int32)
    zeros = np.zeros(4, np.uint8)
    tables = refit(prior, prior, 32 * k, zeros, k, zeros)
    assert table_of(tables, 0, 0)[-1] > 0.9 * TOTAL * 3 / 28
