"""Patches: blocks of the picture that the file holds beside the latents, in another coding.

Specification: ``docs/format.md``, section 4.2.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trellic.bitstream.av1 import SEQUENCE_HEADER, check_still
from trellic.bitstream.chunks import inflate
from trellic.bitstream.fields import Cursor, pack_varint
from trellic.bitstream.front import MAX_STORED_CHUNK
from trellic.bitstream.header import Header
from trellic.errors import BadParameter, CorruptStream, TruncatedStream
from trellic.geometry import BLOCK, Rectangle, slice_grid
from trellic.limits import PATCH_SIDE

Mask = npt.NDArray[np.bool_]

VP8L_SIGNATURE = 0x2F
VP8L_HEADER = 5  # bytes: the signature, then 14 + 14 bits of size, 1 of alpha, 3 of version
_SIZE_BITS = 14
_VARINT_BYTES = 4
_LEVEL = 9  # of zlib


@dataclass(frozen=True, eq=False)
class Patches:
    """Blocks of a picture that are stored.

    Attributes
    ----------
    mask : bool, shape (ceil(height / 32), ceil(width / 32))
        The blocks of 32 x 32 pixels that are stored.
    data : tuple of bytes or None, one for each slice
        The area of each slice that has such blocks; None for the others. An area is VP8L data
        (lossless WebP, without its RIFF container) or AV1 data (a still picture, without AVIF's).
    """

    mask: Mask
    data: tuple[bytes | None, ...]

    @property
    def blocks(self) -> int:
        """Number of stored blocks."""
        return int(self.mask.sum())

    @property
    def av1(self) -> int:
        """Number of areas that are AV1 data."""
        return sum(data is not None and is_av1(data) for data in self.data)


def is_av1(data: bytes) -> bool:
    """Whether a checked area is AV1 data, and not VP8L."""
    return data[0] == SEQUENCE_HEADER


def mask_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the blocks of a picture."""
    return -(-height // PATCH_SIDE), -(-width // PATCH_SIDE)


def slice_areas(header: Header) -> list[Rectangle]:
    """Return the area of each slice, in blocks of patches."""
    shape = mask_shape(header.height, header.width)
    return slice_grid(*shape, header.slice_side * BLOCK // PATCH_SIDE)


def in_pixels(area: Rectangle, height: int, width: int) -> Rectangle:
    """Return an area in pixels, as far as the picture reaches."""
    return area.finer(PATCH_SIDE).within(Rectangle(0, height, 0, width))


def pack_mask(mask: Mask) -> bytes:
    """Return the bits of a mask in raster order, most significant bit first."""
    return np.packbits(mask.ravel()).tobytes()


def pack_mask_plainly(mask: Mask) -> bytes:
    """Do what `pack_mask` does, bit by bit: the reference."""
    out = bytearray(-(-mask.size // 8))
    for number, bit in enumerate(mask.ravel()):
        if bit:
            out[number >> 3] |= 0x80 >> (number & 7)
    return bytes(out)


def pack_patches(patches: Patches, header: Header) -> bytes:
    """Return the stored form of patches.

    Raises
    ------
    BadParameter
        When they do not fit the picture.
    """
    own = slice_areas(header)
    shape = mask_shape(header.height, header.width)
    if patches.mask.shape != shape or len(patches.data) != len(own) or not patches.mask.any():
        raise BadParameter(
            f"patches of {patches.mask.shape} blocks and {len(patches.data)} slices",
            expected=f"{shape} blocks, at least one of them stored, and {len(own)} slices",
        )
    if header.bare and not patches.mask.all():
        raise BadParameter("patches alone that leave a part of the picture out")
    used = [bool(patches.mask[area.index()].any()) for area in own]
    if used != [data is not None for data in patches.data]:
        raise BadParameter("data of other slices than those that have patches")
    stored = [data for data in patches.data if data is not None]
    packed = zlib.compress(pack_mask(patches.mask), _LEVEL)
    lengths = [pack_varint(len(data)) for data in stored]
    out = b"".join([pack_varint(len(packed)), packed, *lengths, *stored])
    if len(out) > MAX_STORED_CHUNK:
        raise BadParameter(f"patches of {len(out)} bytes", expected=f"at most {MAX_STORED_CHUNK}")
    return out


def read_patches(stored: bytes | memoryview, header: Header) -> Patches:
    """Return the patches of a stream; no pixel is decoded.

    Raises
    ------
    CorruptStream
        When a length, the mask, or the size of an area is not as the header asks.
    """
    cursor = Cursor(memoryview(stored))
    try:
        mask = _read_mask(cursor, header)
        own = slice_areas(header)
        used = [bool(mask[area.index()].any()) for area in own]
        lengths = [cursor.varint(_VARINT_BYTES, "length of a patch") for _ in range(sum(used))]
        parts = iter([bytes(cursor.take(length, "patches")) for length in lengths])
    except TruncatedStream:
        raise CorruptStream(f"the patches chunk of {len(stored)} bytes ends too early") from None
    if cursor.at != len(stored):
        raise CorruptStream(f"{len(stored) - cursor.at} bytes follow the patches in their chunk")
    data = tuple(next(parts) if there else None for there in used)
    for area, part in zip(own, data, strict=True):
        if part is not None:
            _check(part, in_pixels(area, header.height, header.width), grey=header.grey)
    return Patches(mask, data)


def _read_mask(cursor: Cursor, header: Header) -> Mask:
    packed = cursor.take(cursor.varint(_VARINT_BYTES, "length of the mask"), "mask of patches")
    rows, columns = mask_shape(header.height, header.width)
    expected = -(-rows * columns // 8)
    content = inflate(packed, expected, "patches")
    if len(content) != expected:
        raise CorruptStream(f"a mask of patches of {len(content)} bytes", expected=f"{expected}")
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    if bits[rows * columns :].any() or not bits.any():
        raise CorruptStream("the mask of patches has bits outside of the picture, or none")
    if header.bare and not bits[: rows * columns].all():
        raise CorruptStream("the file has no latents, and its patches leave a part out")
    return bits[: rows * columns].reshape(rows, columns).astype(bool)


def _check(data: bytes, area: Rectangle, *, grey: bool) -> None:
    """Refuse data of another size than their area, before anything decodes them."""
    if data and is_av1(data):
        check_still(data, *area.shape, grey=grey)
        return
    if len(data) < VP8L_HEADER or data[0] != VP8L_SIGNATURE:
        raise CorruptStream("a patch is not VP8L or AV1 data")
    bits = int.from_bytes(data[1:VP8L_HEADER], "little")
    low = (1 << _SIZE_BITS) - 1
    width, height = 1 + (bits & low), 1 + (bits >> _SIZE_BITS & low)
    if (height, width) != area.shape or bits >> 2 * _SIZE_BITS:
        rows, columns = area.shape
        raise CorruptStream(
            f"a patch of {width}x{height} pixels (further bits {bits >> 2 * _SIZE_BITS})",
            expected=f"{columns}x{rows}, without alpha, version 0",
        )
