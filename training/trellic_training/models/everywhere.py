"""Attention to all positions of a picture, for the hyper-analysis.

::

    x --> query, key: exp --> sum over positions of key x value, read by each query --> 1x1 --> + x

Weights are products of positive features of query and key (linear attention, Katharopoulos et al.
2020). So the sum over positions is the same for all queries, and time and memory grow with the
number of positions, not with its square: a picture of 2^28 pixels has 65,536 positions at 1/64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEAD = 16  # channels of one head's values; its queries and keys have half as many
LIMIT = 3.0  # of the logarithm of a feature: in float16 no sum of products overflows


class GlobalAttention(nn.Module):
    """One layer of attention to all positions, added to its input.

    It attends with half of the channels. What it computes depends on the whole picture, so a
    network with it has no halo, and runs in one piece.

    Parameters
    ----------
    channels : a multiple of 32, or a multiple of 4 below that for one head
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.heads = max(1, inner // HEAD)
        self.query = nn.Conv2d(channels, inner // 2, 1)
        self.key = nn.Conv2d(channels, inner // 2, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        nn.init.normal_(self.project.weight, std=0.2 * inner**-0.5)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        query, key = (self._features(layer(x)) for layer in (self.query, self.key))
        value = self._by_head(self.value(x).float())
        summary = torch.einsum("nakp,navp->nakv", key, value) / key.shape[3]
        weight = torch.einsum("nakp,nak->nap", query, key.mean(3))
        seen = torch.einsum("nakp,nakv->navp", query, summary) / weight[:, :, None]
        mixed: Tensor = x + self.project(torch.unflatten(seen.flatten(1, 2), 2, x.shape[2:]))
        return mixed

    def _features(self, x: Tensor) -> Tensor:
        return self._by_head(x.float().clamp(-LIMIT, LIMIT).exp())

    def _by_head(self, x: Tensor) -> Tensor:
        return torch.unflatten(x.flatten(2), 1, (self.heads, -1))

    @torch.no_grad()
    def pass_on(self) -> None:
        """Become the identity, until training changes that."""
        for value in self.project.parameters():
            value.zero_()
