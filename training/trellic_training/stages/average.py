"""The running average of a model's weights, which is the result of a training run."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

AnyModel = TypeVar("AnyModel", bound=nn.Module)
COUNT = "n_averaged"  # its name in a state


class RunningAverage(nn.Module, Generic[AnyModel]):
    """Exponential average whose memory grows with the run, so that it forgets its start.

    All tensors move in one operation, and reading the number of steps does not wait for the device.

    Parameters
    ----------
    model : where it starts
    decay : share of the average that stays, at most
    """

    def __init__(self, model: AnyModel, decay: float) -> None:
        super().__init__()
        self.module: AnyModel = copy.deepcopy(model)
        self.module.requires_grad_(False)
        self.decay = decay
        self.count = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the trained parameters towards a model's; the first time, copy them."""
        pairs = zip(self.module.parameters(), model.parameters(), strict=True)
        moved = [(mean, p) for mean, p in pairs if p.requires_grad]
        weight = 1 - self.keeps(self.count) if self.count else 1.0
        means: list[Tensor] = [mean for mean, _ in moved]
        current: list[Tensor] = [p for _, p in moved]
        torch._foreach_lerp_(means, current, weight)
        self.count += 1

    def keeps(self, count: int) -> float:
        """Return the share of the average that stays after so many steps."""
        return min(self.decay, (1 + count) / (10 + count))

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + COUNT] = torch.tensor(self.count)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        self.count = int(state_dict.pop(prefix + COUNT))
        super()._load_from_state_dict(state_dict, prefix, *rest)
