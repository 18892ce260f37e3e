"""Photos that no one took, and the smallest model there is."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trellic_training.data.photos import pack
from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.recipes import codec as recipe
from trellic_training.recipes.codec import Recipe, load_recipe

RECIPES = Path(recipe.__file__).parent


def smooth(seed: int, height: int = 192, width: int = 192) -> np.ndarray:
    """A picture of slow waves in three colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 192
    planes = [
        128 + sum(30 * np.sin(rng.uniform(-15, 15) * x + rng.uniform(-15, 15) * y) for _ in "abc")
        for _ in range(3)
    ]
    return np.clip(np.stack(planes, 2), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    return load_recipe(RECIPES / "tiny.yaml")


@pytest.fixture(scope="session")
def tiny_config(tiny_recipe) -> ModelConfig:
    return tiny_recipe.model


@pytest.fixture
def model(tiny_config):
    torch.manual_seed(1)
    return PhotoModel(tiny_config)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder of four smooth photos, none in the validation split."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(4):
        Image.fromarray(smooth(i)).save(folder / f"wave-{i}.png")
    return folder


@pytest.fixture(scope="session")
def packed(photos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    pack(photos, out)
    return out


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """No file can grow beyond 1000 bytes."""

    @contextmanager
    def full() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full
