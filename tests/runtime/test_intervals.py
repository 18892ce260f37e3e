"""Intervals of layers: the law's tables, the cells, their division, frequencies and values."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.entropy.divided import check_cumulative
from trellic.latents.division_cpu import MOST_PARTS
from trellic.latents.intervals import Division, carried, skipped, zone, zone_index
from trellic.latents.law import law, rates
from trellic.latents.refine import variances
from trellic.limits import SIGMA_FIRST, SIGMA_LAST

SCALES = 64
MEANS = st.integers(-(2**20), 2**20)


# ---- the law ----


def exact_mass(x: Decimal) -> Decimal:
    """The normal law's probability up to x, by the series of the error function."""
    term, total, n = x, x, 0
    while abs(term) > Decimal("1e-60"):
        n += 1
        term = -term * x * x / (2 * n)
        total += term / (2 * n + 1)
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
    return Decimal("0.5") + total / (2 * pi).sqrt()


@pytest.mark.parametrize("node", [0, 1, 17, 64, 100, 250, 333, 512, 640, 777, 900, 1024])
def test_the_mass_is_the_exact_one_rounded(node):
    with localcontext() as context:
        context.prec = 200
        x = Decimal(node) / 64
        mixture = Decimal("0.9") * exact_mass(-x) + Decimal("0.1") * exact_mass(-x / 2)
        exact = mixture * 2**24
        assert abs(exact % 1 - Decimal("0.5")) > Decimal("1e-6")
        expected = int(exact.to_integral_value())
    mass = law(SCALES).mass
    assert mass[1024 - node] == expected
    assert mass[1024 + node] == 2**24 - expected


@pytest.mark.parametrize("node", [0, 1, 17, 64, 100, 250, 333, 512, 640, 1024])
def test_the_moment_is_the_exact_one_rounded(node):
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
    total = Decimal(0)
    for weight, width in (("0.9", 1), ("0.1", 2)):
        x = Decimal(node) / 64 / width
        total += Decimal(weight) * width * (-x * x / 2).exp()
    expected = int((2**24 * total / (2 * pi).sqrt()).to_integral_value())
    assert law(SCALES).moment[1024 + node] == -expected


def test_no_table_of_the_law_rests_on_the_last_digit_of_a_float():
    """Other machines' exp and erfc may differ there."""
    for node in range(1025):
        x = node / 64
        tail = sum(w * math.erfc(x / s / math.sqrt(2)) / 2 for w, s in ((0.9, 1), (0.1, 2)))
        first = sum(w * s * math.exp(-((x / s) ** 2) / 2) for w, s in ((0.9, 1), (0.1, 2)))
        for value in (2**24 * tail, 2**24 * first / math.sqrt(2 * math.pi)):
            assert abs(value % 1 - 0.5) > 1e-6
    for i in range(SCALES):
        deviation = 32 * SIGMA_FIRST * (SIGMA_LAST / SIGMA_FIRST) ** (i / (SCALES - 1))
        for value in (2**8 * deviation, 2**28 / deviation):
            assert abs(value % 1 - 0.5) > 1e-5


def test_the_tables_of_the_law():
    mass, moment, sigma, inverse, *_ = law(SCALES)
    assert len(mass) == len(moment) == 2049
    assert (np.diff(mass) >= 0).all()
    assert (mass[0], mass[1024], mass[-1]) == (0, 2**23, 2**24)
    np.testing.assert_array_equal(moment, moment[::-1])
    assert moment[1024] == -round(2**24 * 1.1 / math.sqrt(2 * math.pi))
    assert (sigma[0], sigma[-1]) == (round(32 * 0.11 * 256), 32 * 64 * 256)
    assert inverse[-1] == 2**28 // 2048
    for table in (*law(SCALES), rates()):
        assert table.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1


