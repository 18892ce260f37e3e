"""A classifier of small pictures, trained on what codecs make of them, and the set it learns from.

What `benchmarks.labels_rate` compares a decoder of labels with: about as many weights and
multiplications, the same kind of blocks, and training on pictures of the very codecs, at all their
qualities, that it is then asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import nn

from benchmarks.codecs import Codec, Pixels
from trellic_training.models.picture_classifier import PictureClassifierSizes
from trellic_training.stages.classifier import accuracy, fit

__all__ = ["LabelledSet", "accuracy", "coded", "network", "read_set", "train"]

SHIFT = 4  # pixels that a picture is moved by, at most, while training
BATCH = 64


@dataclass(frozen=True)
class LabelledSet:
    """Pictures of one size, uint8 (N, H, W, 3), and the places of their labels in ``names``."""

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]


def read_set(folder: Path, limit: int | None = None) -> LabelledSet:
    """Read a folder with a sub-folder for each label; ``limit`` pictures, spread over all."""
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    paths = [
        (path, i) for i, name in enumerate(names) for path in sorted((folder / name).iterdir())
    ]
    if limit is not None and limit < len(paths):
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, limit).round().astype(int)]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in paths])
    return LabelledSet(pixels, np.array([i for _, i in paths]), names)


def network(labels: int) -> nn.Sequential:
    """Return a classifier of pictures: blocks at 1/2, 1/4 and 1/8 of their size, then a mean."""
    return PictureClassifierSizes().make(labels)


def coded(codec: Codec, pictures: Pixels, rng: np.random.Generator, name: str) -> Pixels:
    """Return every picture as the codec decodes it at a quality of its own."""
    qualities = rng.uniform(min(codec.ladder), max(codec.ladder), len(pictures))
    pairs = zip(pictures, qualities, strict=True)
    bar = track(pairs, f"coding for training: {name}", total=len(pictures), transient=True)
    return np.stack([codec.decode(codec.encode(p, float(q))) for p, q in bar])


def train(
    classifier: nn.Module,
    sources: Sequence[Pixels],
    labels: npt.NDArray[np.int64],
    steps: int,
    seed: int = 1,
) -> None:
    """Train for so many steps.

    Parameters
    ----------
    sources : the training pictures as they are, and as codecs decode them: (N, H, W, 3) each
    labels : (N,), of the pictures of every source
    """
    torch.manual_seed(seed)
    fit(classifier, partial(_draw, sources, labels, np.random.default_rng(seed)), steps)


def _draw(
    sources: Sequence[Pixels], labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of pictures, uint8, flipped and shifted at random."""
    chosen = rng.integers(len(labels), size=BATCH)
    out = []
    for i in chosen:
        picture = sources[rng.integers(len(sources))][i]
        wider = np.pad(picture, [(SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)], "symmetric")
        y, x = rng.integers(2 * SHIFT + 1, size=2)
        shifted = wider[y : y + picture.shape[0], x : x + picture.shape[1]]
        out.append(shifted[:, ::-1] if rng.random() < 0.5 else shifted)
    return torch.from_numpy(np.stack(out)), torch.from_numpy(labels[chosen])
