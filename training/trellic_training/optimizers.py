"""Optimizers by name; SOAP is the default (measured for codecs in arXiv 2601.20769)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


def make_optimizer(model: nn.Module, name: str, learning_rate: float) -> torch.optim.Optimizer:
    """Optimizer over all parameters of a model.

    Parameters
    ----------
    name : "adamw", "soap" or "muon"

    Raises
    ------
    ValueError
        For any other name.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "adamw":
        return torch.optim.AdamW(parameters, learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    if name == "soap":
        return _soap(parameters, learning_rate)
    if name == "muon":
        return _muon(parameters, learning_rate)
    raise ValueError(f"unknown optimizer {name!r}: use adamw, soap or muon")


def _soap(parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    from pytorch_optimizer import SOAP

    optimizer: torch.optim.Optimizer = SOAP(
        parameters,
        lr=learning_rate,
        betas=(0.95, 0.95),
        weight_decay=0.0,
        precondition_frequency=10,
        max_precondition_dim=1024,
    )
    return optimizer


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
