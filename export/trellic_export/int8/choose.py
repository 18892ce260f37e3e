"""The choice of the chains of a graph that become 8-bit: measured one by one, taken greedily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trellic.engines import Arrays
from trellic_export.int8.equalize import RECIPES, Recipe, equalize
from trellic_export.int8.flow import Flow
from trellic_export.int8.ranges import Seen, chain_values, observe, ranges
from trellic_export.int8.rewrite import rewrite
from trellic_training.bars import shown

Loss = Callable[[bytes], float]
WORTH = 0.005  # dB that a recipe has to gain if it costs a multiplication


@dataclass(frozen=True)
class Mixed:
    """A graph with a part of its layers in 8 bits.

    Attributes
    ----------
    data : bytes of the ONNX file
    share : of the multiplications of the graph's convolutions that are in 8 bits
    loss : mean PSNR lost on the samples of the choice, in dB
    """

    data: bytes
    share: float
    loss: float


class Chooser:
    """Quantizes chains of one graph.

    Parameters
    ----------
    data : bytes of the graph
    samples : its inputs, to find ranges with
    loss : mean PSNR in dB that another graph in its place loses
    """

    def __init__(self, data: bytes, samples: Sequence[Arrays], loss: Loss) -> None:
        self.data, self.samples, self.loss = data, samples, loss
        self.flow = Flow(data)
        values = {node.output[0] for node in self.flow.convolutions}
        self.seen = observe(data, chain_values(self.flow.chains) | values, samples)

    def mixed(self, recipes: dict[int, Recipe]) -> bytes:
        """Return the graph with some chains in 8 bits."""
        flow, seen = self._equalized(recipes)
        chosen = sorted(recipes)
        return rewrite(flow, chosen, ranges(seen, [flow.chains[i] for i in chosen]))

    def choose(self, budget: float) -> Mixed:
        """Take chains while all of them together lose no more than a budget, in dB.

        Chains that lose least in relation to their work come first.
        """
        alone = self._alone()
        taken: dict[int, Recipe] = {}
        best = Mixed(self.data, 0.0, 0.0)
        order = sorted(alone, key=lambda i: max(alone[i][1], 0) / self._work(i))
        for i in shown(order, "choosing layers for int8"):
            if alone[i][1] > budget:
                continue
            tried = {**taken, i: alone[i][0]}
            data = self.mixed(tried)
            loss = self.loss(data)
            if loss <= budget:
                taken, best = tried, Mixed(data, self._share(tried), loss)
        return best

    def _alone(self) -> dict[int, tuple[Recipe, float]]:
        """Best recipe of each chain, and what it loses alone."""
        everything = [dict.fromkeys(range(len(self.flow.chains)), recipe) for recipe in RECIPES]
        variants = {r: self._equalized(e) for r, e in zip(RECIPES, everything, strict=True)}
        found: dict[int, tuple[Recipe, float]] = {}
        for i in shown(range(len(self.flow.chains)), "layers alone in int8"):
            for recipe, (flow, seen) in variants.items():
                loss = self.loss(rewrite(flow, [i], ranges(seen, [flow.chains[i]])))
                if i not in found or loss < found[i][1] - WORTH * (recipe == "input"):
                    found[i] = recipe, loss
        return found

    def _equalized(self, recipes: dict[int, Recipe]) -> tuple[Flow, dict[str, Seen]]:
        if set(recipes.values()) <= {"plain"}:
            return self.flow, self.seen
        data = equalize(self.data, recipes, self.seen)
        flow = Flow(data)
        values = chain_values(flow.chains[i] for i in recipes)
        return flow, observe(data, values, self.samples)

    def _share(self, chosen: dict[int, Recipe]) -> float:
        total = sum(
            self.flow.weights(node) * self.seen[node.output[0]].positions
            for node in self.flow.convolutions
        )
        return sum(map(self._work, chosen)) / total

    def _work(self, chain: int) -> float:
        """Multiplications of a chain on the samples."""
        layers = self.flow.chains[chain]
        return sum(self.flow.weights(at) * self.seen[at.acc].positions for at in layers)
