"""Pictures of other bands than red, green and blue: NumPy files with 8-bit samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from trellic.errors import BadImage, BadParameter
from trellic.images.bands import from_bands, from_npy

SUFFIX = ".npy"


def array_of(path: Path, bands: int) -> npt.NDArray[np.uint8] | None:
    """Return the pixels of a file: uint8 (height, width, bands); None if it is no NumPy file.

    Raises
    ------
    BadParameter
        When it is one of another shape or type of samples, or is damaged.
    """
    if path.suffix.lower() != SUFFIX:
        return None
    try:
        return from_bands(from_npy(path.read_bytes()), bands).pixels
    except BadImage as error:
        raise BadParameter(f"{path.name}: {error}") from error
