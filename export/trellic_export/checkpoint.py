"""Checkpoints of the training package, read for export."""

from __future__ import annotations

from pathlib import Path
from pickle import PickleError
from typing import Any

import torch

from trellic.errors import BadParameter
from trellic_training.models.photo import PhotoModel
from trellic_training.weights import load_weights


def load_model(path: Path) -> tuple[PhotoModel, dict[str, Any]]:
    """Read the averaged weights of a checkpoint.

    Returns
    -------
    model : in evaluation mode, float32, no gradients
    facts : what the checkpoint says of its training (recipe, steps, minutes, machine)

    Raises
    ------
    BadParameter
        When the file is no checkpoint of ours.
    """
    try:
        model, facts = load_weights(path)
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, PickleError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadParameter(f"{path} is no Trellic checkpoint ({what})") from error
    model.eval().requires_grad_(requires_grad=False)
    return model.to(torch.float32), facts
