"""The runtime's own quantizer inside the training loop.

The coder that writes files (`trellic.latents.encoder`) quantizes latents of the current model:
same order of context steps, same integer networks, scale indices, search and tables. Its integer
networks are the model's own layers, whose float32 arithmetic is exact, and their inputs are kept,
so that the pass with gradients starts from the very integers that the coder saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic.entropy.tables import Tables
from trellic.geometry import Plane
from trellic.latents.encoder import NOT_CODED, LatentEncoder, Observer
from trellic.latents.quantizer import Quantizer
from trellic.limits import STEP32
from trellic.model.quality import GAIN_BITS, Level, LevelTables
from trellic_training.losses.pmf import SymbolRates
from trellic_training.losses.rates import SIGMA_MIN, bits, scale_ratio
from trellic_training.models.integers import level_tables, widened
from trellic_training.models.photo import PhotoModel

Float32 = npt.NDArray[np.float32]
GAIN_UNIT = float(2**GAIN_BITS)


def sigmas_of(scales: int) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each scale index, in steps: (scales,)."""
    return (SIGMA_MIN * scale_ratio(scales) ** np.arange(scales)).astype(np.float64)


class _Network:
    """A module in the place of an integer network; it keeps its last input."""

    def __init__(self, module: Callable[[Tensor], object], reach: int = 0) -> None:
        self.module, self.reach = module, reach
        self.seen = np.empty(0, np.float32)

    def __call__(self, x: Float32) -> list[npt.NDArray[np.floating]]:
        self.seen = x
        with torch.no_grad():
            result = self.module(torch.from_numpy(x)[None])
        results = result if isinstance(result, tuple) else (result,)
        return [each[0].numpy() for each in results]


@dataclass
class QuantizedBatch:
    """Quantized latents of several crops, and what the integer networks saw; all on one device.

    Attributes
    ----------
    y : (N, C, h, w), latents in steps, before quantization
    y_hat : (N, C, h, w), reconstructed, in steps
    gain : (N, C, 1, 1), steps per unit of a latent
    shift : (N, C, 1, 1), added to the scale output, in 1/128 scale index
    k, cls : int64 (N, C, h, w), indices and quantizers, `NOT_CODED` where skipped
    hyper_input : (N, Cz + 1, h / cell, w / cell), integers that h_s saw
    contexts : for each step (N, context, h, w), integers that its network saw beside the features
    quality : (N,), as the float transforms see it, with the trellis's offset
    """

    y: Tensor
    y_hat: Tensor
    gain: Tensor
    shift: Tensor
    k: Tensor
    cls: Tensor
    hyper_input: Tensor
    contexts: list[Tensor]
    quality: Tensor


