"""Metrics for Prometheus: requests, stages, the queue, bytes."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from trellic_serve.pool import Pool

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of one service, in a registry of its own.

    Attributes
    ----------
    registry : written by `text`
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "trellic_requests",
            "Requests that were answered",
            ("route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "trellic_request_seconds",
            "From the head of a request to the end of its answer",
            ("route",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._stages = Histogram(
            "trellic_stage_seconds",
            "Seconds of each stage of a call",
            ("stage",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._errors = Counter(
            "trellic_errors",
            "Requests that were refused, by kind of error",
            ("kind",),
            registry=self.registry,
        )
        self._bytes = Counter(
            "trellic_bytes", "Bytes of bodies", ("direction",), registry=self.registry
        )
        self._batches = Histogram(
            "trellic_batch_pictures",
            "Pictures of a batch on a GPU",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self._ready = Gauge(
            "trellic_ready", "1 when engines are warm and it does not stop", registry=self.registry
        )

    def watch(self, pool: Pool) -> None:
        """Show a pool's queue; autoscaling uses the first two numbers."""
        for name, words, read in (
            ("trellic_queue_waiting", "Calls that wait", lambda: pool.waiting),
            ("trellic_queue_share", "Calls, of those that fit", lambda: share(pool)),
            ("trellic_workers", "Calls at once", lambda: pool.workers),
        ):
            Gauge(name, words, registry=self.registry).set_function(read)

    def ready(self, now: bool) -> None:
        """Note whether the service takes calls."""
        self._ready.set(now)

    def batch(self, count: int) -> None:
        """Note the pictures of a batch."""
        self._batches.observe(count)

    def error(self, kind: str) -> None:
        """Note a request that was refused."""
        self._errors.labels(kind).inc()

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Note the seconds of a call's stages."""
        for name, value in seconds.items():
            self._stages.labels(name).observe(value)

    def request(self, route: str, status: int, seconds: float, read: int, sent: int) -> None:
        """Note a request that was answered; ``read`` and ``sent`` in bytes."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._bytes.labels("in").inc(read)
        self._bytes.labels("out").inc(sent)

    def text(self) -> bytes:
        """Write all in Prometheus' text format."""
        return generate_latest(self.registry)


def share(pool: Pool) -> float:
    """Return which part of a pool's places is taken."""
    return pool.admitted / (pool.workers + pool.queue)
