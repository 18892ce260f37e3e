"""The searches: exactly optimal, and the same bits from the reference and the compiled one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.entropy import Tables, quantized_pmf
from trellic.errors import BadParameter
from trellic.quantize import cpu, reference
from trellic.quantize.reference import best_index, cost
from trellic.quantize.search_tables import (
    SearchTables,
    checked_arguments,
    checked_indices,
    clamp_limit,
    escape_rate,
)
from trellic.quantize.trellis import STATES, next_state

SEARCHES = pytest.mark.parametrize("search", [reference.search, cpu.search], ids=["plain", "fast"])
RECONSTRUCTIONS = pytest.mark.parametrize(
    "reconstruct", [reference.reconstruct, cpu.reconstruct], ids=["plain", "fast"]
)
TRELLISES = pytest.mark.parametrize("states", STATES)


def random_tables(rng, scales=3, step=21, widest=4, largest_offset=8) -> Tables:
    """Any valid tables: neither monotone nor symmetric."""
    half_width = rng.integers(0, widest + 1, (3, scales))
    freqs = [quantized_pmf(rng.dirichlet(np.full(2 * k + 2, 0.5))) for k in half_width.ravel()]
    off = rng.integers(-largest_offset, largest_offset + 1, (3, scales, 4))
    return Tables(half_width, np.concatenate(freqs), off, step)


def flat_tables(half_width=4, step=21) -> Tables:
    """One scale index whose symbols all cost nearly the same; no offsets."""
    freqs = quantized_pmf(np.ones(2 * half_width + 2))
    width = np.full((3, 1), half_width, np.uint16)
    return Tables(width, np.concatenate([freqs] * 3), np.zeros((3, 1, 4), np.int16), step)


def random_latents(rng, n, scales, deviation=40.0):
    """t32 and scale indices."""
    t32 = np.rint(rng.normal(0, deviation, n)).astype(np.int32)
    return t32, rng.integers(0, scales, n).astype(np.uint8)


def classes(k, states) -> list[int]:
    """Quantizer of each index of one path."""
    if states == 0:
        return [0] * len(k)
    state, found = 0, []
    for index in k:
        found.append(1 + (state & 1))
        state = int(next_state(states)[state, index & 1])
    return found


def path_cost(k, t32, scale_index, states, tables, lam) -> int:
    """What the indices of one path cost in all."""
    levels = SearchTables.of(tables)
    parts = zip(k, t32.tolist(), classes(k, states), scale_index.tolist(), strict=True)
    return sum(cost(index, t, cls, scale, levels, lam) for index, t, cls, scale in parts)


def cheapest(t32, scale_index, states, tables, lam, reach=3) -> int:
    """Cost of the best of all paths with indices -reach..reach, tried one by one."""
    paths = itertools.product(range(-reach, reach + 1), repeat=len(t32))
    return min(path_cost(k, t32, scale_index, states, tables, lam) for k in paths)


def greedy(t32, scale_index, states, tables, lam, reach=6) -> list[int]:
    """Choose for each latent the best index of the quantizer at hand, with no look ahead."""
    levels = SearchTables.of(tables)
    state, path = 0, []
    for t, scale in zip(t32.tolist(), scale_index.tolist(), strict=True):
        cls = 1 + (state & 1)
        costs = {k: cost(k, t, cls, scale, levels, lam) for k in range(-reach, reach + 1)}
        path.append(min(costs, key=costs.__getitem__))
        state = int(next_state(states)[state, path[-1] & 1])
    return path


def equal_rates(zero=8192) -> Tables:
    """One scale index, K = 1; -1, 1 and escape cost the same, 0 too unless told otherwise."""
    rest = ((1 << 15) - zero) // 3
    freqs = np.array([rest, zero, rest, (1 << 15) - zero - 2 * rest] * 3, np.uint16)
    return Tables(np.ones((3, 1), np.uint16), freqs, np.zeros((3, 1, 4), np.int16), 21)


# ---- the search finds the best of all paths ----


@pytest.mark.parametrize("states", [0, *STATES])
def test_no_path_is_cheaper(states):
    """Against every combination of indices, for any valid tables."""
    rng = np.random.default_rng(states)
    for trial in range(3):
        tables = random_tables(rng, widest=3, step=int(rng.integers(15, 40)))
        t32, scale_index = random_latents(rng, 4, 3)
        k, cls = reference.search(t32, scale_index, 1, states, tables, 20 * trial)
        assert cls.tolist() == classes(k, states)
        found = path_cost(k.tolist(), t32, scale_index, states, tables, 20 * trial)
        assert found == cheapest(t32, scale_index, states, tables, 20 * trial, reach=4)


def peaked_tables(cheap, offset) -> Tables:
    """One scale index, K = 4: one index costs nothing, all others 15 bits."""
    freqs = np.ones((3, 10), np.uint16)
    freqs[:, cheap + 4] = (1 << 15) - 9
    off = np.full((3, 1, 4), offset, np.int16)
    return Tables(np.full((3, 1), 4, np.uint16), freqs.ravel(), off, 21)


@pytest.mark.parametrize("cheap", [-2, 4])
@pytest.mark.parametrize("offset", [0, 9])
def test_no_index_is_cheaper_however_far(cheap, offset):
    """Also where the one that costs nothing is at the edge of what may win."""
    levels = SearchTables.of(peaked_tables(cheap, offset))
    kinds = [(0, None), *itertools.product((1, 2), (0, 1))]
    for (cls, parity), lam, t in itertools.product(kinds, (5, 200), range(-48, 49, 4)):
        open_ones = [k for k in range(-12, 13) if parity is None or k & 1 == parity]
        costs = [(cost(k, t, cls, 0, levels, lam), abs(k), k < 0, k) for k in open_ones]
        best, _, _, k = min(costs)
        assert best_index(t, cls, parity, 0, levels, lam) == (k, best)


@pytest.mark.slow("long paths, each number of states")
@TRELLISES
def test_longer_paths_with_few_indices(states):
    """Nine latents, so that paths of 4 and 8 states part and meet again."""
    rng = np.random.default_rng(1)
    tables = flat_tables(half_width=1, step=32)
    t32, scale_index = random_latents(rng, 9, 1, deviation=30)
    t32 = np.clip(t32, -60, 60)
    k, _ = reference.search(t32, scale_index, 1, states, tables, 38)
    assert np.abs(k).max() <= 1  # so the oracle's reach holds the optimum
    found = path_cost(k.tolist(), t32, scale_index, states, tables, 38)
    assert found == cheapest(t32, scale_index, states, tables, 38, reach=1)


@TRELLISES
def test_planted_path_is_found(states):
    """Latents that are a path's own levels are met exactly, where rate costs nothing."""
    rng = np.random.default_rng(2)
    tables = random_tables(rng, scales=4, largest_offset=6)
    planted = rng.integers(-9, 10, 300).astype(np.int32)
    scale_index = rng.integers(0, 4, 300).astype(np.uint8)
    cls = np.array(classes(planted, states), np.uint8)
    t32 = reference.reconstruct(planted, cls, scale_index, tables)
    k, _ = cpu.search(t32, scale_index, 1, states, tables, 0)
    assert path_cost(k.tolist(), t32, scale_index, states, tables, 0) == 0
    assert np.array_equal(k, planted)


