"""Pictures to train on, read as the encoder reads them, and what is said of those left out."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trellic import images
from trellic.errors import TrellicError, TrellicWarning
from trellic.images.sniff import picture_format

Pixels = npt.NDArray[np.uint8]
FOREIGN = (".heic", ".heif", ".jxl")  # pictures that the encoder does not read
HEAD = 64  # bytes that tell pictures from other files
NAMED = 3  # files that a message names


def rgb_of(path: Path) -> Pixels | None:
    """Return a picture as uint8 (height, width, 3); None if it is none, or cannot be read.

    What the encoder warns of is not said: folders hold thousands of pictures.
    """
    try:
        with path.open("rb") as file:
            if picture_format(file.read(HEAD)) is None:
                return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrellicWarning)
            pixels = images.read(path).pixels
    except (TrellicError, OSError):
        return None
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


def files_under(folder: Path) -> list[Path]:
    """Return the files in a folder and its sub-folders; those that cannot be read are said."""
    closed: list[str] = []
    walk = os.walk(folder, onerror=lambda error: closed.append(error.filename))
    found = sorted(Path(place, name) for place, _, names in walk for name in names)
    if closed:
        said = f"left out: folders that cannot be read ({_some(closed)})"
        print(said, file=sys.stderr)
    return [path for path in found if path.is_file()]


def say_left_out(unread: Sequence[Path], small: int, side: int) -> None:
    """Print on stderr which pictures are left out, if any are.

    Parameters
    ----------
    unread : files that are no pictures to `rgb_of`; those count that have the suffix of one
    small : how many are smaller than ``side`` pixels a side
    """
    pictures = {*images.readable(), *FOREIGN}
    damaged = [path.name for path in unread if path.suffix.lower() in pictures]
    said = []
    if damaged:
        said.append(f"{len(damaged)} that cannot be read ({_some(damaged)})")
    if small:
        said.append(f"{small} smaller than {side}x{side} pixels")
    if said:
        print(f"left out: {', '.join(said)}", file=sys.stderr)


def _some(names: Sequence[str]) -> str:
    """Return the first of some names for a message."""
    return ", ".join([*map(repr, names[:NAMED]), *["..."][: len(names) > NAMED]])
