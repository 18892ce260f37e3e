"""Gradients of bounded length, without asking the device for a number."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Shorten all gradients together to a norm; where one is not finite, all become 0.

    What `torch.nn.utils.clip_grad_norm_` does, but a step that is spoilt then moves nothing but by
    the momentum of the steps before, and nobody waits for the norm.

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
