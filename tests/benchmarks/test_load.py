"""Load for a service, and the queue that its latencies are compared with."""

import itertools
import time

import pytest
from benchmarks.load import at_random, evenly, flood, ideal_ratio, in_turns, paced, percentiles


def test_calls_come_at_the_rate_asked_for():
    assert list(itertools.islice(evenly(4), 3)) == [0.25] * 3
    gaps = list(itertools.islice(at_random(4), 4000))
    assert sum(gaps) / len(gaps) == pytest.approx(0.25, rel=0.05)
    assert gaps == list(itertools.islice(at_random(4), 4000))
    assert len(paced(lambda: None, evenly(100), 0.1)) in (9, 10)


def test_each_client_calls_until_the_end():
    assert len(flood(lambda: time.sleep(0.01), 2, 1.0)) >= 2


def test_percentiles_are_in_milliseconds():
    found = percentiles([i / 1000 for i in range(1, 1000)])
    assert found == {"count": 999, "p50_ms": 500.0, "p99_ms": 990.0}
    assert percentiles([0.5]) == {"count": 1, "p50_ms": 500.0, "p99_ms": 500.0}


def test_an_ideal_queue():
    """Without load nobody waits. With one worker at 80 %, the mean wait is 2 calls (M/D/1)."""
    assert ideal_ratio(0.001, 1, 20_000) == pytest.approx(1, abs=0.01)
    assert 3 < ideal_ratio(0.8, 1) < 6
    assert ideal_ratio(0.8, 8) < ideal_ratio(0.8, 2) < ideal_ratio(0.8, 1)


def test_library_and_server_take_turns():
    """One worker calls the library, eight clients the server, and never both at once."""
    running: list[str] = []
    seen: list[tuple[str, ...]] = []

    def call(name: str) -> None:
        running.append(name)
        seen.append(tuple(running))
        time.sleep(0.02)
        running.remove(name)

    rates = in_turns(lambda: call("own"), lambda: call("asked"), 1, 0.4)
    assert min(rates) > 0
    assert all(len(set(names)) == 1 for names in seen)
    assert max(len(names) for names in seen if names[0] == "own") == 1
    assert 1 < max(len(names) for names in seen if names[0] == "asked") <= 8