@TRELLISES
def test_better_than_greedy(states):
    """Taking the best index of the quantizer at hand is no search: it must lose, and clearly."""
    rng = np.random.default_rng(3)
    tables = flat_tables(half_width=6)
    t32, scale_index = random_latents(rng, 400, 1)
    lone = greedy(t32, scale_index, states, tables, 0)
    k, _ = reference.search(t32, scale_index, 1, states, tables, 0)
    searched = path_cost(k.tolist(), t32, scale_index, states, tables, 0)
    assert k.tolist() != lone
    assert searched < 0.85 * path_cost(lone, t32, scale_index, states, tables, 0)


@TRELLISES
def test_a_level_needs_its_quantizer(states):
    """The trap: were every level open from every state, all of these latents would be met."""
    rng = np.random.default_rng(4)
    t32 = (21 * rng.integers(-4, 5, 200)).astype(np.int32)  # each lies on some level of the union
    scale_index = np.zeros(200, np.uint8)
    k, cls = cpu.search(t32, scale_index, 1, states, flat_tables(), 0)
    assert cls.tolist() == classes(k, states)
    assert (cpu.reconstruct(k, cls, scale_index, flat_tables()) != t32).sum() > 30


def test_more_states_cost_less():
    rng = np.random.default_rng(5)
    tables = flat_tables()
    t32, scale_index = random_latents(rng, 4000, 1)
    costs = []
    for states in STATES:
        k, _ = cpu.search(t32, scale_index, 1, states, tables, 38)
        costs.append(path_cost(k.tolist(), t32, scale_index, states, tables, 38))
    assert costs == sorted(costs, reverse=True)


# ---- reference and compiled search give the same bits ----


