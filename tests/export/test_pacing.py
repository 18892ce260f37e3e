"""Training for a time: the learning rate of each step, when it ends, and what the bar shows."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from trellic_export.adapters import pacing
from trellic_export.adapters.settings import Training

SETTINGS = Training(minutes=2.0, batch=1, learning_rate=0.3)


def optimizer_of_two_groups():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": [p]} for p in parameters], lr=7.0)


def test_the_learning_rate_rises_by_steps_and_falls_by_a_cosine_of_the_time(monkeypatch):
    """It is whole after the warm-up at the beginning, half at half of the time, 0 at its end."""
    asked, shares = [], (0.0, 0.0, 0.0, 0.0, 0.25, 0.5, 2 / 3, 1.0)
    monkeypatch.setattr(pacing, "elapsed", lambda *given: asked.append(given) or iter(shares))
    optimizer = optimizer_of_two_groups()
    found, rates = [], []
    for share in pacing.paced(optimizer, SETTINGS, 4, "learning"):
        found.append(share)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert found == list(shares)
    assert asked == [(120.0, "learning")]
    warm = [0.25, 0.5, 0.75, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.25, 0.0]
    assert [rate for rate, _ in rates] == pytest.approx([0.3 * part for part in warm], abs=1e-12)
    assert all(one == other for one, other in rates)


def test_a_rate_that_is_not_warm_yet_falls_too(monkeypatch):
    monkeypatch.setattr(pacing, "elapsed", lambda *_: iter((0.5, 0.5)))
    optimizer = optimizer_of_two_groups()
    rates = [optimizer.param_groups[0]["lr"] for _ in pacing.paced(optimizer, SETTINGS, 3, "")]
    assert rates == pytest.approx([0.3 / 3 / 2, 0.3 * 2 / 3 / 2])


@pytest.fixture
def bar(monkeypatch):
    """A progress bar that notes what it is told."""
    noted = SimpleNamespace(made=[], shown=[])

    class Bar:
        def __init__(self, console, transient):
            noted.made.append((console.stderr, transient))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def add_task(self, doing, total):
            noted.made.append((doing, total))
            return "task"

        def update(self, task, completed):
            assert task == "task"
            noted.shown.append(completed)

    monkeypatch.setattr(pacing, "Progress", Bar)
    return noted


def at(monkeypatch, *times):
    monkeypatch.setattr(pacing, "time", SimpleNamespace(monotonic=iter(times).__next__))


def test_shares_of_a_time_go_from_0_until_it_is_over(monkeypatch, bar):
    at(monkeypatch, 100.0, 101.0, 107.5, 110.0)
    assert list(pacing.elapsed(10.0, "learning")) == pytest.approx([0.0, 0.1, 0.75])
    assert bar.made == [(True, True), ("learning", 1.0)]
    assert bar.shown == pytest.approx([0.1, 0.75, 1.0])


def test_a_time_that_is_over_at_once_has_one_step(monkeypatch, bar):
    """And the bar does not go beyond its end."""
    at(monkeypatch, 5.0, 8.0)
    assert list(pacing.elapsed(1.0, "learning")) == [0.0]
    assert bar.shown == [1.0]
