"""Pixels to AV1 data and back: a still picture without its container, by libavif in Pillow.

The container that libavif reads is written here, so it never sees one of a stranger's file.
Pillow's wheels contain libavif. A build of Pillow without it can code all files but those with such
patches.
"""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.errors import EngineError
from trellic.images.checked import patch_of

Pixels = npt.NDArray[np.uint8]

SPEED: Final = 6  # of 0 to 10, as in our comparisons
_DELIMITER: Final = b"\x12\x00"  # a unit without meaning in a file of one picture
_HEAD: Final = struct.Struct(">I4s")  # of a box: its length, and its kind
_COLOUR: Final = struct.pack(">4sHHHB", b"nclx", 1, 13, 6, 0x80)  # sRGB, BT.601, full range


def has_av1() -> bool:
    """Whether this build of Pillow can code AV1 patches."""
    from PIL import features

    return bool(features.check("avif"))


@cache
def can_pack() -> bool:
    """Whether this build of Pillow can make AV1 patches: libavif may lack the encoder."""
    try:
        return has_av1() and bool(pack_still(np.zeros((8, 8, 3), np.uint8), 50))
    except (OSError, ValueError, KeyError):
        return False


def pack_still(pixels: Pixels, quality: int) -> bytes:
    """Return AV1 data of pixels: a sequence header and a frame.

    Parameters
    ----------
    pixels : uint8 (height, width, 3), coded in 4:4:4, or (height, width)
    quality : of libavif, 0 to 100
    """
    from PIL import Image

    buffer = io.BytesIO()
    sampling = "4:4:4" if pixels.ndim == 3 else "4:0:0"
    how = {"quality": quality, "subsampling": sampling, "speed": SPEED, "range": "full"}
    Image.fromarray(pixels).save(buffer, "AVIF", codec="aom", max_threads=1, **how)
    data = _inner(buffer.getvalue(), b"mdat")
    return data.removeprefix(_DELIMITER)


def unpack_still(data: bytes, height: int, width: int, *, grey: bool) -> Pixels:
    """Return the pixels of AV1 data whose header was checked: uint8 (height, width, 3).

    Raises
    ------
    CorruptStream
        When the data are damaged.
    EngineError
        When Pillow was built without AVIF.
    """
    if not has_av1():
        raise EngineError(
            "a file with AV1 patches, and a Pillow that was built without AVIF",
            remedy="install a wheel of Pillow",
        )
    return patch_of(contained(data, height, width, grey=grey), "AVIF", height, width)


def contained(data: bytes, height: int, width: int, *, grey: bool) -> bytes:
    """Return an AVIF file of AV1 data (AV1 Image File Format 1.1; ISO/IEC 23008-12)."""
    profile, level = data[2] >> 5, (data[2] & 7) << 2 | data[3] >> 6
    planes = 1 if grey else 3
    properties = (
        _box(b"ispe", struct.pack(">III", 0, width, height)),
        _box(b"pixi", struct.pack(f">IB{planes}B", 0, planes, *[8] * planes)),
        _box(b"av1C", bytes([0x81, profile << 5 | level, 0x1C if grey else 0, 0])),
        _box(b"colr", _COLOUR),
    )
    essential = bytes([1, 2, 0x80 | 3, 4])
    association = _box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(properties)) + essential)
    entry = struct.pack(">IHH4sB", 2 << 24, 1, 0, b"av01", 0)
    before = _box(b"hdlr", struct.pack(">II4s12xB", 0, 0, b"pict", 0))
    after = _box(b"pitm", struct.pack(">IH", 0, 1))
    after += _box(b"iinf", struct.pack(">IH", 0, 1) + _box(b"infe", entry))
    after += _box(b"iprp", _box(b"ipco", b"".join(properties)) + association)
    start = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")

    def meta(offset: int) -> bytes:
        location = struct.pack(">IHHHHHII", 0, 0x4400, 1, 1, 0, 1, offset, len(data))
        return _box(b"meta", bytes(4) + before + _box(b"iloc", location) + after)

    return start + meta(len(start) + len(meta(0)) + _HEAD.size) + _box(b"mdat", data)


def _box(kind: bytes, content: bytes) -> bytes:
    return _HEAD.pack(_HEAD.size + len(content), kind) + content


def _inner(file: bytes, kind: bytes) -> bytes:
    """Return the content of the first box of a kind."""
    at = 0
    while at < len(file):
        size, found = _HEAD.unpack_from(file, at)
        if found == kind:
            return file[at + _HEAD.size : at + size]
        at += size
    raise EngineError(f"libavif wrote no box {kind!r}")
