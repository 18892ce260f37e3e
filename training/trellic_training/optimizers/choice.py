"""Optimizers by name; SOAP is the default (measured for codecs in arXiv 2601.20769)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from trellic_training.optimizers.soap import Soap


def make_optimizer(model: nn.Module, name: str, learning_rate: float) -> torch.optim.Optimizer:
    """Optimizer over all parameters of a model; its groups may have rates of their own.

    Parameters
    ----------
    name : "adamw", "soap" or "muon"

    Raises
    ------
    ValueError
        For any other name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: use one of {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]([p for p in model.parameters() if p.requires_grad], learning_rate)


def _adamw(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, learning_rate, betas=(0.9, 0.98), weight_decay=0.0)


def _soap(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    return Soap(parameters, learning_rate)


def _muon(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import Muon

    matrices = [p for p in parameters if p.ndim >= 2 and p.shape[1] > 1]
    rest = [p for p in parameters if not (p.ndim >= 2 and p.shape[1] > 1)]
    optimizer: torch.optim.Optimizer = Muon(
        [
            {"params": matrices, "use_muon": True, "lr": learning_rate},
            {"params": rest, "use_muon": False, "lr": learning_rate * 0.1},
        ]
    )
    return optimizer


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "soap": _soap,
    "muon": _muon,
}
