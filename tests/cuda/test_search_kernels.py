"""The search's kernels: the reference's indices, to the bit."""

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

import twins as cuda
from inputs import random_latents, random_tables
from tests.trellises import predecessors

from trellic.gpu import jobs as layout
from trellic.gpu.kernels.kernel import SIMULATED
from trellic.gpu.kernels.memory import clear
from trellic.quantize import cpu, reference
from trellic.quantize.trellis import STATES


@pytest.mark.parametrize(
    ("lanes", "n", "states"),
    [(1, 30, 0), (1, 12, 4), (3, 40, 4), (8, 60, 8), (2, 20, 16), (2, 70, 32), (2, 40, 64)],
)
def test_same_indices(lanes, n, states, larger):
    rng = np.random.default_rng(states + lanes)
    tables = random_tables(rng)
    t32, index = random_latents(rng, n * larger, 5)
    t32[:2] = 2**31 - 1, -(2**31)  # beyond any level
    check_same(t32, index, lanes, states, tables, 38)


@pytest.mark.parametrize("states", [128, 256])
def test_many_states(states, larger):
    rng = np.random.default_rng(states)
    tables = random_tables(rng)
    t32, index = random_latents(rng, 6 * larger, 5, deviation=300)
    check_same(t32, index, 2, states, tables, 4096)


def test_ties_and_dear_paths():
    rng = np.random.default_rng(2)
    tables = random_tables(rng, step=255, largest_offset=255)
    for lam in (0, 4096):
        t32 = (rng.integers(-3, 4, 24) * 255).astype(np.int32)
        index = rng.integers(0, 5, 24).astype(np.uint8)
        check_same(t32, index, 1, 4, tables, lam)


def check_same(t32, index, lanes, states, tables, lam):
    expected = cpu.search(t32, index, lanes, states, tables, lam)
    k, cls, recon = cuda.search_and_reconstruct(t32, index, lanes, states, tables, lam)
    assert k.tolist() == expected[0].tolist()
    assert cls.tolist() == expected[1].tolist()
    assert recon.tolist() == reference.reconstruct(k, cls, index, tables).tolist()


@pytest.mark.parametrize("states", STATES)
def test_predecessors_are_computed_rightly(states):
    """The formula in the head of `kernels.search`, in plain integers."""
    h0, h1 = layout.Trellis(states).checks
    state, parity = predecessors(states)
    for s in range(states):
        top = int(2 * s >= states)
        for j in range(2):
            mixed = s ^ (h0 if top else 0) ^ (h1 if parity[j, s] else 0)
            assert 2 * (mixed & (states // 2 - 1)) + top == state[j, s]


@pytest.mark.skipif(not SIMULATED, reason="a GPU does not check arguments")
def test_arguments_must_be_those_of_the_signature():
    """Numba launches a kernel of one signature unchecked; the simulator's runs check for it."""
    for bad in (np.zeros(4, np.int64), np.zeros((2, 2), np.int32), np.zeros(8, np.int32)[::2]):
        with pytest.raises(TypeError, match="clear: argument 0"):
            clear(1, 1, 0, bad)
