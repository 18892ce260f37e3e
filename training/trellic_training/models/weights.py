"""Files of weights: the averaged model in float16 or float32, with the facts of its training.

A Lightning checkpoint resumes a run but is large; this file is small enough for a repository, and
enough to export a bundle or to start another run from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trellic_training.data.files import load, load_marked, reading, save
from trellic_training.models.finite import check_finite, check_trained
from trellic_training.models.hyperprior import HyperpriorConfig, HyperpriorModel
from trellic_training.models.photo import ModelConfig, PhotoModel

VERSION = 1


def save_weights(model: PhotoModel, facts: dict[str, Any], path: Path) -> None:
    """Write a model; free transforms in float16, entropy networks and gains in float32.

    bfloat16 would cost the decoder 0.02 dB at the highest qualities. The entropy networks compute
    with integers, and rounding their float weights would move some to a neighbouring integer.
    Imported models keep float32 throughout, because they were not trained for less.

    Raises
    ------
    BadParameter
        When a number is not finite. A file of an earlier call stays as it is.
    """
    free = () if isinstance(model, HyperpriorModel) else ("g_a.", "g_s.", "h_a.")
    state = {
        name: value.to("cpu", torch.float16) if name.startswith(free) else value.cpu().clone()
        for name, value in model.state_dict().items()
    }
    check_trained(state, path)
    content = {
        "trellic_weights": VERSION,
        "config": model.config.model_dump(),
        "facts": facts,
        "state": state,
    }
    save(content, path)


def load_weights(path: Path) -> tuple[PhotoModel, dict[str, Any]]:
    """Read what `save_weights` wrote.

    Raises
    ------
    BadParameter
        When the file is something else, or of another version, or a number is not finite.
    """
    with reading(path, "is not a Trellic checkpoint"):
        content = load_marked(path, "trellic_weights", VERSION, "weights")
        check_finite(content["state"])
        model = _make(_config(content["config"]))
        model.load_state_dict(content["state"])
        facts: dict[str, Any] = content["facts"]
    return model, facts


def _config(stored: dict[str, Any]) -> ModelConfig:
    kind = HyperpriorConfig if "architecture" in stored else ModelConfig
    return kind.model_validate(stored)


def _make(config: ModelConfig) -> PhotoModel:
    """Return a model of the kind that a configuration describes."""
    if isinstance(config, HyperpriorConfig):
        return HyperpriorModel(config)
    return PhotoModel(config)


def average_of(checkpoint: Path, config: ModelConfig) -> tuple[PhotoModel, int]:
    """Averaged model and number of steps of a Lightning checkpoint.

    Raises
    ------
    BadParameter
        When the file is something else, or of another model, or a number is not finite.
    """
    prefix = "ema.module."
    with reading(checkpoint, "is not a checkpoint of such a model"):
        content = load(checkpoint)
        state = {
            name.removeprefix(prefix): value
            for name, value in content["state_dict"].items()
            if name.startswith(prefix)
        }
        check_finite(state)
        model = _make(config)
        model.load_state_dict(state)
        return model, int(content["global_step"])
