"""MNIST from its four ``idx.gz`` files, whole in memory."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trellic.errors import BadParameter
from trellic_training.universal.networks import CLASSES, SIDE

FILES = {"training": "train", "test": "t10k"}
IMAGES, LABELS = 0x803, 0x801  # magic numbers: unsigned bytes, three axes and one


@dataclass(frozen=True)
class Digits:
    """Labelled digits: ``images`` float32 (N, 1, 28, 28) in [0, 1], ``labels`` int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(folder: Path, part: str) -> Digits:
    """Read the "training" (60,000 in MNIST) or "test" (10,000) digits of a folder.

    Raises
    ------
    BadParameter
        When a file is missing, damaged, or holds something else.
    """
    images = read_idx(folder / f"{FILES[part]}-images-idx3-ubyte.gz", IMAGES)
    labels = read_idx(folder / f"{FILES[part]}-labels-idx1-ubyte.gz", LABELS)
    fits = images.shape[1:] == (SIDE, SIDE) and len(images) == len(labels) > 0
    if not fits or labels.max() >= CLASSES:
        raise BadParameter(
            f"{folder}: {part} images {images.shape} with labels {labels.shape}",
            expected=f"as many labels under {CLASSES} as images of {SIDE}x{SIDE}",
        )
    pixels = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
    return Digits(pixels, torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path, magic: int) -> npt.NDArray[np.uint8]:
    """Read one ``idx.gz`` file of bytes: magic and axes as big-endian int32, then the values.

    Raises
    ------
    BadParameter
        When the file is missing, no gzip file, has another magic number or another length.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadParameter(
            f"{path} cannot be read ({error})",
            remedy="name the folder of MNIST's four idx.gz files by --data",
        ) from error
    axes = magic & 0xFF
    head = np.frombuffer(raw[: 4 * (axes + 1)], ">i4")
    if len(head) != axes + 1 or head[0] != magic:
        raise BadParameter(f"{path} starts with {raw[:4].hex()}", expected=f"{magic:08x}")
    shape = tuple(int(n) for n in head[1:])
    values = np.frombuffer(raw, np.uint8, offset=head.nbytes)
    if min(shape) < 0 or values.size != np.prod(shape, dtype=np.int64):
        raise BadParameter(f"{path}: {values.size} values for axes {shape}")
    return values.reshape(shape)
