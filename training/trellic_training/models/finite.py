"""Weights of a run that diverged, which are neither written nor read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trellic.errors import BadParameter


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Check weights that come from a file.

    Raises
    ------
    ValueError
        When a number is infinite or none.
    """
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ValueError("its numbers are not finite")


def check_trained(state: Mapping[str, Tensor], path: Path) -> None:
    """Check weights that are about to be written to a file.

    Raises
    ------
    BadParameter
        When a number is infinite or none.
    """
    try:
        check_finite(state)
    except ValueError as error:
        raise BadParameter(
            f"training has diverged: {path} is not written, because {error}",
            remedy="lower learning_rate in the recipe",
        ) from error
