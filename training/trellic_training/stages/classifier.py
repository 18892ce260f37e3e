"""Training a classifier of small pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from trellic_training.bars import shown
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.picture_classifier import TrainedClassifier
from trellic_training.models.precision import bfloat16
from trellic_training.pixels import to_network
from trellic_training.recipes.classifier import ClassifierRecipe

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
SMOOTHING = 0.1  # of the labels
WARM_UP = 0.05  # share of the steps
AT_ONCE = 500  # pictures that are judged


def fit(
    classifier: nn.Module,
    draw: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    *,
    progress: bool = True,
) -> None:
    """Train a classifier by softened cross entropy, for so many steps.

    Parameters
    ----------
    draw : returns a batch: pictures, uint8 (N, H, W, 3), and places of their labels, int64 (N,)
    """
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
    turns = range(steps)
    for step in shown(turns, "training a classifier", hidden=not progress):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / steps / WARM_UP, 1 - step / steps)
        pixels, label = draw()
        with bfloat16("cpu", wanted=True):
            logits = classifier(to_network(pixels)).float()
        loss = functional.cross_entropy(logits, label, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def train_classifier(
    recipe: ClassifierRecipe, photos: Path, *, progress: bool = True
) -> TrainedClassifier:
    """Train a classifier on pictures that are shifted and flipped at random.

    Parameters
    ----------
    photos : folder made by `trellic_training.data.photos.pack`, a sub-folder for each label

    Raises
    ------
    BadParameter
        When it is no labelled set of one size.
    """
    pack = PackedPhotos(photos)
    pack.check_labelled(1)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    side, labels = min(pack.training[0].height, pack.training[0].width), pack.labels
    network = recipe.network.make(len(labels))
    fit(network, lambda: pack.labelled(rng, recipe.batch, side), recipe.steps, progress=progress)
    aside = pack.validation or pack.training
    pixels = np.stack([pack.photo(photo) for photo in aside])
    expected = np.array([labels.index(photo.source) for photo in aside])
    facts = {
        "recipe": recipe.model_dump(mode="json"),
        "pictures": len(pack.training),
        "accuracy": accuracy(network.eval(), pixels, expected),
    }
    return TrainedClassifier(recipe.network, network, labels, side, facts)


@torch.no_grad()
def accuracy(
    classifier: nn.Module, pictures: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]
) -> float:
    """Share of pictures (N, H, W, 3) whose label is the likeliest one."""
    parts = torch.split(torch.from_numpy(pictures), AT_ONCE)
    guesses = torch.cat([classifier(to_network(part)).argmax(1) for part in parts])
    return float((guesses.numpy() == labels).mean())
