"""Decodes as CUDA graphs: captured once for each layout, replayed for later files of that layout.

A graph holds the copy of a batch from pinned memory, all kernels and all networks, with their sizes
and the addresses that they read and write. So a layout is all that decides these, and a graph is of
no use any more when memory of the device has moved (`Device.moved`).
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from trellic.errors import TrellicWarning
from trellic.gpu.device import Device
from trellic.gpu.given import Filled

MOST: Final = 4  # graphs that are kept, those of the layouts used last
MOST_SEEN: Final = 64  # layouts that are remembered without a graph

T = TypeVar("T")
Replay = Callable[[], None]
Capture = Callable[[Callable[[], None]], Replay]  # work of the device's stream, not done but noted


class Replays(Generic[T]):
    """Work on a device that is launched the first time, captured the second, and then replayed.

    The first time chooses algorithms and takes memory, which cannot be captured. Graphs have no
    memory of their own on the device but what networks need while they run, which is one pool for
    all of them. If a capture fails, there is one warning, and all work is launched from then on.

    Parameters
    ----------
    device
    capture : turns work into what replays it
    most : graphs that are kept
    """

    def __init__(self, device: Device, capture: Capture, most: int = MOST) -> None:
        self._device, self._most = device, most
        self._capture: Capture | None = capture
        self._kept: OrderedDict[Hashable, tuple[Replay, T]] = OrderedDict()
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._moved = device.moved

    @property
    def works(self) -> bool:
        """Whether no capture has failed."""
        return self._capture is not None

    def run(self, layout: Hashable, filled: Filled, work: Callable[[], T]) -> T:
        """Do work, and return what it returns: arrays on the device, where work like it has them.

        Parameters
        ----------
        layout : the same for work that differs in nothing but what was filled in
        filled : what the work sends to the device, and all that it sends
        work : launches, copies and networks; it must not wait
        """
        capture = self._capture
        if capture is None or self._device.marks is not None:  # stages are timed launch by launch
            return work()
        self._forget_moved()
        if layout in self._kept:
            self._kept.move_to_end(layout)
        elif layout not in self._seen:
            result = work()
            self._forget_moved()
            self._seen[layout] = None
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
            return result
        elif not self._keep(layout, capture, work):
            return work()
        replay, result = self._kept[layout]
        replay()
        self._device.sent(filled)
        return result

    def _keep(self, layout: Hashable, capture: Capture, work: Callable[[], T]) -> bool:
        """Capture work; return whether that succeeded."""
        results: list[T] = []
        try:
            with self._device.captured():
                replay = capture(lambda: results.append(work()))
        except Exception as error:  # of whatever library: none of them is needed
            self._capture = None
            self._kept.clear()
            warnings.warn(
                f"a decode cannot be captured as one CUDA graph ({error}); it is launched in parts",
                TrellicWarning,
                stacklevel=2,
            )
            return False
        del self._seen[layout]
        self._kept[layout] = replay, results[-1]
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return True

    def _forget_moved(self) -> None:
        """Drop all graphs if memory has moved that one of them may use."""
        if self._moved != self._device.moved:
            self._kept.clear()
            self._seen.clear()
            self._moved = self._device.moved
