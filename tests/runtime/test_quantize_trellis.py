"""The trellises: structure, and the coding gain that only the right codes have."""

import heapq

import numpy as np
import pytest
from tests.trellises import predecessors

from trellic.quantize.trellis import PARITY_CHECKS, STATES, next_state

ALL = pytest.mark.parametrize("states", STATES)

# Squared free distance of Ungerboeck's amplitude codes over the spacing of the union, as published
# (parallel transitions, 4 D apart, allow at most 16).
FREE_DISTANCE = {4: 9, 8: 10, 16: 11, 32: 13, 64: 14, 128: 16, 256: 16}


def test_tables_worked_out_by_hand():
    # 4 states: bit 0 of the next state is s1 ^ x, bit 1 is s0.
    assert next_state(4).tolist() == [[0, 1], [2, 3], [1, 0], [3, 2]]
    # 8 states (13, 4): bit 0 is s1 ^ s0, bit 1 is s2 ^ x, bit 2 is s0.
    assert next_state(8)[[0, 1, 2, 7]].tolist() == [[0, 2], [5, 7], [1, 3], [6, 4]]


@ALL
def test_matches_the_rule_bit_by_bit(states):
    h0, h1 = PARITY_CHECKS[states]
    v = states.bit_length() - 1
    for s in range(states):
        for x in (0, 1):
            bits = [
                ((s >> (i + 1)) & 1) ^ ((h0 >> (i + 1)) & s & 1) ^ ((h1 >> (i + 1)) & x)
                for i in range(v)
            ]
            expected = sum((bit & 1) << i for i, bit in enumerate(bits))
            assert next_state(states)[s, x] == expected


@ALL
def test_every_state_has_two_ways_in_and_two_out(states):
    table = next_state(states)
    assert (table[:, 0] != table[:, 1]).all()
    assert (np.bincount(table.ravel(), minlength=states) == 2).all()
    state, parity = predecessors(states)
    assert (state[0] < state[1]).all()
    for j in (0, 1):
        assert (table[state[j], parity[j]] == np.arange(states)).all()


@ALL
def test_paths_split_and_join_within_one_quantizer(states):
    """Ungerboeck's rules: both ways into a state leave from one quantizer, by both parities."""
    state, parity = predecessors(states)
    assert (state[0] & 1 == state[1] & 1).all()
    assert (parity[0] != parity[1]).all()


@ALL
def test_zeros_alone_stay_in_the_first_state(states):
    assert next_state(states)[0, 0] == 0


@ALL
def test_every_state_is_reached_from_the_first(states):
    """The bound on int32 metrics needs it within 8 steps."""
    reached = {0}
    for _ in range(states.bit_length() - 1):
        reached = set(next_state(states)[sorted(reached)].ravel().tolist())
    assert len(reached) == states


@ALL
def test_free_distance(states):
    """Two paths that part lie at least so far apart when they meet again."""
    # Subsets by (quantizer, parity) lie at 0, 2 (Q0) and 1, 3 (Q1) modulo 4 D.
    table = next_state(states)
    apart = {0: 0, 1: 1, 2: 4, 3: 1}
    heap = [(4, int(table[s, 0]), int(table[s, 1])) for s in range(states)]
    heapq.heapify(heap)
    seen = set()
    while heap:
        distance, a, b = heapq.heappop(heap)
        if a == b:
            assert min(distance, 16) == FREE_DISTANCE[states]
            return
        if (a, b) in seen:
            continue
        seen.add((a, b))
        for x in (0, 1):
            for y in (0, 1):
                step = apart[((a & 1) + 2 * x - (b & 1) - 2 * y) % 4]
                heapq.heappush(heap, (distance + step, int(table[a, x]), int(table[b, y])))


def test_tables_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        next_state(8)[0, 0] = 1


@pytest.mark.parametrize("states", [0, 2, 5, 512])
def test_other_sizes_are_refused(states):
    with pytest.raises(ValueError, match=f"{states} states"):
        next_state(states)
