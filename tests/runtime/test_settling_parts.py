"""The search for latents that stand still, step by step, with networks that are arithmetic."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from trellic.geometry import Plane
from trellic.latents.quantizer import Quantizer
from trellic.pipeline import settling
from trellic.pipeline.settling import Settled, Settler, Transforms

STILL = Quantizer(0, 26, still=True)
WIDE = Plane(32, 16)  # of two latents


def same(x):
    """A network that changes nothing, and takes what networks take."""
    assert x.dtype == np.float32
    return x.copy()


def rounded(f, z, gain):
    return 32 * np.rint(f * gain).astype(np.int32)


class Toy:
    """A settler of one latent channel whose networks and quantizer are functions."""

    def __init__(self, gain=1.0, hyper_gain=1.0, decoded=rounded, plane=WIDE, **transforms):
        self.quantizers = []
        level = SimpleNamespace(
            gain_float=np.float32([gain]),
            unit_float=np.float32([1 / (32 * gain)]),
            hyper_gain_float=np.float32([hyper_gain]),
        )

        def quantize(f, z, plane, level_, quantizer):
            assert (plane, level_) == (self.plane, level)
            assert (f.dtype, z.dtype) == (np.float32, np.int64)
            self.quantizers.append(quantizer)
            return decoded(f, z, gain)

        networks = dict.fromkeys(("g_a", "g_s", "h_a"), same) | transforms
        self.plane = plane
        latents = SimpleNamespace(decoded=quantize)
        self.settler = Settler(Transforms(**networks), latents, self.plane, level, STILL)


def row(*values, dtype=np.float32):
    """One row of latents: one channel, one row."""
    return np.array(values, dtype)[None, None]


def state(*levels, z=0):
    return Settled(row(*levels, dtype=np.int32), np.full((1, 1, len(levels)), z, np.int64))


# ---- nearer and nearer ----


def test_steps_follow_the_factors_after_the_corrections():
    """Of g_a that halves, each correction leaves half of the way from 4.2 to 8.4."""
    toy = Toy(gain=10_000.0, g_a=lambda p: 0.5 * p)
    f = row(4.2, -1.0)
    found = [one for one, _ in toy.settler._nearer_and_nearer(row(100, 100), f)]
    y = np.float64(4.2) * (1 + 0.5 + 0.25 + 0.125)
    expected = [y]
    for factor in settling.FACTORS:
        y = y + factor * (4.2 - 0.5 * y)
        expected.append(y)
    assert [one.v32[0, 0, 0] / 320_000 for one in found] == pytest.approx(expected, abs=1e-3)
    assert {quantizer.keep for quantizer in toy.quantizers} == {True}


def test_it_ends_at_a_picture_that_is_met():
    near, same = np.array([1, 2, 3, 9], np.uint8), np.array([1, 2, 3, 4], np.uint8)
    toy = Toy(g_s=lambda f: same, g_a=lambda p: row(0, 0))
    shares = [share for _, share in toy.settler._nearer_and_nearer(near, row(0, 0))]
    assert shares == [0.25] * (len(settling.FACTORS) + 1)
    assert [share for _, share in toy.settler._nearer_and_nearer(same, row(0, 0))] == [0]


def test_hyper_latents_are_those_of_whole_steps():
    toy = Toy(gain=4.0, hyper_gain=8.0)
    found = toy.settler._levels(row(0.3, -1.1))
    assert found.z.tolist() == [[[2, -8]]]  # of 0.25 and of -1
    assert found.v32.tolist() == [[[32, -128]]]
    assert toy.settler._latents_of(found).tolist() == [[[0.25, -1.0]]]
    assert toy.settler._latents_of(found).dtype == np.float32


def test_latents_beyond_the_picture_are_copies_of_the_last_ones():
    """Of a picture of 40x20 pixels that has 3x2 latents, in a plane of 5x4."""
    settler = Toy(plane=Plane(40, 20)).settler
    f = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    rows, columns = [0, 1, 1, 1], [0, 1, 2, 2, 2]
    np.testing.assert_array_equal(settler._shown(f), f[:, rows][:, :, columns])
    narrow, low = f[:, :, :3], f[:, :2]
    np.testing.assert_array_equal(settler._shown(narrow), narrow[:, rows])
    np.testing.assert_array_equal(settler._shown(low), low[:, :, columns])
    fits = f[:, :2, :3]
    assert settler._shown(fits) is fits


# ---- an original, or a picture that was decoded ----


def scripted(monkeypatch, settler, *rounds):
    """Let what is found be this, round by round; returns what it was looked for in."""
    asked, left = [], iter(rounds)

    def found(pixels, f):
        asked.append((pixels.tolist(), f.tolist()))
        return iter(next(left))

    monkeypatch.setattr(settler, "_nearer_and_nearer", found)
    return asked


@pytest.mark.parametrize(
    ("shares", "place"), [((0.5, 0.3, 0), 2), ((0,), 0), ((0.51, 0), None), ((0.2, 0.1), None)]
)
def test_a_picture_is_recognised_where_one_is_met(monkeypatch, shares, place):
    """Of an original more than half of the samples differ at first: no more steps are made."""
    settler = Toy().settler
    states = [state(32 * i, 0) for i in range(len(shares))]
    asked = scripted(monkeypatch, settler, left := iter(zip(states, shares, strict=True)))
    found = settler._recognised(row(7, 7), row(1, 1))
    assert asked == [([[[7, 7]]], [[[1, 1]]])]
    assert found is (None if place is None else states[place])
    if shares[0] > settling.FOREIGN:
        assert len(list(left)) == len(shares) - 1


def test_what_is_recognised_is_the_answer_and_else_what_stands(monkeypatch):
    toy = Toy(gain=2.0, hyper_gain=4.0, g_a=lambda pixels: pixels + 1)
    seen = []
    known, first, last = state(64, -32, z=8), state(0, 0), state(32, 32, z=-4)
    for answer in (known, None):
        monkeypatch.setattr(
            toy.settler, "_recognised", lambda p, f, a=answer: seen.append((p, f)) or a
        )
        monkeypatch.setattr(toy.settler, "_first", lambda f: seen.append(f) or first)
        monkeypatch.setattr(toy.settler, "_until_it_stands", lambda one: seen.append(one) or last)
        f, h = toy.settler.settle(row(7, 8))
        given = known if answer else last
        assert (f * 64).tolist() == given.v32.tolist()
        assert (h * 4).tolist() == given.z.tolist()
    assert [(p.tolist(), f.tolist()) for p, f in (seen[0], seen[1])] == [
        ([[[7, 8]]], [[[8, 9]]])
    ] * 2
    assert seen[2].tolist() == [[[8, 9]]]
    assert seen[3] is first
    assert len(seen) == 4


# ---- until it stands ----


def test_it_looks_again_until_the_same_is_found(monkeypatch):
    toy = Toy(gain=2.0, g_s=lambda f: 10 * f, g_a=lambda p: p + 1)
    one, two = state(64, 0), state(128, 64)
    asked = scripted(
        monkeypatch, toy.settler, [(one, 0.1), (two, 0.0)], [(one, 0.3), (two, 0.2)], []
    )
    assert toy.settler._until_it_stands(one) is two
    pictures = [[[[10.0, 0.0]]], [[[20.0, 10.0]]]]
    assert asked == [(p, (np.array(p) + 1).tolist()) for p in pictures]


def missing(*counts):
    """States, and what is found of each: so many levels elsewhere."""
    for count in counts:
        yield state(*(9 * [64])), state(*(count * [96] + (9 - count) * [64]))


ASIDE = state(*(9 * [0]))  # from where the free rounds begin


def search(monkeypatch, found, shaken):
    """Return what a search ends with, and what it shakes; nothing comes to rest elsewhere.

    ``found`` are those that are looked at after the free rounds, and what is found of each.
    """
    toy, given, coming = Toy(), [], iter(shaken)
    first = found[0][0]
    free = [first, ASIDE, first, ASIDE, first]
    scripted(
        monkeypatch, toy.settler, *([(each, 0.5)] for each in (*free, *(of for _, of in found)))
    )
    monkeypatch.setattr(toy.settler, "_at_rest", lambda one, _: one)

    def shake(*those):
        given.append(those)
        return next(coming)

    monkeypatch.setattr(toy.settler, "_shaken", shake)
    return toy.settler._until_it_stands(ASIDE), given


def test_after_five_rounds_those_are_shaken_of_which_fewest_are_found_elsewhere(monkeypatch):
    pairs = list(missing(3, 5, 2, 2, 4, 1, 0))
    last, given = search(monkeypatch, pairs, [one for one, _ in pairs[1:]])
    assert last is pairs[6][0]
    assert [pair for *pair, _ in given] == [list(pairs[i]) for i in (0, 0, 2, 3, 3, 5)]
    assert len({id(random) for *_, random in given}) == 1


def test_hyper_latents_that_are_found_elsewhere_count_too(monkeypatch):
    monkeypatch.setattr(settling, "ROUNDS", settling.FREE + 2)
    one, (second, found) = missing(2, 0)
    found.z[0, 0, :3] = 1
    last, _ = search(monkeypatch, [one, (second, found)], [second, ASIDE])
    assert last is one[0]


def test_where_none_stands_those_come_back_of_which_fewest_are_found_elsewhere(monkeypatch):
    monkeypatch.setattr(settling, "ROUNDS", settling.FREE + 3)
    pairs = list(missing(3, 1, 2))
    last, _ = search(monkeypatch, pairs, [pairs[1][0], pairs[2][0], ASIDE])
    assert last is pairs[1][0]


def test_what_comes_to_rest_elsewhere_is_looked_at_before_any_is_shaken(monkeypatch):
    one, found, rests = state(64, 64), state(96, 64), state(32, 64)
    toy, free, pairs = Toy(), [one, ASIDE, one, ASIDE, one], []
    scripted(monkeypatch, toy.settler, *([(each, 0.5)] for each in (*free, found, rests)))
    monkeypatch.setattr(toy.settler, "_at_rest", lambda *pair: pairs.append(pair) or rests)
    assert toy.settler._until_it_stands(ASIDE) is rests
    assert pairs == [(one, found)]


def test_what_is_shaken_is_the_same_each_time(monkeypatch):
    numbers = []
    pairs = list(missing(3, 2, 1, 0))
    for _ in range(2):
        _, given = search(monkeypatch, pairs, [one for one, _ in pairs[1:]])
        numbers.append(given[0][-1].random(3).tolist())
    assert numbers[0] == numbers[1]


def test_at_rest_each_latent_is_the_one_nearer_to_zero():
    toy = Toy(gain=2.0)
    rests = toy.settler._at_rest(state(64, -32), state(32, -64))
    assert rests.v32.tolist() == [[[32, -32]]]
    assert rests.z.tolist() == [[[1, 0]]]  # of 0.5 and of -0.5: halves upwards


def test_levels_are_pushed_in_cells_whose_hyper_latents_go_back_and_forth(monkeypatch):
    toy, given = Toy(plane=Plane(128, 128)), []
    random = np.random.default_rng(0)
    one = Settled(np.full((1, 8, 8), 96, np.int32), np.zeros((3, 2, 2), np.int64))
    other = one._replace(z=one.z.copy())
    other.z[1:, 1, 1] = 1

    def push(cell, count, generator):
        given.append((cell.shape, count, generator is random))
        cell.fill(7 * 32)

    monkeypatch.setattr(settling, "pushed", push)
    shaken = toy.settler._shaken(one, other, random).v32
    assert given == [((1, 4, 4), settling.PUSHED, True)]
    assert (shaken[0, 4:, 4:] == 7 * 32).all()
    assert np.count_nonzero(shaken == 7 * 32) == 16


def test_shaken_latents_are_those_of_one_or_of_the_other():
    toy = Toy(plane=Plane(16 * 64, 16))
    values = np.arange(64)
    one, other = (state(*(32 * (2 * values + add))) for add in (0, 1))
    shaken = toy.settler._shaken(one, other, np.random.default_rng(0)).v32
    others = shaken == other.v32
    assert (others | (shaken == one.v32)).all()
    assert 16 < others.sum() < 48


def test_beside_few_levels_that_are_found_elsewhere_one_moves(monkeypatch):
    toy, random, pushes = Toy(plane=Plane(16 * 12, 16)), np.random.default_rng(3), []

    def push(beside, count, generator):
        assert generator is random
        pushes.append(count)
        beside.fill(7 * 32)

    monkeypatch.setattr(settling, "pushed", push)
    one = state(*(12 * [96]))
    for moved, seen in (([0], [0, 1]), ([2, 6], [1, 2, 3, 5, 6, 7]), ([2, 6, 10], [])):
        found = one.v32.copy()
        found[0, 0, moved] = 128
        found[0, 0, 8] = 100  # is not coded, so no level
        shaken = toy.settler._shaken(one, one._replace(v32=found), random).v32
        assert np.flatnonzero(shaken == 7 * 32).tolist() == seen
    assert pushes == [1, 1, 1]


def test_beside_a_level_are_the_rows_and_columns_next_to_it(monkeypatch):
    toy, random = Toy(plane=Plane(96, 96)), np.random.default_rng(3)
    monkeypatch.setattr(settling, "pushed", lambda beside, *_: beside.fill(7 * 32))
    one = Settled(np.full((1, 6, 6), 96, np.int32), np.zeros((1, 2, 2), np.int64))
    found = one.v32.copy()
    found[0, 3, 3] = 128
    shaken = toy.settler._shaken(one, one._replace(v32=found), random).v32
    assert (shaken[0, 2:5, 2:5] == 7 * 32).all()
    assert np.count_nonzero(shaken == 7 * 32) == 9


@pytest.mark.parametrize(("agree", "rounds"), [(0, 1), (2, 3), (9, 5)])
def test_found_levels_are_repeated_until_their_hyper_latents_agree(agree, rounds):
    """Values that are not coded follow the hyper-latents up to an end: four repeats at most."""
    toy = Toy(decoded=lambda f, z, gain: 32 * np.minimum(z + 1, agree + 7).astype(np.int32))
    found = toy.settler._levels(row(7, 7))
    assert found.z.tolist() == [[[7 + min(agree, 4)] * 2]]
    assert len(toy.quantizers) == rounds
    assert {quantizer.keep for quantizer in toy.quantizers} == {True}


# ---- the first levels of an original ----


@pytest.mark.parametrize("end", [10, 13, 20])
def test_hyper_latents_follow_the_levels_until_both_agree(end):
    """Levels that are one more than the hyper-latents, up to an end."""
    toy = Toy(decoded=lambda f, z, gain: 32 * np.minimum(z + 1, end).astype(np.int32))
    found = toy.settler._first(row(10, 10))
    assert found.v32.tolist() == [[[32 * end] * 2]]
    assert found.z.tolist() == [[[end] * 2]]
    assert set(toy.quantizers) == {STILL}
    assert found.v32.dtype == np.int32
    if end - 10 < settling.WHOLE:
        assert len(toy.quantizers) == 1 + end - 10


def test_the_first_levels_are_of_corrected_latents():
    given = []

    def decoded(f, z, gain):
        given.append(f.tolist())
        return rounded(f, z, gain)

    toy = Toy(decoded=decoded, g_a=lambda p: 0.5 * p)
    found = toy.settler._first(row(4, 6))
    assert given == [[[[6, 9]]]]
    assert found.z.tolist() == [[[6, 9]]]


def test_cells_that_change_together_are_told_apart():
    """Each is one less the other: at once both go from 0 to 1 and back for ever."""
    toy = Toy(decoded=lambda f, z, gain: 32 * (1 - z[..., ::-1]).astype(np.int32))
    found = toy.settler._first(row(0, 0))
    assert sorted(found.z.ravel().tolist()) == [0, 1]
    assert found.v32.tolist() == (32 * found.z).tolist()
    assert len(toy.quantizers) > settling.WHOLE
    again = toy.settler._first(row(0, 0))
    assert again.same(found)


def test_after_four_rounds_a_random_half_of_the_cells_changes():
    """Levels are one more than the hyper-latents; the half is the same each time."""
    plane, none = Plane(16 * 64, 16), np.zeros((1, 1, 64), np.float32)
    toy = Toy(decoded=lambda f, z, gain: 32 * (z + 1).astype(np.int32), plane=plane)
    together, apart, again = (toy.settler._agreed(none, STILL, most).z for most in (4, 5, 5))
    assert set(together.ravel().tolist()) == {4}
    assert set(apart.ravel().tolist()) == {4, 5}
    assert 16 < (apart == 5).sum() < 48
    np.testing.assert_array_equal(again, apart)


def test_what_never_agrees_ends():
    toy = Toy(decoded=lambda f, z, gain: 32 * (z + 1).astype(np.int32))
    toy.settler._first(row(0, 0))
    assert len(toy.quantizers) == 1 + settling.MOST
