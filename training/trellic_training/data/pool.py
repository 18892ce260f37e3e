"""Quantized crops that are used several times, because quantizing takes longer than a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]


class Pool:
    """Samples, each a dict of tensors, used several times before newer ones replace them."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size, self.rng = size, rng
        self.samples: list[Batch] = []
        self.next = 0

    def holds(self, batch: Batch) -> bool:
        """Whether it holds samples of the same shapes."""
        return bool(self.samples) and all(
            self.samples[0][name].shape == values.shape[1:] for name, values in batch.items()
        )

    def add(self, batch: Batch) -> None:
        """Add samples; samples of other shapes replace all older ones."""
        if not self.holds(batch):
            self.samples, self.next = [], 0
        for row in zip(*batch.values(), strict=True):
            sample = {name: value.clone() for name, value in zip(batch, row, strict=True)}
            if len(self.samples) < self.size:
                self.samples.append(sample)
            else:
                self.samples[self.next % self.size] = sample
            self.next += 1

    def draw(self, count: int) -> Batch:
        """Return a random batch."""
        chosen = [self.samples[i] for i in self.rng.integers(len(self.samples), size=count)]
        return {name: torch.stack([sample[name] for sample in chosen]) for name in chosen[0]}
