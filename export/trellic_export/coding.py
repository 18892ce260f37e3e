"""Latents coded as the encoder of a bundle does, in a training loop.

Gradients pass straight through the quantizer. Means and scale indices count as constants: where
they are the best ones for a latent, the rate does not change with them at first order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trellic.constants import Trellis
from trellic.engines.pool import EnginePool
from trellic.latents.encoder import NOT_CODED, LatentEncoder
from trellic.latents.quantizer import Quantizer
from trellic.limits import SIGMA_FIRST, SIGMA_LAST, STEP32
from trellic.model.bundle import Bundle
from trellic.model.quality import Level
from trellic.quantize.cpu import reconstruct
from trellic_export.torch_graph import TorchGraph

LEAST_BITS = 1e-6  # least probability of a symbol


@dataclass
class Coded:
    """Latents of a batch, quantized.

    Attributes
    ----------
    y_hat : (N, C, h, w), as decoders read them; gradients pass to the latents
    bits : (N,), of all latents
    """

    y_hat: Tensor
    bits: Tensor


class Coding:
    """The quantizer and the integer networks of a bundle, for batches of latents.

    Parameters
    ----------
    bundle : the model
    states : of its trellis
    """

    def __init__(self, bundle: Bundle, states: Trellis) -> None:
        self._bundle, self._states = bundle, states
        self._hyper = TorchGraph(bundle.graph(bundle.manifest.hyper_encoder))
        exact = EnginePool(bundle, "cpu", 1).exact()
        self._latents = LatentEncoder(bundle.manifest.layout, bundle.tables, exact)

    def level(self, quality16: int) -> Level:
        """Gains and tables of a quality."""
        return self._bundle.levels.at(quality16, self._states)

    def __call__(self, f: Tensor, level: Level) -> Coded:
        """Quantize latents as the encoder does.

        Parameters
        ----------
        f : (N, C, h, w), of g_a, before the gain
        level : of the quality of all
        """
        bundle = self._bundle
        layout = bundle.manifest.layout
        plane = layout.plane(f.shape[2] * layout.stride, f.shape[3] * layout.stride)
        lam = bundle.manifest.search["trellis" if self._states else "scalar"].lam
        quantizer = Quantizer(self._states, lam)
        with torch.no_grad():
            h = self._hyper({"latents": f})[0].numpy()
        planes = f.detach().numpy()
        made = [
            self._latents.quantize(np.ascontiguousarray(one), beside, plane, level, quantizer)
            for one, beside in zip(planes, h, strict=True)
        ]
        v32 = np.stack([one.v32 for one in made])
        is_coded = np.stack([one.cls for one in made]) != NOT_CODED
        index = np.stack([one.scale_index for one in made])
        cls, k = np.stack([one.cls for one in made]), np.stack([one.k for one in made])
        recon = reconstruct(k[is_coded], cls[is_coded], index[is_coded], bundle.tables)
        mean = np.zeros(v32.shape, np.float32)
        mean[is_coded] = (v32[is_coded] - recon) / STEP32
        gain = torch.from_numpy(level.gain_float[:, None, None])
        coded = torch.from_numpy(is_coded)
        sigma = torch.from_numpy(deviations(layout.scales)[index])
        y = f * gain
        bits = gaussian_bits(y - torch.from_numpy(mean), sigma) * coded
        real = torch.from_numpy(v32.astype(np.float32) / STEP32)
        passed = torch.where(coded, y - y.detach(), 0.0)
        return Coded((real + passed) / gain, bits.sum((1, 2, 3)))


def deviations(scales: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the standard deviation, in steps, that each scale index stands for."""
    return np.geomspace(SIGMA_FIRST, SIGMA_LAST, scales).astype(np.float32)


def gaussian_bits(t: Tensor, sigma: Tensor) -> Tensor:
    """Bits of Gaussian values in cells one step wide, with noise in place of rounding."""
    noisy = t + torch.rand_like(t) - 0.5
    root = sigma * math.sqrt(2)
    upper, lower = torch.erf((noisy + 0.5) / root), torch.erf((noisy - 0.5) / root)
    return -((upper - lower) / 2).clamp_min(LEAST_BITS).log2()
