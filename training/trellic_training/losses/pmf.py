"""Differentiable cost of the symbols that a real quantizer emitted.

The value is exactly what the integer tables charge: ``-log2(freq / 2**15)``. Two slopes go with it.

- Over the scale index it is the difference between the tables of neighbouring indices.
- Over the mean each table is read as a normal distribution cut into cells: the boundaries are set
  so that every cell holds its symbol's frequency, whatever the quantizer (scalar, Q0 or Q1) and
  however the search has moved them. Shifting the distribution by ``delta`` under fixed cells gives
  ``d bits / d delta = (phi(b[k + 1]) - phi(b[k])) / (p[k] sigma ln 2)``, with phi the normal
  density and b the boundaries in standard deviations.

The mean's slope is the score of a maximum-likelihood fit. It is the derivative of a cumulative
distribution, as for the noisy values of Ballé et al. 2018, "Variational image compression with a
scale hyperprior", but the cells come from counts.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trellic.entropy.tables import PRECISION, TOTAL, Tables

Float32 = npt.NDArray[np.float32]


class SymbolRates:
    """Cost of symbols under the tables of a bundle.

    Parameters
    ----------
    tables : frequency tables in use
    sigmas : (S,) standard deviation of each scale index, in steps
    """

    def __init__(self, tables: Tables, sigmas: npt.NDArray[np.float64]) -> None:
        self.scales = tables.scales
        width = tables.half_width.ravel().astype(np.int64)
        self._width = torch.from_numpy(width)
        self._zero = torch.from_numpy(tables.start + width)
        bits = PRECISION - np.log2(tables.freqs.astype(np.float64))
        self._bits = torch.from_numpy(bits.astype(np.float32))
        self._slope = torch.from_numpy(_slopes(tables, sigmas))

    def __call__(self, k: Tensor, cls: Tensor, index: Tensor, shift: Tensor) -> Tensor:
        """Cost of each symbol, in bits.

        Parameters
        ----------
        k : int64 (n,), indices
        cls : int64 (n,), quantizers: 0 scalar, 1 Q0, 2 Q1
        index : (n,), scale index, may lie between two; has a gradient
        shift : (n,), a zero that carries the gradient of the mean, in steps
        """
        at = index.detach()
        low = at.floor().clamp(0, self.scales - 1).long()
        high = (low + 1).clamp(max=self.scales - 1)
        near = torch.where(at - low < 0.5, low, high)
        first = cls * self.scales
        slope = (self._at(k, first + high, shift) - self._at(k, first + low, shift)).detach()
        return self._at(k, first + near, shift) + slope * (index - at)

    def _at(self, k: Tensor, table: Tensor, shift: Tensor) -> Tensor:
        width = self._width[table]
        escaped = k.abs() > width
        place = self._zero[table] + torch.where(escaped, width + 1, k)
        excess = (k.abs() - width).clamp(min=1)
        digits = 2 * (excess.double().log2().floor() + 1)
        cost = self._bits[place] + torch.where(escaped, digits, 0.0).float()
        return cost + self._slope[place] * shift


def _slopes(tables: Tables, sigmas: npt.NDArray[np.float64]) -> Float32:
    """Change of each symbol's bits with the mean, per step; 0 for escapes, which have no sign."""
    normal = NormalDist()
    out = np.zeros(len(tables.freqs), np.float32)
    for t, (start, size) in enumerate(zip(tables.start, tables.sizes, strict=True)):
        p = tables.freqs[start : start + size].astype(np.float64) / TOTAL
        ends = np.cumsum(np.concatenate([[p[-1] / 2], p[:-1]]))  # half of the escapes on each side
        density = np.array([normal.pdf(normal.inv_cdf(end)) for end in ends])
        sigma = sigmas[t % tables.scales] * math.log(2.0)
        out[start : start + size - 1] = np.diff(density) / (p[:-1] * sigma)
    return out
