"""Attention of latents to their neighbours, in the free transforms.

::

    x --> query, key, value (1x1) --> softmax over 3 x 3 positions, some apart --> 1x1 --> + x

Every position attends to the nine around it, itself among them, ``dilation`` positions apart
(neighbourhood attention: Hassani et al. 2023; dilated: Hassani and Shi 2022). There is no grid of
windows, so what a position computes does not depend on where a tile begins. Beyond the edge of a
picture keys and values are 0, as a convolution has them.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 32  # channels of one head's values; its queries and keys have half as many
SIDE = 3  # positions along one side of a neighbourhood


class NeighbourAttention(nn.Module):
    """One layer of attention to neighbours, added to its input.

    Parameters
    ----------
    channels : a multiple of 32, or fewer for one head
    dilation : positions between two neighbours; also how far the layer reaches
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.heads = max(1, channels // HEAD)
        self.dilation = dilation
        self.query = nn.Conv2d(channels, channels // 2, 1)
        self.key = nn.Conv2d(channels, channels // 2, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)
        self.place = nn.Parameter(torch.zeros(SIDE * SIDE, self.heads))  # added to the products
        with torch.no_grad():
            self.query.weight.mul_((2 * self.heads / channels) ** 0.5)
        nn.init.normal_(self.project.weight, std=0.2 * channels**-0.5)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, h, w) to the same shape."""
        query = self._by_head(self.query(x))
        key, value = (self._neighbours(layer(x)) for layer in (self.key, self.value))
        products = torch.stack([(query * self._by_head(near)).sum(2) for near in key])
        weight = (products.float() + self.place[:, None, :, None, None]).softmax(0)
        seen = [w[:, :, None] * self._by_head(v) for w, v in zip(weight, value, strict=True)]
        mixed: Tensor = x + self.project(torch.stack(seen).sum(0).flatten(1, 2))
        return mixed

    def offsets(self) -> Iterator[tuple[int, int]]:
        """First row and column of each neighbour's plane within the padded one."""
        for i in range(SIDE * SIDE):
            yield self.dilation * (i // SIDE), self.dilation * (i % SIDE)

    def _neighbours(self, x: Tensor) -> Iterator[Tensor]:
        height, width = x.shape[2:]
        padded = functional.pad(x, [self.dilation] * 4)
        for top, left in self.offsets():
            yield padded[:, :, top : top + height, left : left + width]

    def _by_head(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (self.heads, -1))

    @torch.no_grad()
    def pass_on(self) -> None:
        """Become the identity, until training changes that."""
        for value in self.project.parameters():
            value.zero_()
