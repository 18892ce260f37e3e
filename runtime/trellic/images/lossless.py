"""Pixels to VP8L data and back: lossless WebP without its container, by libwebp in Pillow.

Pillow's wheels contain libwebp. A build of Pillow without it can code all files but those with
patches.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt

from trellic.errors import EngineError
from trellic.images.checked import patch_of

Pixels = npt.NDArray[np.uint8]

_EFFORT = 60  # of 0 to 100
_METHOD = 3  # of 0 to 6; higher ones take several times as long for 1 to 5 % fewer bytes
_RIFF = struct.Struct("<4sI4s4sI")  # "RIFF", bytes after it, "WEBP", "VP8L", bytes of the data
_OUTER = _RIFF.size - 8


def has_lossless() -> bool:
    """Whether this build of Pillow can code patches."""
    from PIL import features

    return bool(features.check("webp"))


def pack_pixels(pixels: Pixels) -> bytes:
    """Return VP8L data of pixels.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width), at most 16383 a side
    """
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels).convert("RGB")
    image.save(buffer, "WEBP", lossless=True, quality=_EFFORT, method=_METHOD, exact=True)
    riff, _, webp, kind, length = _RIFF.unpack_from(buffer.getbuffer())
    if (riff, webp, kind) != (b"RIFF", b"WEBP", b"VP8L"):
        raise EngineError(f"libwebp wrote a chunk {kind!r}", expected="b'VP8L' alone")
    return buffer.getvalue()[_RIFF.size : _RIFF.size + length]


def unpack_pixels(data: bytes, height: int, width: int) -> Pixels:
    """Return the pixels of VP8L data whose header was checked: uint8 (height, width, 3).

    Raises
    ------
    CorruptStream
        When the data are damaged.
    EngineError
        When Pillow was built without WebP.
    """
    if not has_lossless():
        raise EngineError(
            "a file with patches, and a Pillow that was built without WebP",
            remedy="install a wheel of Pillow",
        )
    padded = data + b"\0" * (len(data) % 2)
    file = _RIFF.pack(b"RIFF", _OUTER + len(padded), b"WEBP", b"VP8L", len(data)) + padded
    return patch_of(file, "WEBP", height, width)
