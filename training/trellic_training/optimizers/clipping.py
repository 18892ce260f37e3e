"""Clipping of gradients that does not wait for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Shorten all gradients together to a norm; if one is not finite, all become 0.

    It does what `torch.nn.utils.clip_grad_norm_` does, but does not wait for the norm. A step
    whose gradients are not finite moves the weights only by the momentum of earlier steps.

    Returns
    -------
    The norm before, a scalar on the device.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    norm: Tensor = torch.linalg.vector_norm(flat)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    flat = torch.where(norm.isfinite(), flat * factor, torch.zeros_like(norm))
    parts = torch.split(flat, [each.numel() for each in gradients])
    pairs = zip(parts, gradients, strict=True)
    torch._foreach_copy_(gradients, [part.view(each.shape) for part, each in pairs])
    return norm
