"""Chunks beside the latents: a lossless alpha plane, ICC profile, EXIF, XMP, and an adapter.

Specification: ``docs/format.md``, section 4.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trellic.bitstream.front import MAX_STORED_CHUNK
from trellic.errors import BadParameter, CorruptStream
from trellic.limits import ADAPTER_ID_BYTES, MAX_ADAPTER

MAX_METADATA = 1 << 24  # bytes, inflated: larger than real profiles and packets
_ALPHA_LEVEL, _METADATA_LEVEL, _TRIAL_LEVEL = 6, 9, 1  # of zlib

Plane = npt.NDArray[np.uint8]

# Filter number: axes along which differences are taken.
_FILTERS: tuple[tuple[int, ...], ...] = ((), (1,), (0,), (0, 1))


class Carrier(Protocol):
    """Anything with the attributes of `Chunks`, such as a picture."""

    @property
    def alpha(self) -> Plane | None:
        """Alpha plane, uint8 (height, width)."""

    @property
    def icc(self) -> bytes | None:
        """ICC profile."""

    @property
    def exif(self) -> bytes | None:
        """EXIF block from its TIFF header on."""

    @property
    def xmp(self) -> bytes | None:
        """XMP packet."""


@dataclass(frozen=True, eq=False)
class Chunks:
    """The parts of a stream beside the latents.

    Attributes
    ----------
    alpha : uint8, shape (height, width), optional
    icc, exif, xmp : bytes, optional
        As in the source file; EXIF from its TIFF header on.
    """

    alpha: Plane | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    @classmethod
    def of(cls, carrier: Carrier, *, strip: bool = False) -> Chunks:
        """Take the chunks of a picture; with `strip`, only its alpha plane."""
        if strip:
            return cls(carrier.alpha)
        return cls(carrier.alpha, carrier.icc, carrier.exif, carrier.xmp)


def pack_chunks(chunks: Chunks, height: int, width: int) -> dict[str, bytes]:
    """Return the stored form of each chunk, by name, in file order.

    Raises
    ------
    BadParameter
        When alpha is not uint8 of the picture's size, or a chunk is too large.
    """
    stored = {}
    alpha = chunks.alpha
    if alpha is not None:
        if alpha.shape != (height, width) or alpha.dtype != np.uint8:
            raise BadParameter(
                f"an alpha plane of {alpha.dtype} {alpha.shape}",
                expected=f"uint8 {(height, width)}",
            )
        if alpha.min() < 255:
            stored["alpha"] = pack_alpha(alpha)
    for name, content in (("icc", chunks.icc), ("exif", chunks.exif), ("xmp", chunks.xmp)):
        if content is not None:
            stored[name] = pack_metadata(content, name)
    return stored


def pack_metadata(content: bytes, name: str) -> bytes:
    """Return the stored form of an ICC profile, EXIF block or XMP packet.

    Raises
    ------
    BadParameter
        When `content` is empty or over 16 MiB.
    """
    if not 1 <= len(content) <= MAX_METADATA:
        raise BadParameter(
            f"{name} metadata of {len(content)} bytes",
            expected=f"1 to {MAX_METADATA}",
            remedy="drop it with --strip (strip=True)",
        )
    return zlib.compress(content, _METADATA_LEVEL)


def read_metadata(stored: bytes | memoryview, name: str) -> bytes:
    """Return the content of a metadata chunk.

    Raises
    ------
    CorruptStream
        When it is not one complete zlib stream of 1 byte to 16 MiB.
    """
    content = inflate(stored, MAX_METADATA, name)
    if not content:
        raise CorruptStream(f"the {name} chunk inflates to 0 bytes")
    return content


def pack_adapter(content: bytes, name: bytes | None) -> bytes:
    """Return the stored form of an adapter.

    Raises
    ------
    BadParameter
        When it has another id, or more than 256 KiB.
    """
    if name != _adapter_id(content) or len(content) > MAX_ADAPTER:
        raise BadParameter(f"an adapter of {len(content)} bytes with another id than the header's")
    return zlib.compress(content, _METADATA_LEVEL)


def read_adapter(stored: bytes | memoryview, name: bytes | None) -> bytes:
    """Return the content of an adapter chunk.

    Raises
    ------
    CorruptStream
        When it is not one complete zlib stream of at most 256 KiB, or not the adapter of that id.
    """
    content = inflate(stored, MAX_ADAPTER, "adapter")
    if name != _adapter_id(content):
        raise CorruptStream(
            f"the adapter chunk holds adapter {_adapter_id(content).hex()}",
            expected=f"{(name or b'').hex()}, which the header names",
        )
    return content


def _adapter_id(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:ADAPTER_ID_BYTES]


def pack_alpha(alpha: Plane) -> bytes:
    """Return the stored form of an alpha plane: uint8, shape (height, width).

    The stored form uses the one of the four filters that a quick deflate compresses best.

    Raises
    ------
    BadParameter
        When it takes 2**28 bytes or more.
    """
    planes = [
        bytes([number]) + _differences(alpha, axes).tobytes()
        for number, axes in enumerate(_FILTERS)
    ]
    best = min(planes, key=lambda plane: len(zlib.compress(plane, _TRIAL_LEVEL)))
    stored = zlib.compress(best, _ALPHA_LEVEL)
    if len(stored) > MAX_STORED_CHUNK:
        raise BadParameter(
            f"an alpha plane that takes {len(stored)} bytes", expected=f"at most {MAX_STORED_CHUNK}"
        )
    return stored


def read_alpha(stored: bytes | memoryview, height: int, width: int) -> Plane:
    """Return an alpha plane: uint8, shape (height, width).

    Raises
    ------
    CorruptStream
        When the chunk does not inflate to exactly that, or is opaque everywhere.
    """
    expected = 1 + height * width
    content = inflate(stored, expected, "alpha")
    if len(content) != expected:
        raise CorruptStream(
            f"the alpha chunk inflates to {len(content)} bytes", expected=f"{expected}"
        )
    if content[0] >= len(_FILTERS):
        raise CorruptStream(f"the alpha chunk has the unknown filter {content[0]}")
    plane = np.frombuffer(content, np.uint8, offset=1).reshape(height, width)
    for axis in _FILTERS[content[0]]:
        plane = np.cumsum(plane, axis=axis, dtype=np.uint8)
    if plane.min() == 255:
        raise CorruptStream("the alpha chunk is opaque everywhere and should not be there")
    return plane


def _differences(plane: Plane, axes: tuple[int, ...]) -> Plane:
    for axis in axes:
        plane = np.diff(plane, axis=axis, prepend=np.uint8(0))
    return plane


def inflate(stored: bytes | memoryview, limit: int, name: str) -> bytes:
    """Inflate one complete zlib stream, never making more than ``limit + 1`` bytes."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(stored, limit + 1)
    except zlib.error as error:
        raise CorruptStream(f"the {name} chunk does not inflate ({error})") from None
    if len(content) > limit:
        raise CorruptStream(
            f"the {name} chunk inflates to more than {limit} bytes", expected=f"at most {limit}"
        )
    if not inflater.eof or inflater.unused_data:
        raise CorruptStream(f"the {name} chunk is not exactly one zlib stream")
    return content
