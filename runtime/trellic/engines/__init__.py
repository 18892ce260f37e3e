"""Engines that run the graphs of a bundle, and their common protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """One graph, loaded and ready. Safe to call from several threads."""

    def __call__(self, inputs: Arrays) -> list[npt.NDArray[Any]]:
        """Run the graph on named arrays; returns its outputs in graph order.

        The graph gets only the arrays that it has inputs for: "quality" is always given, but not
        every network sees it.

        Raises
        ------
        EngineError
            When it cannot; an engine raises no other exception.
        """
