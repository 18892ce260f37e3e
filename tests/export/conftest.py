"""A model that no one trained, and photos that no one took."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from trellic.model.channels import Group
from trellic_training.models.photo import ModelConfig, PhotoModel

CONFIG = ModelConfig(
    wide=8,
    deep=8,
    encoder_blocks=(2, 1),
    decoder_blocks=(3, 2),
    groups=(Group(channels=4, steps=(0, 1)), Group(channels=4, steps=(1, 2))),
    hyper=4,
    hyper_hidden=8,
    features=8,
    context_hidden=8,
    scales=24,
)

WITH_DETAILS = (*CONFIG.groups, Group(channels=3, steps=(3, 3)))
DETAILED = CONFIG.model_copy(update={"groups": WITH_DETAILS, "details": 3})

ATTENDING = DETAILED.model_copy(update={"attention": (1, 2), "modulated": True})
EVERYWHERE = DETAILED.model_copy(update={"nonlocal_hyper": True, "hyper_hidden": 64})
COUPLED = ModelConfig.model_validate(
    {
        **DETAILED.model_dump(),
        "stride": 4,
        "wide": 12,
        "encoder_blocks": (0, 1),
        "decoder_blocks": (0, 1),
        "coupling": 2,
        "denoising": 2,
    }
)


def synthetic(seed: int, side: int = 192) -> np.ndarray:
    """Smooth waves, an edge and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = sum(
        rng.uniform(10, 40) * np.sin(rng.uniform(2, 25) * x + rng.uniform(2, 25) * y + i)
        for i in range(4)
    )
    grey = 128 + waves + 40 * (x + y > rng.uniform(0.6, 1.4)) + rng.normal(0, 2, (side, side))
    tint = rng.uniform(0.7, 1.2, 3)
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)


@pytest.fixture
def model():
    """A model whose every layer does something: freshly made, then shaken."""
    return shaken(CONFIG)


def shaken(config: ModelConfig) -> PhotoModel:
    torch.manual_seed(3)
    made = PhotoModel(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval().requires_grad_(requires_grad=False)


@pytest.fixture
def photos(tmp_path):
    """A folder of three photos, none in the validation split."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(synthetic(i)).save(folder / f"wave-{i}.png")
    return folder
