"""Checkpoints of the training package, and of others, read for export."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trellic.errors import BadParameter
from trellic.geometry import Plane
from trellic_export.bundle import centres
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pictures import Pixels
from trellic_training.models.compressai import ARCHITECTURES, from_compressai, read_state
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import load_weights


def load_model(path: Path) -> tuple[PhotoModel, dict[str, Any]]:
    """Read the averaged weights of a checkpoint.

    Returns
    -------
    model : in evaluation mode, float32, no gradients
    facts : what the checkpoint says about its training (recipe, steps, minutes, machine)

    Raises
    ------
    BadParameter
        When the file is not a checkpoint of Trellic.
    """
    model, facts = load_weights(path)
    model.eval().requires_grad_(requires_grad=False)
    return model.to(torch.float32), facts


def import_model(
    source: str, checkpoint: Path, pack: PackedPhotos, count: int
) -> tuple[PhotoModel, dict[str, Any]]:
    """Read a model of another project.

    Parameters
    ----------
    source : "compressai:" and the name of one of CompressAI's architectures
    checkpoint : its weights
    pack, count : photos that the entropy networks are quantized for, and how many of them

    Returns
    -------
    model : in evaluation mode, no gradients
    facts : where it comes from

    Raises
    ------
    BadParameter
        When the source is unknown, or the checkpoint is not such a model.
    """
    architecture = next((a for a in ARCHITECTURES if source == f"compressai:{a}"), None)
    if architecture is None:
        known = ", ".join(f"compressai:{a}" for a in ARCHITECTURES)
        raise BadParameter(f"--from {source!r}", expected=f"one of {known}")
    state = read_state(checkpoint)
    pictures = [_padded(pixels) for pixels in centres(pack, count)]
    model = from_compressai(architecture, state, pictures)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return model, {"imported_from": source, "checkpoint_sha256": digest}


def _padded(pixels: Pixels) -> torch.Tensor:
    height, width = Plane(pixels.shape[1], pixels.shape[0]).padded
    missing = (0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)
    whole = np.pad(pixels, missing, "edge")
    return torch.from_numpy(whole)[None].permute(0, 3, 1, 2).float() / 255 - 0.5
