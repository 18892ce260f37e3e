"""The targets of fuzzing in the ordinary tests: seeds are taken, mutations do no harm."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import TARGETS, replaced_checks, seeds

STREAMS = ["parser", "coder", "decode"]
RECODED = ["deep", "region", "labels"]  # what is made valid is taken, nearly all of it


@pytest.fixture(scope="module", autouse=True)
def steered_checks():
    with replaced_checks():
        yield


@pytest.mark.parametrize("name", [*STREAMS, "deep"])
def test_seeds_are_taken(name):
    assert all(TARGETS[name](data) for data in seeds(name))


def test_seeds_of_the_loader_reach_both_ends():
    taken = [TARGETS["loader"](data) for data in seeds("loader")]
    assert True in taken
    assert False in taken


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_do_no_harm(name):
    rng = random.Random(1)
    start, taken = seeds(name), 0
    rounds = 60 if name in RECODED else 300
    for _ in range(rounds):
        data = bytearray(rng.choice(start))
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(1, len(data) + 1) :]
        taken += TARGETS[name](bytes(data))
    assert taken > 0
    assert taken < rounds or name == "deep"  # the others refuse some


@pytest.mark.parametrize("name", STREAMS)
def test_any_bytes(name):
    @settings(max_examples=100, deadline=None)
    @given(st.binary(min_size=1, max_size=200))
    def run(data):
        TARGETS[name](data)

    run()
