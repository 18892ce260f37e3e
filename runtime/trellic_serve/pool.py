"""The bounded queue: a limited number of calls that run in threads, and of calls that wait.

A call is admitted before its body is read, so that bodies in memory are bounded too.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from trellic.errors import DeadlineExceeded
from trellic.support.bounds import Limits, limited
from trellic_serve.errors import Busy

T = TypeVar("T")
GRACE = 2.0  # seconds that a call gets to notice its deadline
_UNLIMITED = Limits()
_SMOOTH = 0.1  # weight of the newest call in the mean of their seconds


class Gone(Exception):
    """The client has closed its connection."""


class Ticket:
    """Permission to run one call.

    Attributes
    ----------
    started : time.monotonic() of its admission
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self.started = time.monotonic()
        self._release = release
        self._future: Future[Any] | None = None

    def hold(self, future: Future[Any]) -> None:
        """Keep the place until a call has ended, whatever its client does."""
        self._future = future

    def close(self) -> None:
        """Return the place, now or when the call has ended."""
        if self._future is None:
            self._release()
        else:
            self._future.add_done_callback(lambda _: self._release())


class Pool:
    """Threads for the codecs' work, and a queue before them.

    Parameters
    ----------
    workers : calls at once
    queue : calls that may wait
    deadline : seconds of a call, with waiting
    limits : pixels and memory of a call, whatever it does: reading files, coding
    """

    def __init__(
        self, workers: int, queue: int, deadline: float, limits: Limits = _UNLIMITED
    ) -> None:
        self.workers, self.queue, self.deadline, self._limits = workers, queue, deadline, limits
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="coding")
        self._lock = threading.Lock()
        self._admitted = 0
        self._running = 0
        self._seconds = 0.1  # of a call, smoothed

    @property
    def admitted(self) -> int:
        """Calls that run or wait."""
        return self._admitted

    @property
    def waiting(self) -> int:
        """Calls that are admitted but do not run yet."""
        return max(0, self._admitted - self._running)

    @contextlib.asynccontextmanager
    async def admit(self) -> AsyncIterator[Ticket]:
        """Take a place in the queue.

        Raises
        ------
        Busy
            When it is full.
        """
        with self._lock:
            if self._admitted >= self.workers + self.queue:
                raise Busy(
                    f"{self.workers} calls run and {self.queue} wait: the queue is full",
                    max(1, math.ceil(self._seconds * self.queue / self.workers)),
                )
            self._admitted += 1
        ticket = Ticket(self._leave)
        try:
            yield ticket
        finally:
            ticket.close()

    async def run(
        self, ticket: Ticket, function: Callable[[], T], gone: Awaitable[object] | None = None
    ) -> T:
        """Run a call in a thread, in the time that is left until its deadline.

        Parameters
        ----------
        ticket : from `admit`
        function : the work
        gone : ends when the client has gone, and the call is cancelled then

        Raises
        ------
        DeadlineExceeded
            When it is not done in time.
        Gone
            When the client has gone.
        """
        cancelled = threading.Event()
        future = self._threads.submit(self._work, ticket, function, cancelled)
        ticket.hold(future)
        done = asyncio.wrap_future(future)
        watch = asyncio.ensure_future(gone or asyncio.get_running_loop().create_future())
        left = self.deadline + GRACE - (time.monotonic() - ticket.started)
        try:
            await asyncio.wait({done, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return done.result()
            if watch.done():
                raise Gone
            raise self._late()
        finally:
            watch.cancel()
            if not done.done():
                cancelled.set()
                future.cancel()
                done.add_done_callback(_forget)

    def close(self) -> None:
        """Let running calls end, and accept no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self, ticket: Ticket, function: Callable[[], T], cancelled: threading.Event) -> T:
        start = time.monotonic()
        left = self.deadline - (start - ticket.started)
        if left <= 0:
            raise self._late()
        with self._lock:
            self._running += 1
        try:
            with limited(replace(self._limits, deadline=left, cancel=cancelled.is_set)):
                return function()
        finally:
            with self._lock:
                self._running -= 1
                self._seconds += _SMOOTH * (time.monotonic() - start - self._seconds)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"not done after {self.deadline:g} s, waiting included")

    def _leave(self) -> None:
        with self._lock:
            self._admitted -= 1


def _forget(done: asyncio.Future[T]) -> None:
    """Read the error of a call that nobody waits for, so that asyncio does not complain."""
    if not done.cancelled():
        done.exception()