@TRELLISES
@pytest.mark.parametrize("lanes", [1, 8, 32])
def test_same_bits_on_any_tables(states, lanes):
    rng = np.random.default_rng(states + lanes)
    tables = random_tables(rng, scales=5, step=int(rng.integers(1, 60)))
    t32, scale_index = random_latents(rng, 90, 5, deviation=float(rng.choice([15, 60, 400])))
    check_same(t32, scale_index, lanes, states, tables, int(rng.choice([0, 1, 38, 4096])))


def check_same(t32, scale_index, lanes, states, tables, lam):
    expected = reference.search(t32, scale_index, lanes, states, tables, lam)
    found = cpu.search(t32, scale_index, lanes, states, tables, lam)
    for a, b, dtype in zip(expected, found, (np.int32, np.uint8), strict=True):
        assert a.dtype == b.dtype == dtype
        assert np.array_equal(a, b)
    recon = reference.reconstruct(*expected, scale_index, tables)
    assert recon.dtype == np.int32
    assert np.array_equal(recon, cpu.reconstruct(*found, scale_index, tables))
    return found


@given(
    seed=st.integers(0, 2**32 - 1),
    t32=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-200, 200), max_size=24),
    lanes=st.sampled_from([1, 2, 8, 16, 1024]),
    states=st.sampled_from([0, 4, 8, 16, 32]),
    lam=st.integers(0, 60) | st.just(4096),
    step=st.integers(1, 255),
    offset=st.sampled_from([0, 8, 255]),
)
def test_same_bits_on_anything(seed, t32, lanes, states, lam, step, offset):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, step=step, largest_offset=offset)
    scale_index = rng.integers(0, 3, len(t32)).astype(np.uint8)
    k, _ = check_same(np.array(t32, np.int32), scale_index, lanes, states, tables, lam)
    assert np.abs(k).max(initial=0) <= 32767


@pytest.mark.slow("long paths")
def test_long_dear_paths_do_not_overflow():
    """Largest lambda, dearest symbols, thousands of latents: far beyond 2^31 in sum."""
    rng = np.random.default_rng(6)
    tables = random_tables(rng, scales=2, step=255, largest_offset=255)
    t32 = rng.integers(-(2**31), 2**31, 3000).astype(np.int32)
    for lanes in (1, 8):
        check_same(t32, rng.integers(0, 2, 3000).astype(np.uint8), lanes, 4, tables, 4096)


def test_what_is_remembered_belongs_to_its_tables_and_weight():
    rng = np.random.default_rng(8)
    one, other = random_tables(rng), random_tables(rng)
    t32, scale_index = random_latents(rng, 60, 3)
    for tables, lam in ((one, 38), (other, 38), (one, 5), (one, 38)):
        check_same(t32, scale_index, 8, 8, tables, lam)


@pytest.mark.parametrize("lanes", [4, 8, 16, 32])
def test_lanes_are_independent_paths(lanes):
    rng = np.random.default_rng(7)
    tables = random_tables(rng)
    t32, scale_index = random_latents(rng, 250, 3)
    k, cls = cpu.search(t32, scale_index, lanes, 8, tables, 38)
    for lane in range(lanes):
        alone = cpu.search(t32[lane::lanes], scale_index[lane::lanes], 1, 8, tables, 38)
        assert np.array_equal(alone[0], k[lane::lanes])
        assert np.array_equal(alone[1], cls[lane::lanes])


def test_views_and_frozen_arrays_are_welcome():
    rng = np.random.default_rng(8)
    tables = random_tables(rng)
    t32, scale_index = random_latents(rng, 40, 3)
    t32.flags.writeable = False
    check_same(t32[::2], scale_index[::-2], 2, 8, tables, 38)


@pytest.mark.parametrize("array", [np.arange(6), np.arange(12, dtype=np.int32)[::2]])
def test_kernels_get_arrays_of_one_kind(array):
    """Or they would be compiled again for each."""
    array.flags.writeable = False
    made = cpu._plain(array, np.int32)
    assert made.dtype == np.int32
    assert made.flags.c_contiguous
    assert made.flags.writeable
    assert made.tolist() == array.tolist()


def test_branches_are_remembered_for_the_same_tables_and_weight():
    tables = random_tables(np.random.default_rng(9))
    memo = cpu._Memo()
    costs, indices = memo.of(tables, 3, 5)
    assert (costs.dtype, indices.dtype) == (np.int32, np.int16)
    assert (costs == -1).all()
    assert memo.of(tables, 3, 5)[0] is costs
    assert memo.of(tables, 4, 5)[0] is not costs