@pytest.mark.parametrize("scales", [1, 2, 5])
def test_deviations_go_from_the_least_to_the_greatest(scales):
    _, _, sigma, inverse, *_ = law(scales)
    assert len(sigma) == len(inverse) == scales
    assert (sigma[0], inverse[0]) == (round(32 * 0.11 * 256), round(2**28 / (32 * 0.11)))
    if scales > 1:
        assert (sigma[-1], inverse[-1]) == (32 * 64 * 256, 2**28 // 2048)


# ---- cells of the lowest layer ----


REACH = 23 + 32 * 32767  # of the last cell that has an index


@given(st.lists(st.integers(-REACH, REACH), min_size=1, max_size=8), MEANS)
def test_latents_lie_in_the_cells_that_are_named(t32, mean):
    t32 = np.array([*t32, 0, 23, 24, -23, -24, 55, 56], np.int32)
    k = zone_index(t32)
    low, high = zone(k, np.full(len(t32), mean, np.int32))
    assert ((low - mean <= t32) & (t32 <= high - mean)).all()
    assert (k == -zone_index(-t32)).all()
    assert k[-7:].tolist() == [0, 0, 1, 0, -1, 1, 2]


def test_latents_beyond_the_last_cell_are_in_it():
    far = np.array([REACH, REACH + 1, 2**20, -REACH, -REACH - 1, -(2**20)], np.int32)
    assert zone_index(far).tolist() == [32767] * 3 + [-32767] * 3


def test_cells_follow_one_another():
    low, high = zone(np.arange(-3, 4, dtype=np.int32), np.full(7, 100, np.int32))
    assert low.tolist() == [-19, 13, 45, 77, 123, 155, 187]
    assert high.tolist() == [13, 45, 77, 123, 155, 187, 219]
    beside = skipped(np.array([100], np.int32))
    assert [of.tolist() for of in beside] == [[61], [139]]
    assert {of.dtype for of in (low, high, *beside)} == {np.dtype(np.int64)}
    assert zone_index(np.zeros(1, np.int32)).dtype == np.int32


# ---- carried over ----


def test_intervals_are_carried_over():
    def moved(low, high, before, after):
        ends = np.array([[[low]]]), np.array([[[high]]])
        return [of.item() for of in carried(*ends, np.array([before]), np.array([after]))]

    assert moved(-64, 31, 1000, 1500) == [-96, 47]
    assert moved(5, 6, 4, 1) == [1, 2]
    assert moved(2**20, 2**20, 1, 9) == [2**20, 2**20 + 1]


# ---- divisions, by the specification's formulas in plain integers ----


class Plain:
    """One latent, as docs/format.md says."""

    def __init__(self, low: int, high: int, mean: int, index: int) -> None:
        self.low, self.high, self.mean, self.index = low, high, mean, index
        self.tables, width = law(SCALES), high - low
        if low < mean < high:
            left = [mean - 23 - 32 * j for j in range(8) if mean - 23 - 32 * j >= low + 13]
            right = [mean + 23 + 32 * j for j in range(8) if mean + 23 + 32 * j <= high - 13]
            self.edges = [low, *left[::-1], *right, high]
        else:
            n = min(max((width + 13) >> 5, 1), 17)
            self.edges = [low + j * width // n for j in range(n + 1)]

    def at(self, name: str, edge: int) -> int:
        u = ((edge - self.mean) * int(self.tables.inverse[self.index]) + 2**15) >> 16
        u = min(max(u, -(2**16)), 2**16 - 1)
        table = getattr(self.tables, name)
        a, b = int(table[1024 + (u >> 6)]), int(table[1024 + (u >> 6) + 1])
        return a + (((b - a) * (u & 63)) >> 6)

    def cumulative(self) -> list[int]:
        n = len(self.edges) - 1
        sums = [self.at("mass", e) - self.at("mass", self.low) + e - self.low for e in self.edges]
        return [total * (2**15 - n) // sums[-1] + j for j, total in enumerate(sums)]

    def value(self) -> int:
        width = self.high - self.low
        mass = self.at("mass", self.high) - self.at("mass", self.low) + width
        first = self.at("moment", self.high) - self.at("moment", self.low)
        moment = 2 * ((int(self.tables.sigma[self.index]) * first) >> 8)
        moment += width * (self.low + self.high - 2 * self.mean)
        return min(max(self.mean + (moment + mass) // (2 * mass), self.low), self.high)

    def spread(self) -> int:
        centres, borders = (table.tolist() for table in variances(SCALES))
        flat = min((self.high - self.low) ** 2 // 12, 2**30)
        left = centres[self.index] * flat // (centres[self.index] + flat)
        return sum(border <= left for border in borders)


WIDTHS = st.one_of(st.integers(1, 200), st.integers(1, 2**20))
NEAR = st.one_of(st.integers(-120, 120), st.integers(-(2**20), 2**20))
LATENTS = st.lists(
    st.tuples(st.integers(-(2**19), 2**19), WIDTHS, NEAR, st.integers(0, SCALES - 1), NEAR),
    min_size=1,
    max_size=8,
)


def divided(latents):
    low, width, off, index, at = (
        np.array(column, np.int64) for column in zip(*latents, strict=True)
    )
    mean = np.clip(low + width // 2 + off, -(2**20), 2**20)
    return Division(low, low + width, mean, index, SCALES), mean + at


def plain(division):
    columns = division.low, division.high, division.mean32, division.index
    return [Plain(*row) for row in zip(*(of.tolist() for of in columns), strict=True)]


@given(LATENTS)
def test_divisions_are_those_of_plain_integers(latents):
    division, _ = divided(latents)
    expected = plain(division)
    assert division.parts.tolist() == [len(one.edges) - 1 for one in expected]
    for j in range(MOST_PARTS):
        low, high = division.part(np.full(len(latents), j, np.int32))
        ends = [(*one.edges, one.edges[-1], one.edges[-1]) for one in expected]
        assert low.tolist() == [of[min(j, len(of) - 1)] for of in ends]
        assert high.tolist() == [of[min(j + 1, len(of) - 1)] for of in ends]
    assert division.values().tolist() == [one.value() for one in expected]
    assert division.spreads().tolist() == [one.spread() for one in expected]
    cumulative = division.cumulative()
    for row, one in zip(cumulative.tolist(), expected, strict=True):
        own = one.cumulative()
        assert row == own + [2**15] * (len(row) - len(own))


@given(LATENTS)
def test_frequencies_divide_all_there_is(latents):
    division, _ = divided(latents)
    two_or_more = division.parts > 1
    check_cumulative(division.cumulative()[two_or_more])
    low, _ = division.part(np.zeros(len(latents), np.int32))
    assert (low == division.low).all()


def test_nothing_is_divided():
    """A pass may have no latents."""
    nothing = np.zeros(0, np.int64)
    division = Division(nothing, nothing, nothing, nothing, SCALES)
    assert division.cumulative().shape == (0, 2)
    assert len(division.find(nothing)) == len(division.cheapest(nothing)) == 0


@given(LATENTS)
def test_a_latent_is_found_in_its_part_or_the_nearest(latents):
    division, y32 = divided(latents)
    found = division.find(y32)
    for k, y, one in zip(found.tolist(), y32.tolist(), plain(division), strict=True):
        inside = min(max(y, one.low), one.high)
        assert one.edges[k] <= inside <= one.edges[k + 1]
        assert inside != one.edges[k + 1] or k == len(one.edges) - 2


@given(LATENTS)
def test_the_cheapest_part_costs_least(latents):
    division, y32 = divided(latents)
    found = division.cheapest(y32)
    for k, y, one in zip(found.tolist(), y32.tolist(), plain(division), strict=True):
        cumulative, costs = one.cumulative(), []
        for j, (low, high) in enumerate(itertools.pairwise(one.edges)):
            off = y - Plain(low, high, one.mean, one.index).value()
            bits = 15 - math.log2(cumulative[j + 1] - cumulative[j])
            costs.append(Fraction(4 * off * off) + 5 * Fraction(round(64 * bits)))
        assert costs[k] == min(costs)
        assert k == costs.index(min(costs))


def test_the_value_of_a_flat_interval_is_its_middle_and_of_a_narrow_law_its_mean():
    low, high, mean = (np.array(of) for of in ([0, 0, -40], [100, 100, 40], [5000, 48, 0]))
    division = Division(low, high, mean, np.array([0, 0, 20]), SCALES)
    assert division.values().tolist() == [50, 48, 0]


def test_beyond_the_law_parts_of_one_width_are_alike():
    """Beyond 16 deviations only the flat law counts."""
    low, high = np.array([-(2**20), 2**19]), np.array([-(2**19), 2**20])
    division = Division(low, high, np.array([0, 0]), np.array([30, 30]), SCALES)
    frequencies = np.diff(division.cumulative().astype(int), axis=1)
    assert frequencies.shape == (2, 17)
    assert np.ptp(frequencies) <= 2


def test_rates_are_bits():
    table = rates()
    assert len(table) == 2**15 + 1
    assert table[2**14] == 64
    assert table[1] == 15 * 64
    assert table[2**15] == 0
    assert table[0] > table[1]
    assert (np.diff(table) <= 0).all()
