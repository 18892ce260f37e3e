"""Times of stages."""

from __future__ import annotations

import time


class Clock:
    """Wall time of each stage.

    Encoding: "prepare", "g_a", "h_a", "networks" (integer h_s and contexts), "search", "rans",
    "file". Decoding: "file", "rans", "networks", "latents" (from integers to floats), "g_s". Colour
    has no separate stage, because bytes become floats inside the graphs of g_a and g_s.
    """

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now