def test_warming_up_searches_as_many_lanes_as_are_searched_together(monkeypatch):
    seen = []
    monkeypatch.setattr(cpu, "search", lambda *given: seen.append(given))
    cpu.warm_up(8, "tables")
    ((t32, scale_index, *rest),) = seen
    assert rest == [cpu.NARROW, 8, "tables", 1]
    assert (t32.dtype, scale_index.dtype) == (np.int32, np.uint8)
    assert t32.tolist() == scale_index.tolist() == [0] * cpu.NARROW


# ---- ties ----


@SEARCHES
def test_tie_goes_to_the_smaller_index(search):
    """At equal cost of k = 0 and k = 1, and of 1 and 2, on tables of equal rates."""
    tables = equal_rates()
    t32 = np.array([16, -16, 48, -48], np.int32)
    k, _ = search(t32, np.zeros(4, np.uint8), 1, 0, tables, 0)
    assert k.tolist() == [0, 0, 1, -1]


@SEARCHES
def test_tie_goes_to_the_positive_index(search):
    # Q0 at t = 0, parity 1: levels +-2 D are equally far. Rate forbids k = 0.
    tables = equal_rates(zero=1)
    k, _ = search(np.zeros(1, np.int32), np.zeros(1, np.uint8), 1, 4, tables, 4096)
    assert k.tolist() == [1]
    k, _ = search(np.zeros(1, np.int32), np.zeros(1, np.uint8), 1, 0, tables, 4096)
    assert k.tolist() == [1]


@SEARCHES
def test_tie_goes_to_the_lower_state(search):
    # k = 0 (to state 0) and k = 1 (to state 1) cost the same: t lies midway. State 0 wins.
    tables = equal_rates()
    k, _ = search(np.array([21], np.int32), np.zeros(1, np.uint8), 1, 4, tables, 0)
    assert k.tolist() == [0]


@SEARCHES
@pytest.mark.parametrize(
    ("step", "t32"),
    [(16, [-24, -32, 24, 16]), (16, [40, -32, 24, 48]), (20, [60, -30, -10, 10])],
)
def test_tie_goes_to_the_lower_predecessor(search, step, t32):
    """Of all paths that cost the least, the one whose states are the lowest, the last one first."""
    tables, table = flat_tables(step=step), next_state(4)
    t32 = np.array(t32, np.int32)
    scale_index = np.zeros(4, np.uint8)

    def order(path):
        states = [0]
        for k in path:
            states.append(int(table[states[-1], k & 1]))
        ties = [(abs(k), k < 0) for k in reversed(path)]
        return path_cost(path, t32, scale_index, 4, tables, 0), states[::-1], ties

    expected = min(itertools.product(range(-2, 3), repeat=4), key=order)
    k, _ = search(t32, scale_index, 1, 4, tables, 0)
    assert k.tolist() == list(expected)


# ---- degenerate input ----


@SEARCHES
@pytest.mark.parametrize("states", [0, 4, 256])
def test_nothing(search, states):
    k, cls = search(np.zeros(0, np.int32), np.zeros(0, np.uint8), 8, states, flat_tables(), 38)
    assert (k.shape, k.dtype, cls.shape, cls.dtype) == ((0,), np.int32, (0,), np.uint8)


@SEARCHES
@pytest.mark.parametrize("states", [0, 4, 8])
def test_huge_latents_are_clamped(search, states):
    t32 = np.array([2**31 - 1, -(2**31)], np.int32)
    k, _ = search(t32, np.zeros(2, np.uint8), 2, states, flat_tables(), 38)
    assert k[0] == -k[1]
    assert 32765 <= k[0] <= 32767


@SEARCHES
def test_zero_latents_cost_nothing_much(search):
    k, cls = search(np.zeros(9, np.int32), np.zeros(9, np.uint8), 2, 8, flat_tables(), 38)
    assert not k.any()
    assert (cls == 1).all()


@SEARCHES
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lanes": 0}, "0 lanes"),
        ({"states": 12}, "a trellis of 12 states"),
        ({"lam": -1}, "lam -1"),
        ({"lam": 4097}, "lam 4097"),
        ({"t32": np.zeros(3, np.int32)}, "equal rows"),
        ({"t32": np.zeros(2, np.int64)}, "expected int32"),
        ({"scale_index": np.ones(2, np.uint8)}, "scale index 1 has no table"),
    ],
)
def test_unusable_arguments(search, changed, message):
    arguments = {
        "t32": np.zeros(2, np.int32),
        "scale_index": np.zeros(2, np.uint8),
        "lanes": 1,
        "states": 8,
        "tables": flat_tables(),
        "lam": 38,
    }
    with pytest.raises(ValueError, match=message):
        search(**(arguments | changed))


# ---- rounding and reconstruction ----


