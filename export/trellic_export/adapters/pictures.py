"""The pictures that an adapter is made from: reading, checks, and the split for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trellic.errors import BadParameter
from trellic_training.bars import shown
from trellic_training.data.pictures import Pixels, files_under, rgb_of, say_left_out

LEAST = 5  # pictures
ALIKE = 2.0  # levels; pictures that differ by less on average count as the same
SHRUNK = 16  # pixels a side at which they are compared
HELD_BACK = 5  # one picture of this many checks the adapter


@dataclass(frozen=True)
class Pictures:
    """uint8 (height, width, 3) each.

    Attributes
    ----------
    training : the adapter is trained on these
    checking : these show whether it helps
    """

    training: list[Pixels]
    checking: list[Pixels]

    def crops(self, rng: np.random.Generator, count: int, side: int) -> torch.Tensor:
        """Return random crops, mirrored and turned at random: uint8 (count, side, side, 3)."""
        out = np.empty((count, side, side, 3), np.uint8)
        for i, number in enumerate(rng.integers(len(self.training), size=count)):
            pixels = self.training[number]
            top, left = (int(rng.integers(size - side + 1)) for size in pixels.shape[:2])
            crop = pixels[top : top + side, left : left + side]
            crop = crop[:, :: rng.choice((-1, 1))]
            out[i] = crop.transpose(1, 0, 2) if rng.random() < 0.5 else crop
        return torch.from_numpy(out)


def read(paths: Sequence[Path], side: int, seed: int = 1) -> Pictures:
    """Read pictures in a random order; every fifth is for checking.

    Parameters
    ----------
    paths : of files, or of folders with files; files that are not pictures are skipped, and
        pictures that are left out are said on stderr
    side : least width and height in pixels

    Raises
    ------
    BadParameter
        When they are fewer than five, too small, or all alike.
    """
    files = [file for path in paths for file in _files(path)]
    seen = [(file, rgb_of(file)) for file in shown(files, "reading")]
    found = [pixels for _, pixels in seen if pixels is not None]
    large = [pixels for pixels in found if min(pixels.shape[:2]) >= side]
    small = len(found) - len(large)
    say_left_out([file for file, pixels in seen if pixels is None], small, side)
    if len(large) < LEAST:
        too_small = f", and {small} smaller than {side}x{side} pixels" if small else ""
        raise BadParameter(
            f"{len(large)} pictures to adapt to{too_small}",
            expected=f"{LEAST} or more, better 25, of at least {side}x{side} pixels",
        )
    if _alike(large):
        raise BadParameter(
            f"{len(large)} pictures that are all alike",
            expected="pictures that differ as those do which will be encoded",
        )
    order = np.random.default_rng(seed).permutation(len(large))
    checking = [large[i] for i in order[::HELD_BACK]]
    return Pictures([large[i] for n, i in enumerate(order) if n % HELD_BACK], checking)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise BadParameter(f"no file or folder {str(path)!r}")
    if path.is_file():
        return [path]
    return [file for file in files_under(path) if not file.name.startswith(".")]


def _alike(pictures: Sequence[Pixels]) -> bool:
    """Whether small versions of all pictures are almost the same as the first."""
    first, *others = [_shrunk(pixels) for pixels in pictures]
    return all(float(np.abs(other - first).mean()) < ALIKE for other in others)


def _shrunk(pixels: Pixels) -> npt.NDArray[np.float64]:
    rows, columns = (np.array_split(np.arange(size), SHRUNK) for size in pixels.shape[:2])
    means = [[pixels[r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean() for c in columns] for r in rows]
    return np.array(means)
