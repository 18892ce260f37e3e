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


def test_after_five_rounds_latents_come_to_rest_and_are_pushed_where_that_does_not_help(
    monkeypatch,
):
    """Pushed are those of which as many change as in the round before. There are 14 rounds."""
    toy = Toy()
    changing = [2, 1, 2, 2, 2, 2, 1, 1, 2, 1, 1, 1, 2, 1]  # of the two latents, round by round
    states = [state(0, 5)]
    for both in changing:
        before = states[-1].v32[0, 0]
        states.append(state(before[0] + 32, before[1] + 32 * (both - 1)))
    asked = scripted(monkeypatch, toy.settler, *([(one, 0.5)] for one in states[1:]))
    calls = []
    monkeypatch.setattr(toy.settler, "_at_rest", lambda *given: calls.append(given) or given[1])
    assert toy.settler._until_it_stands(states[0]) is states[14]
    assert len(asked) == 14
    assert [one for one, *_ in calls] == states[5:14]
    assert [other for _, other, _ in calls] == states[6:]
    pushed = [random is not None for *_, random in calls]
    assert pushed == [True, False, True, False, False, True, True, False, False]


def test_what_is_pushed_is_the_same_each_time(monkeypatch):
    one, other, numbers = state(0, 0), state(32, 32), []
    for _ in range(2):
        toy = Toy()
        scripted(monkeypatch, toy.settler, *([(each, 0.5)] for each in 7 * (other, one)))
        numbers.append([])
        monkeypatch.setattr(
            toy.settler, "_at_rest", lambda _, found, r: numbers[-1].append(r.random()) or found
        )
        toy.settler._until_it_stands(one)
    assert numbers[0] == numbers[1]
    assert len(set(numbers[0])) == settling.ROUNDS - settling.FREE


def test_at_rest_each_latent_is_the_one_nearer_to_zero():
    toy = Toy(gain=2.0)
    rests = toy.settler._at_rest(state(64, -32), state(32, -64), None)
    assert rests.v32.tolist() == [[[32, -32]]]
    assert rests.z.tolist() == [[[1, 0]]]  # of 0.5 and of -0.5: halves upwards


def test_levels_are_pushed_in_cells_whose_hyper_latents_go_back_and_forth(monkeypatch):
    toy = Toy()
    hyper = np.zeros((3, 2, 2), np.int64)
    one, other = (state(96, 64)._replace(z=hyper.copy()) for _ in range(2))
    other.z[2, 1, 0] = 1
    given = []
    monkeypatch.setattr(settling, "pushed", lambda *arguments: given.append(arguments))
    random = np.random.default_rng(0)
    toy.settler._at_rest(one, other, random)
    ((v32, cells, side, generator),) = given
    assert v32.tolist() == one.v32.tolist()
    assert cells.tolist() == [[1, 0]]
    assert side == toy.plane.cell
    assert generator is random


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
