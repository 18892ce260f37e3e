"""Encoding and decoding in memory through Pillow, for the codecs that it carries."""

import io

import numpy as np
from PIL import Image

from benchmarks.codecs import Pixels


def encode(pixels: Pixels, file_format: str, **options: object) -> bytes:
    """Return the file that Pillow writes for (H, W, 3) uint8 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data: bytes) -> Pixels:
    """Return the RGB pixels of a file that Pillow reads."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))
