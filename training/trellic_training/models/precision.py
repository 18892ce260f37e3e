"""The precision of float networks while they train: bfloat16 where that is faster."""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bfloat16", "pays"]

CHANNELS = 64
SIDE = 16
ROUNDS = 3


def bfloat16(kind: str, wanted: bool) -> torch.autocast:
    """Return the context in which convolutions run in bfloat16, if that is wanted and faster.

    Parameters
    ----------
    kind : str
        A torch device's type, "cpu" or "cuda".
    wanted : bool
        What the recipe says (`autocast`).
    """
    return torch.autocast(kind, torch.bfloat16, enabled=wanted and pays(kind))


@cache
def pays(kind: str) -> bool:
    """Whether a convolution in bfloat16 takes less time than in float32, tried once a process.

    A CPU without instructions for it (AVX-512 BF16, AMX) computes it in software: on an AMD EPYC
    with AVX2, a training step took almost six times as long. A GPU is not tried: every GPU that
    torch supports has it, and a trial would compile kernels.
    """
    if kind != "cpu":
        return True
    x = torch.ones(1, CHANNELS, SIDE, SIDE)
    weight = torch.ones(CHANNELS, CHANNELS, 3, 3)
    single = _seconds(lambda: functional.conv2d(x, weight, padding=1))
    x, weight = x.bfloat16(), weight.bfloat16()
    return _seconds(lambda: functional.conv2d(x, weight, padding=1)) < single


def _seconds(compute: Callable[[], Tensor]) -> float:
    taken = []
    with torch.no_grad():
        for _ in range(ROUNDS + 1):
            start = time.perf_counter()
            compute()
            taken.append(time.perf_counter() - start)
    return min(taken[1:])
