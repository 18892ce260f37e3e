"""Constants on a device, sent there once, because sending waits for all earlier work."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

Numbers = tuple[Any, ...]  # nested tuples of numbers


def constant(values: Numbers, like: Tensor) -> Tensor:
    """Return numbers as a tensor of another one's kind and device, which must not be changed."""
    return _constant(values, like.device, like.dtype)


@cache
def _constant(values: Numbers, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(mode=False):  # else it could not take part in training
        return torch.tensor(values, device=device, dtype=dtype)
