"""Clusters of training photos, by the model's own latents, for `benchmarks.choice`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from benchmarks.codecs import Pixels
from benchmarks.measure import SUFFIXES, read_pixels
from trellic.model.bundle import Bundle
from trellic_export.adapters.check import middle
from trellic_export.torch_graph import TorchGraph
from trellic_training.data.photos import MIN_SIDE, is_validation

HELD = 384  # pixels a side at most of a photo that is held in memory
SEEN = 192  # pixels a side that the features come from
QUALITY = 50
ROUNDS, STARTS = 50, 8  # of k-means
SMALLEST = 1e-3  # is added to means, whose logarithm is taken

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Photo:
    """A training photo.

    Attributes
    ----------
    source : the folder that it is from
    pixels : its middle, at most `HELD` pixels a side
    """

    source: str
    pixels: Pixels


def paths_of(folder: Path, *, validation: bool) -> list[Path]:
    """Return the photos of the validation split, or all others, in order of their paths."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [path for path in found if is_validation(path.name) == validation]


def photos(paths: list[Path]) -> Iterator[Photo]:
    """Yield the photos that are large enough to be trained on."""
    for path in track(paths, "reading photos"):
        pixels = read_pixels(path)
        if min(pixels.shape[:2]) >= MIN_SIDE:
            yield Photo(path.parent.name, middle(pixels, HELD, HELD))


def features(bundle: Bundle, held: list[Photo]) -> Floats:
    """Return logarithms of mean absolute latents, (photos, channels), each channel normalized."""
    graph = TorchGraph(bundle.graph(bundle.manifest.encoder))
    quality = torch.full((1,), bundle.levels.at(16 * QUALITY, 0).quality)
    rows = []
    for photo in track(held, "latents"):
        inputs = {"image": torch.from_numpy(middle(photo.pixels, SEEN, SEEN)[None])}
        sides = [size // 64 * 64 for size in inputs["image"].shape[1:3]]
        inputs["image"] = inputs["image"][:, : sides[0], : sides[1]]
        inputs["quality"] = quality
        with torch.no_grad():
            rows.append(graph(inputs)[0].abs().mean((0, 2, 3)).numpy())
    logs = np.log(np.array(rows, np.float64) + SMALLEST)
    return (logs - logs.mean(0)) / np.maximum(logs.std(0), 1e-9)


def k_means(rows: Floats, k: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the cluster of each row, the largest cluster first: the best of several starts."""
    rng = np.random.default_rng(seed)
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    for _ in range(STARTS):
        centres = rows[rng.choice(len(rows), k, replace=False)]
        for _ in range(ROUNDS):
            squares = ((rows[:, None] - centres) ** 2).sum(2)
            own = squares.argmin(1)
            centres = np.array(
                [rows[own == i].mean(0) if (own == i).any() else centres[i] for i in range(k)]
            )
        total = float(squares.min(1).sum())
        if best is None or total < best[0]:
            best = total, own
    assert best is not None
    order = np.argsort(-np.bincount(best[1], minlength=k), kind="stable")
    return np.argsort(order)[best[1]]