class LoopQuantizer:
    """Quantizes with a model's current weights and keeps its tables.

    Parameters
    ----------
    model : its encoder and gains must not change while this is used
    tables : to start from
    skip_index : latents with a smaller scale index are not coded
    widening : of `trellic_training.models.integers.widened`

    Attributes
    ----------
    levels : as files have them, widened
    """

    def __init__(
        self, model: PhotoModel, tables: Tables, skip_index: int, widening: int = 0
    ) -> None:
        self.model = model
        self._narrow = level_tables(model)
        self.levels: LevelTables = widened(self._narrow, widening)
        self._networks = {"h_s": _Network(model.h_s, reach=_reach(model.h_s))}
        for k, context in enumerate(model.contexts):
            self._networks[f"context_{k}"] = _Network(context)
        self._layout = model.config.layout(skip_index)
        self._sigmas = sigmas_of(model.config.scales)
        self.use(tables)

    def use(self, tables: Tables) -> None:
        """Quantize with these tables from now on."""
        self.tables = tables
        self.rates = SymbolRates(tables, self._sigmas)
        self.coder = LatentEncoder(self._layout, tables, self._networks)  # type: ignore[arg-type]

    @torch.no_grad()
    def __call__(
        self,
        x: Tensor,
        quality: Tensor,
        quantizer: Quantizer,
        observe: Observer | None = None,
    ) -> QuantizedBatch:
        """Quantize crops.

        Parameters
        ----------
        x : (N, 3, H, W) in [-1/2, 1/2], sides multiples of the hyper-stride, up to one slice
        quality : (N,), rounded to 1/16
        observe : as in `LatentEncoder.encode`; scales are not widened then, since tables are fitted
            to scales as they are predicted
        """
        tables = self.levels if observe is None else self._narrow
        levels = [tables.at(round(16 * q), quantizer.states) for q in quality.tolist()]
        seen = torch.tensor([level.quality for level in levels])
        f = self.model.g_a(x, seen)
        h = self.model.h_a(f).numpy()
        plane = self._layout.plane(x.shape[3], x.shape[2])
        rows = []
        for i, level in enumerate(levels):
            rows.append(self._one(f[i].numpy(), h[i], plane, level, quantizer, observe))
        columns = [torch.stack(column) for column in zip(*rows, strict=True)]
        y_hat, k, cls, gain, shift, hyper_input, *contexts = columns
        return QuantizedBatch(
            f * gain, y_hat, gain, shift, k, cls, hyper_input, contexts, quality=seen
        )

    def _one(
        self,
        f: Float32,
        h: Float32,
        plane: Plane,
        level: Level,
        quantizer: Quantizer,
        observe: Observer | None,
    ) -> list[Tensor]:
        done = self.coder.quantize(f, h, plane, level, quantizer, observe=observe)
        contexts = []
        for k, step in enumerate(self._layout.steps):
            seen = self._networks[f"context_{k}"].seen
            contexts.append(torch.from_numpy(seen[len(seen) - step.context :]))
        return [
            torch.from_numpy(done.v32).float() / STEP32,
            torch.from_numpy(done.k).long(),
            torch.from_numpy(done.cls).long(),
            torch.from_numpy(level.gain / GAIN_UNIT).float()[:, None, None],
            torch.from_numpy(level.scale_shift).float()[:, None, None],
            torch.from_numpy(self._networks["h_s"].seen),
            *contexts,
        ]

    def predict(self, batch: QuantizedBatch) -> tuple[Tensor, Tensor]:
        """Mean (in steps) and scale index of every latent, with gradients: (N, C, h, w) each."""
        model = self.model
        features = model.h_s(batch.hyper_input)
        steps = model.step_map(*batch.y.shape[2:])
        means, indices = torch.zeros_like(batch.y), torch.zeros_like(batch.y)
        for k, step in enumerate(model.steps):
            mean, scale = model.contexts[k](torch.cat([features, batch.contexts[k]], 1))
            coded = slice(step.first, step.last)
            mask = (steps[coded] == k).float()
            index = (16 * scale + batch.shift[:, coded]) / 128
            index = index.clamp(0, model.config.scales - 1)
            around = (0, 0, 0, 0, step.first, batch.y.shape[1] - step.last)
            gain = batch.gain[:, coded] * (GAIN_UNIT / (STEP32 << 16))
            means = means + functional.pad(mean * gain * mask, around)
            indices = indices + functional.pad(index * mask, around)
        return means, indices

    def bits(self, batch: QuantizedBatch, mean: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Bits of the latents of each crop, (N,): as coded, and for the gradient.

        The second also charges skipped latents what plain rounding would cost, so that the gradient
        penalises networks that skip too much. The coder does not charge for skipped latents.
        """
        coded = batch.cls != NOT_CODED
        shift = mean - mean.detach()
        cost = torch.zeros_like(mean)
        rate = self.rates(batch.k[coded], batch.cls[coded], index[coded], shift[coded])
        cost = cost.masked_scatter(coded, rate)
        residual = batch.y[~coded] - mean[~coded]
        sigma = self.model.sigma(index[~coded])
        missed = (residual.round() - residual).detach() + residual
        skipped = torch.zeros_like(mean).masked_scatter(~coded, bits(missed, sigma))
        return cost.sum((1, 2, 3)).detach(), (cost + skipped).sum((1, 2, 3))


def latents_for_synthesis(batch: QuantizedBatch, mean: Tensor | None = None) -> Tensor:
    """Return what g_s is given: (N, C, h, w), before the gain.

    With ``mean``, its gradient passes where the reconstruction is the mean itself (index 0 or
    skipped); elsewhere the index follows the latent, whatever the mean.
    """
    y_hat = batch.y_hat
    if mean is not None:
        y_hat = y_hat + (mean - mean.detach()) * (batch.k == 0)
    return y_hat / batch.gain


def _reach(h_s: nn.Module) -> int:
    """Return an upper bound of how far h_s sees around a hyper-latent."""
    return sum(getattr(layer, "kernel", 1) // 2 for layer in h_s.children())
