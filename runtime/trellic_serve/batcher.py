"""Dynamic batching for a GPU: pictures that arrive within a few milliseconds form a batch."""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class _Job(NamedTuple, Generic[K, I, O]):
    key: K
    item: I
    done: Future[O]


class Batcher(Generic[K, I, O]):
    """One thread that collects items, and codes those of one key together.

    Parameters
    ----------
    code : from a key and items to as many results
    window : seconds to wait for more after the first item
    most : items of a batch
    seen : called with the number of items of each batch
    """

    def __init__(
        self,
        code: Callable[[K, Sequence[I]], Sequence[O]],
        window: float,
        most: int,
        seen: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._code, self._window, self._most, self._seen = code, window, most, seen
        self._jobs: queue.SimpleQueue[_Job[K, I, O] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="batches", daemon=True)
        self._thread.start()

    def __call__(self, key: K, item: I) -> O:
        """Code one item, with others of its key; the calling thread waits.

        Raises
        ------
        TrellicError
            The error of this item; the other items of its batch do not fail with it.
        """
        job: _Job[K, I, O] = _Job(key, item, Future())
        self._jobs.put(job)
        return job.done.result()

    def close(self) -> None:
        """End the thread after the work that it has."""
        self._jobs.put(None)
        self._thread.join()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs, last = self._collect(job)
            by_key: defaultdict[K, list[_Job[K, I, O]]] = defaultdict(list)
            for one in jobs:
                by_key[one.key].append(one)
            for key, group in by_key.items():
                self._run(key, group)
            if last:
                return

    def _collect(self, first: _Job[K, I, O]) -> tuple[list[_Job[K, I, O]], bool]:
        """Wait for more jobs; say whether the last one has come."""
        jobs, until = [first], time.monotonic() + self._window
        while len(jobs) < self._most:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _run(self, key: K, group: list[_Job[K, I, O]]) -> None:
        self._seen(len(group))
        try:
            results = self._code(key, [job.item for job in group])
        except Exception as error:
            if len(group) == 1:
                group[0].done.set_exception(error)
                return
            for job in group:  # coded alone, each shows whether it failed
                self._run(key, [job])
            return
        for job, result in zip(group, results, strict=True):
            job.done.set_result(result)
