"""A bundle's graph in PyTorch, with a few numbers that train and change its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trellic.model import weights
from trellic.model.adapter import Part, Place
from trellic.model.weights import Constant, Float32
from trellic_export.torch_graph import TorchGraph

LEAST_BIAS = 16  # numbers of a vector at least to be biases; shorter ones are other constants
SPREAD = 0.1  # standard deviation of A at the beginning; B is 0


def places_of(graph: bytes, rank: int) -> list[Place]:
    """Choose what an adapter changes in a graph: convolutions by a rank, biases in full.

    Depthwise convolutions and tables over quality are left as they are.
    """
    chosen = []
    for name, constant in weights.constants(graph).items():
        shape = constant.shape
        if len(shape) == 1 and shape[0] >= LEAST_BIAS:
            chosen.append(Place(constant=name, rank=0))
        elif len(shape) == 4 and min(shape[0], int(np.prod(shape[1:]))) >= LEAST_BIAS:
            chosen.append(Place(constant=name, rank=rank))
    return chosen


def size_of(graph: bytes, places: list[Place]) -> int:
    """Count the numbers of an adapter of a graph."""
    known = weights.constants(graph)
    return sum(place.size(known[place.constant].shape) for place in places)


class AdaptedGraph(nn.Module):
    """A graph whose weights are those of the bundle plus an adapter's, which are trained.

    Rounding at the end of a decoder is left out, so that gradients pass.

    Parameters
    ----------
    graph : bytes of the ONNX file
    places : what the adapter changes
    """

    def __init__(self, graph: bytes, places: list[Place]) -> None:
        super().__init__()
        self._graph = SmoothGraph(graph)
        self._places = places
        self._shapes = {p.constant: shape(weights.constants(graph), p) for p in places}
        self.first = nn.ParameterDict()
        self.second = nn.ParameterDict()
        for i, place in enumerate(places):
            rows, columns = self._shapes[place.constant]
            if place.rank:
                self.first[str(i)] = nn.Parameter(SPREAD * torch.randn(rows, place.rank))
                self.second[str(i)] = nn.Parameter(torch.zeros(place.rank, columns))
            else:
                self.first[str(i)] = nn.Parameter(torch.zeros(rows, columns))

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the graph, which has one output."""
        return self._graph.changed(inputs, self._changes())

    def changes(self) -> dict[str, Float32]:
        """Return the changes so far, each of its constant's shape, as `weights.add` takes them."""
        known = self._graph.shapes
        return {
            name: change.detach().numpy().reshape(known[name])
            for name, change in self._changes().items()
        }

    def _changes(self) -> dict[str, Tensor]:
        changes = {}
        for i, place in enumerate(self._places):
            change = self.first[str(i)]
            changes[place.constant] = change @ self.second[str(i)] if place.rank else change
        return changes

    def numbers(self) -> np.ndarray[Any, np.dtype[np.float16]]:
        """Return the trained numbers, as an adapter's file holds them."""
        parts = []
        for i, place in enumerate(self._places):
            parts.append(self.first[str(i)])
            if place.rank:
                parts.append(self.second[str(i)])
        flat = torch.cat([part.detach().reshape(-1) for part in parts])
        return flat.numpy().astype(np.float16)

    def part(self, sha256: str) -> Part:
        """Describe the changes; the SHA-256 is that of the graph's file."""
        return Part(sha256=sha256, numbers=len(self.numbers()), places=self._places)


class SmoothGraph(TorchGraph):
    """A graph whose weights can change in each call, without rounding at its end."""

    def __init__(self, graph: bytes) -> None:
        super().__init__(graph)
        self._nodes = [
            (_passed if rounds(name, attributes) else run, inputs, outputs, attributes)
            for name, (run, inputs, outputs, attributes) in zip(
                self.operators, self._nodes, strict=True
            )
        ]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its constants."""
        return {name: tuple(constant.shape) for name, constant in self._constants.items()}

    def changed(self, inputs: Mapping[str, Tensor], changes: Mapping[str, Tensor]) -> Tensor:
        """Run it with changes added to constants: (rows, columns) each, in the order of numbers."""
        kept = self._constants
        own = {
            name: kept[name] + change.reshape(kept[name].shape) for name, change in changes.items()
        }
        self._constants = {**kept, **own}
        try:
            return self({**inputs})[0]
        finally:
            self._constants = kept


def shape(known: Mapping[str, Constant], place: Place) -> tuple[int, int]:
    """Rows (outputs) and columns of a constant."""
    sides = known[place.constant].shape
    return sides[0], int(np.prod(sides[1:]))


def rounds(operator: str, attributes: Mapping[str, Any]) -> bool:
    """Whether an operator rounds to whole numbers."""
    return operator in ("Round", "Floor") or (operator == "Cast" and attributes["to"] == UINT8)


def _passed(_: Any, __: Any, x: Tensor) -> Tensor:
    return x


UINT8 = 2  # TensorProto.DataType
