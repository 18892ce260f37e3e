"""Opening a picture by Pillow when its size was checked before, whatever limit the program set."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trellic.errors import CorruptStream

if TYPE_CHECKING:
    from PIL import Image

_globals = threading.Lock()


def opened(data: bytes, name: str) -> Image.Image:
    """Open a picture of a format without Pillow's limit on pixels, which is the program's.

    Raises
    ------
    Exception
        As Pillow does on damaged data, of nearly any kind.
    """
    from PIL import Image

    with _globals:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=[name])
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def patch_of(file: bytes, name: str, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of a file that was made around a patch: uint8 (height, width, 3).

    Raises
    ------
    CorruptStream
        When the patch is damaged.
    """
    try:
        with opened(file, name) as image:
            pixels = np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged data
        raise CorruptStream(f"a patch does not decode ({error})") from None
    if pixels.shape != (height, width, 3):
        raise CorruptStream(f"a patch of {pixels.shape} samples", expected=f"{(height, width, 3)}")
    return pixels
