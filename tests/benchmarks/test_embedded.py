"""Embedded quantizers: the law of intervals, and layers that refine them."""

import numpy as np
import pytest
from benchmarks.interval_law import Cells
from scipy.integrate import quad

from benchmarks import embedded, interval_law
from trellic.codec import Codec


def _density(t):
    return 0.9 * np.exp(-t * t / 2) / np.sqrt(2 * np.pi) + 0.1 * np.exp(-t * t / 8) / np.sqrt(
        8 * np.pi
    )


@pytest.mark.parametrize(("a", "b"), [(-0.5, 0.7), (1.0, 2.5), (-6.0, -4.5), (-np.inf, np.inf)])
def test_mass_centroid_and_variance_are_those_of_the_density(a, b):
    inside = quad(_density, a, b)[0]
    mean = quad(lambda t: t * _density(t), a, b)[0] / inside
    square = quad(lambda t: (t - mean) ** 2 * _density(t), a, b)[0] / inside
    ends = np.array([a]), np.array([b])
    assert interval_law.mass(*ends)[0] == pytest.approx(inside, rel=1e-6)
    assert interval_law.centroid(*ends)[0] == pytest.approx(mean, rel=1e-5, abs=1e-9)
    assert interval_law.variance(*ends)[0] == pytest.approx(square, rel=1e-4)


@pytest.mark.parametrize("known", [(-np.inf, np.inf), (-0.9, 2.75), (0.5, 0.9), (3.0, np.inf)])
def test_cells_are_a_partition_of_what_is_known(known):
    y = np.linspace(max(known[0], -5), min(known[1], 5), 2001)[1:-1]
    ends = Cells(np.full(y.shape, known[0]), np.full(y.shape, known[1]))
    found = interval_law.cells(y, np.full(y.shape, 0.3), ends, 0.68, 0.3)
    assert (found.low <= y).all()
    assert (y <= found.high).all()
    cells = np.unique(np.stack(found), axis=1)
    assert cells[0, 0] == known[0] or cells[0, 0] > -7
    np.testing.assert_allclose(cells[0, 1:], cells[1, :-1])
    inner = cells[1, :-1]
    assert (inner >= known[0] + 0.3).all()
    assert (inner <= known[1] - 0.3).all()


@pytest.mark.slow("networks of the model that ships, for each quality and order")
def test_layers_refine_and_a_budget_stops_them():
    y, x = np.mgrid[:64, :64]
    pixels = np.stack([127 + 100 * np.sin(x / 5), y * 3, (x * y) % 97], 2).astype(np.uint8)
    picture = embedded.Embedded(Codec.load("photo", device="cpu"), pixels)
    for order in embedded.ORDERS:
        state = picture.start()
        errors, bits = [], [state.bits]
        for quality in embedded.QUALITIES:
            before, state = state, picture.advance(state, quality, order)
            assert (state.known.low >= before.known.low - 1e-6).all()
            assert (state.known.high <= before.known.high + 1e-6).all()
            assert (state.known.low <= picture.f + 1e-6).all()
            assert (picture.f <= state.known.high + 1e-6).all()
            errors.append(float(np.mean((state.value - picture.f) ** 2)))
            bits.append(state.bits)
        assert errors == sorted(errors, reverse=True)
        assert bits == sorted(bits)
        half = picture.advance(before, 75, order, (before.bits + state.bits) / 2)
        assert errors[-1] < np.mean((half.value - picture.f) ** 2) < errors[-2]
