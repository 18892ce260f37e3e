"""A classifier of small pictures, trained on what codecs make of them, and the set it learns from.

What `benchmarks.labels_rate` compares a decoder of labels with: about as many weights and
multiplications, the same kind of blocks, and training on pictures of the very codecs, at all their
qualities, that it is then asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.progress import track
from torch import nn
from torch.nn import functional

from benchmarks.codecs import Codec, Pixels
from trellic_training.models.transforms import DepthBlock
from trellic_training.pixels import to_network

SHIFT = 4  # pixels that a picture is moved by, at most, while training
BATCH = 64
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
SMOOTHING = 0.1  # of the labels
WARM_UP = 0.05  # share of the steps
EVALUATED_AT_ONCE = 500


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
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(12, 32, 3, padding=1),
        nn.LeakyReLU(0.1),
        DepthBlock(32),
        nn.Conv2d(32, 64, 2, stride=2),
        nn.LeakyReLU(0.1),
        *(DepthBlock(64) for _ in range(3)),
        nn.Conv2d(64, 96, 2, stride=2),
        nn.LeakyReLU(0.1),
        *(DepthBlock(96) for _ in range(2)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, labels),
    )


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
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
    for step in track(range(steps), "training the classifier of pictures", transient=True):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / steps / WARM_UP, 1 - step / steps)
        x, target = _draw(sources, labels, rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(x).float()
        loss = functional.cross_entropy(logits, target, label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _draw(
    sources: Sequence[Pixels], labels: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch of pictures, flipped and shifted at random."""
    chosen = rng.integers(len(labels), size=BATCH)
    out = []
    for i in chosen:
        picture = sources[rng.integers(len(sources))][i]
        wider = np.pad(picture, [(SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)], "symmetric")
        y, x = rng.integers(2 * SHIFT + 1, size=2)
        shifted = wider[y : y + picture.shape[0], x : x + picture.shape[1]]
        out.append(shifted[:, ::-1] if rng.random() < 0.5 else shifted)
    return to_network(torch.from_numpy(np.stack(out))), torch.from_numpy(labels[chosen])


@torch.no_grad()
def accuracy(classifier: nn.Module, pictures: Pixels, labels: npt.NDArray[np.int64]) -> float:
    """Share of pictures whose label is the likeliest one."""
    parts = torch.from_numpy(pictures).split(EVALUATED_AT_ONCE)
    guesses = torch.cat([classifier(to_network(part)).argmax(1) for part in parts])
    return float((guesses.numpy() == labels).mean())
