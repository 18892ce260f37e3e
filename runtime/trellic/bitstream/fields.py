"""The small parts of a stream: checked reading, varints, bit tables and checksums.

Specification: ``docs/format.md``, sections 3 and 5.
"""

from __future__ import annotations

import binascii
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trellic.errors import CorruptStream, TruncatedStream

CRC16_BYTES = 2
CRC32_BYTES = 4

Int64 = npt.NDArray[np.int64]


def crc16(data: bytes | memoryview) -> bytes:
    """Return the CRC-16 of `data` (0x1021, from 0xFFFF, not reflected), 2 bytes little endian."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(CRC16_BYTES, "little")


def crc32(data: bytes | memoryview) -> bytes:
    """Return the CRC-32 of `data` (that of zlib), 4 bytes little endian."""
    return zlib.crc32(data).to_bytes(CRC32_BYTES, "little")


class Cursor:
    """Read forwards through bytes; no read goes past their end.

    Attributes
    ----------
    data : memoryview
        All bytes of the stream.
    at : int
        Offset of the next byte, at most ``len(data)``.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int, what: str) -> memoryview:
        """Return the next `count` bytes.

        Raises
        ------
        TruncatedStream
            When fewer are left.
        """
        if count > len(self.data) - self.at:
            raise TruncatedStream(
                f"the stream ends after {len(self.data)} bytes, inside the {what}",
                expected=f"at least {self.at + count} bytes",
                remedy="fetch the file again",
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self, what: str) -> int:
        """Return the next byte as an integer."""
        return self.take(1, what)[0]

    def varint(self, longest: int, what: str) -> int:
        """Return the next unsigned LEB128 integer of at most `longest` bytes.

        Raises
        ------
        CorruptStream
            When it is longer, or not in its shortest form.
        """
        value = 0
        for position in range(longest):
            byte = self.byte(what)
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                if byte == 0 and position > 0:
                    raise CorruptStream(f"the {what} is a varint with needless bytes")
                return value
        raise CorruptStream(f"the {what} is a varint of more than {longest} bytes")


def pack_varint(value: int) -> bytes:
    """Return `value` >= 0 as unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def pack_bits(values: npt.ArrayLike, width: int) -> npt.NDArray[np.uint8]:
    """Write integers as bits.

    Parameters
    ----------
    values : array_like of int, shape (n,), each in [0, 2**width)
    width : int
        Bits of each, at most 63.

    Returns
    -------
    ndarray of uint8, shape (n * width,)
        Zeros and ones, most significant bit of each value first.
    """
    shifts = np.arange(width - 1, -1, -1)
    bits = (np.asarray(values, np.int64)[:, None] >> shifts) & 1
    return bits.astype(np.uint8).ravel()


def unpack_bits(bits: npt.NDArray[np.uint8], width: int) -> Int64:
    """Read back what `pack_bits` made: int64, shape (len(bits) // width,)."""
    weights = np.int64(1) << np.arange(width - 1, -1, -1, dtype=np.int64)
    return bits.reshape(-1, width).astype(np.int64) @ weights


def bits_to_bytes(parts: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Join bits to bytes, most significant bit first, and fill the last byte with zeros."""
    return np.packbits(np.concatenate(parts)).tobytes()
