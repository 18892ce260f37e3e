"""Load for a service: calls without a pause or at given times, and what an ideal queue would do."""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

THREADS = 64  # that wait for answers
CLIENTS = 8
ROUNDS = 4  # of library and server
LOAD = 0.8  # of the greatest throughput, for latencies


def flood(call: Callable[[], object], clients: int, seconds: float) -> list[float]:
    """Call from threads, one call after another; return the seconds of each."""
    until, took = time.monotonic() + seconds, []

    def one() -> None:
        while time.monotonic() < until:
            start = time.perf_counter()
            call()
            took.append(time.perf_counter() - start)

    with ThreadPoolExecutor(clients) as threads:
        for job in [threads.submit(one) for _ in range(clients)]:
            job.result()
    return took


def in_turns(
    own: Callable[[], object], asked: Callable[[], object], workers: int, seconds: float
) -> tuple[float, float]:
    """Return calls a second of a library, from as many threads as workers, and of its server.

    They take turns, because other programs may use the machine, too.
    """
    rates: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for found, call, clients in zip(rates, (own, asked), (workers, CLIENTS), strict=True):
            start = time.monotonic()
            count = len(flood(call, clients, seconds / ROUNDS))
            found.append(count / (time.monotonic() - start))
    return statistics.mean(rates[0]), statistics.mean(rates[1])


def at_random(rate: float, seed: int = 1) -> Iterator[float]:
    """Seconds between calls of many people who know nothing of each other, so many a second."""
    rng = random.Random(seed)
    while True:
        yield rng.expovariate(rate)


def evenly(rate: float) -> Iterator[float]:
    """Seconds between calls at a steady rate, as other load generators make them."""
    return itertools.repeat(1 / rate)


def paced(call: Callable[[], object], gaps: Iterator[float], seconds: float) -> list[float]:
    """Call at given times; return the seconds of each from then on, waiting included."""
    took: list[float] = []
    start, at = time.monotonic(), 0.0

    def one(due: float) -> None:
        call()
        took.append(time.monotonic() - start - due)

    with ThreadPoolExecutor(THREADS) as threads:
        while (at := at + next(gaps)) < seconds:
            time.sleep(max(0.0, start + at - time.monotonic()))
            threads.submit(one, at)
    return took


def percentiles(took: list[float]) -> dict[str, float]:
    """Median and the 99th percentile, in milliseconds."""
    cut = statistics.quantiles(took, n=100) if len(took) > 1 else [took[0]] * 99
    p50, p99 = (round(1e3 * cut[percent - 1], 1) for percent in (50, 99))
    return {"count": len(took), "p50_ms": p50, "p99_ms": p99}


def ideal_ratio(load: float, workers: int, calls: int = 200_000) -> float:
    """p99 over p50 of a queue without any fault, whose calls all take equally long.

    Calls come at random, at ``load`` times what the workers can answer, and are answered in order.
    No service that queues can do better with such arrivals.
    """
    free, at, took = [0.0] * workers, 0.0, []
    for gap in itertools.islice(at_random(load * workers), calls):
        at += gap
        first = min(range(workers), key=free.__getitem__)
        free[first] = max(at, free[first]) + 1.0
        took.append(free[first] - at)
    found = percentiles(took)
    return round(found["p99_ms"] / found["p50_ms"], 2)
