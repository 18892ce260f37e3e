"""Run one bundle through every engine and count the integers that differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from trellic.model.bundle import Bundle

from .engines import Evaluate, Integers, Variant
from .inputs import round_of


@dataclass
class Tally:
    """What one engine did.

    Attributes
    ----------
    name : of the engine
    exact : whether it must not differ
    integers : outputs that were compared, among them ``scale_indices``
    different : of them
    largest : difference
    """

    name: str
    exact: bool
    integers: int = 0
    scale_indices: int = 0
    different: int = 0
    largest: float = 0.0

    def add(self, seen: Sequence[Integers], expected: Sequence[Integers], scales: int) -> None:
        """Compare the outputs of one network, which hold so many scale indices."""
        if [y.shape for y in seen] != [y.shape for y in expected]:
            raise ValueError(f"{self.name} gives {[y.shape for y in seen]}")
        for a, b in zip(seen, expected, strict=True):
            off = np.asarray(a, np.float64) - b
            self.integers += off.size
            self.different += int(np.count_nonzero(off))  # nan counts
            worst = float(np.nan_to_num(np.abs(off), nan=np.inf).max())
            self.largest = max(self.largest, worst)
        self.scale_indices += scales


@dataclass
class Comparison:
    """All engines on one bundle."""

    bundle: Bundle
    variants: Sequence[Variant]
    tallies: list[Tally] = field(init=False)
    _engines: dict[str, list[Evaluate]] = field(init=False)

    def __post_init__(self) -> None:
        """Load every engine for every network."""
        self.tallies = [Tally(v.name, v.exact) for v in self.variants]
        exact = self.bundle.manifest.exact
        self._engines = {
            name: [v.load(network, self.bundle.graph(exact[name])) for v in self.variants]
            for name, network in self.bundle.networks.items()
        }

    @property
    def scale_indices(self) -> int:
        """Scale indices that every engine has computed."""
        return min(tally.scale_indices for tally in self.tallies)

    @property
    def wrong(self) -> list[Tally]:
        """Engines that had to be exact and were not."""
        return [tally for tally in self.tallies if tally.exact and tally.different]

    def run(self, indices: int, small: int = 1) -> Iterator[int]:
        """Compare until so many scale indices are through; yields those of each round."""
        number = 0
        while self.scale_indices < indices:
            before = self.scale_indices
            self.round(number, small)
            number += 1
            yield self.scale_indices - before

    def round(self, number: int, small: int = 1) -> None:
        """Compare on the inputs of one round; the first engine judges the others."""
        for name, x in round_of(self.bundle.networks, number, small).items():
            expected: list[Integers] = []
            for engine, tally in zip(self._engines[name], self.tallies, strict=True):
                seen = engine(x)
                expected = expected or seen
                tally.add(seen, expected, self._scales(name, expected[-1]))

    def _scales(self, name: str, output: Integers) -> int:
        """Count the scale indices that the last output of a network selects."""
        if name != "h_s":
            return output.size
        alone = len(self.bundle.networks) == 1  # without contexts, h_s itself predicts
        return self.bundle.manifest.layout.latents * output[0].size if alone else 0