def test_plain_rounding():
    t32 = np.array([0, 15, 16, -16, -17, 47, 48, 2**31 - 1, -(2**31)], np.int32)
    k = reference.round_to_step(t32)
    assert k.dtype == np.int32
    assert k.tolist() == [0, 0, 1, 0, -1, 1, 2, 32767, -32767]


@RECONSTRUCTIONS
def test_levels_by_hand(reconstruct):
    off = np.zeros((3, 1, 4), np.int16)
    off[:, 0] = [[99, 1, 2, 3], [99, 4, 5, 6], [99, 7, 8, -9]]  # the first is never used
    width = np.zeros((3, 1), np.uint16)
    tables = Tables(width, np.full(6, 1 << 14, np.uint16), off, 20)
    k = np.array([0, 1, -2, 3, 4] * 3, np.int32)
    cls = np.repeat(np.arange(3, dtype=np.uint8), 5)
    recon = reconstruct(k, cls, np.zeros(15, np.uint8), tables)
    scalar = [0, 32 - 1, -(64 - 2), 96 - 3, 128 - 3]
    q0 = [0, 40 - 4, -(80 - 5), 120 - 6, 160 - 6]
    q1 = [0, 20 - 7, -(60 - 8), 100 + 9, 140 + 9]
    assert recon.tolist() == scalar + q0 + q1


@RECONSTRUCTIONS
def test_a_reconstruction_is_of_int32(reconstruct):
    classes = np.zeros(3, np.uint8)
    tables = random_tables(np.random.default_rng(10))
    assert reconstruct(np.arange(3, dtype=np.int32), classes, classes, tables).dtype == np.int32


@RECONSTRUCTIONS
def test_of_nothing_there_is_no_reconstruction(reconstruct):
    none = np.zeros(0, np.uint8)
    assert reconstruct(np.zeros(0, np.int32), none, none, flat_tables()).shape == (0,)


@RECONSTRUCTIONS
def test_reconstruction_checks_its_arguments(reconstruct):
    k, zeros = np.zeros(2, np.int32), np.zeros(2, np.uint8)
    for bad in ((k, zeros[:1], zeros), (k, zeros + 3, zeros), (k, zeros, zeros + 1)):
        with pytest.raises(ValueError, match=r"quantizer|scale index|equal rows"):
            reconstruct(*bad, flat_tables())


@pytest.mark.parametrize("wrong", [{"step": 0}, {"step": 256}, {"max_off": 256}])
def test_tables_that_would_overflow_a_branch_are_refused(monkeypatch, wrong):
    good = SearchTables(*[np.zeros((3, 4), np.int32)] * 4, max_off=255, step=255)
    t32, index = np.zeros(2, np.int32), np.zeros(2, np.uint8)
    for levels, refused in ((good, False), (good._replace(**wrong), True)):
        monkeypatch.setattr(SearchTables, "of", lambda tables, levels=levels: levels)
        if refused:
            with pytest.raises(BadParameter, match="trellis step of"):
                checked_arguments(t32, index, 1, 8, None, 20)
        else:
            assert checked_arguments(t32, index, 1, 8, None, 20) is good


def test_an_escape_costs_its_digits_twice():
    """Of the excess and one more: 1, 2 to 3, 4 to 7, and so on, each in 64ths of a bit."""
    costs = [escape_rate(excess) // 64 for excess in (0, 1, 2, 3, 6, 7, 14, 15)]
    assert costs == [2, 4, 4, 6, 6, 8, 8, 10]
    assert escape_rate(6) == 64 * 6


def test_limits_of_a_search_are_allowed():
    """One lane, the largest weight, the largest step and offset, and the last table."""
    good = SearchTables(*[np.zeros((3, 4), np.int32)] * 4, max_off=255, step=255)
    one = np.zeros(1, np.int32), np.full(1, 3, np.uint8)
    for levels in (good, good._replace(step=1)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(SearchTables, "of", lambda tables, levels=levels: levels)
            for states, lam in ((0, 0), (8, 4096)):
                assert checked_arguments(*one, 1, states, None, lam) is levels
            assert checked_indices(one[0], np.full(1, 2, np.uint8), one[1], None) is levels
            with pytest.raises(BadParameter, match="scale index 4 has no table; expected one of 4"):
                checked_arguments(one[0], one[1] + np.uint8(1), 1, 8, None, 0)
            with pytest.raises(BadParameter, match="quantizer 3"):
                checked_indices(one[0], one[1], one[1], None)


def test_latents_are_clamped_where_indices_end():
    assert clamp_limit(0, 21) == 32767 * 32
    assert clamp_limit(8, 21) == 32766 * 42
