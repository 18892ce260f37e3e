"""TIFF files of any layout, most of which Pillow cannot write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SHORT, LONG, RATIONAL = 3, 4, 5
_SIZES = {1: 1, 2: 1, SHORT: 2, LONG: 4, RATIONAL: 8, 7: 1}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_CODES = {1: "B", 2: "B", SHORT: "H", LONG: "I", 7: "B"}


def make_tiff(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    order: str = "<",
    extra: tuple[int, ...] = (),
    planar: bool = False,
    deflate: bool = False,
    tile: tuple[int, int] | None = None,
    sample_format: int | None = None,
    fill_order: int = 1,
    tags: dict[int, tuple[int, tuple]] | None = None,
    after: list[dict[int, tuple[int, tuple]]] | None = None,
) -> bytes:
    """Make a TIFF file.

    Parameters
    ----------
    samples : (H, W, C), of integers or floats
    bits : of a sample, packed; those of the dtype by default
    tile : height and width of tiles instead of one strip
    tags : more entries of the first directory: tag -> (type, values)
    after : the entries of sub-directories (tag 330)
    """
    height, width, channels = samples.shape
    bits = bits or 8 * samples.dtype.itemsize
    planes = np.moveaxis(samples, 2, 0)[..., None] if planar else samples[None]
    blocks = [_packed(block, bits, order) for plane in planes for block in _blocks(plane, tile)]
    if deflate:
        blocks = [zlib.compress(block) for block in blocks]
    if fill_order == 2:
        blocks = [block.translate(_REVERSED) for block in blocks]
    entries = {
        256: (LONG, (width,)),
        257: (LONG, (height,)),
        258: (SHORT, (bits,) * channels),
        259: (SHORT, (8 if deflate else 1,)),
        262: (SHORT, (photometric,)),
        277: (SHORT, (channels,)),
        284: (SHORT, (2 if planar else 1,)),
    }
    if fill_order == 2:
        entries[266] = (SHORT, (2,))
    if extra:
        entries[338] = (SHORT, extra)
    if sample_format:
        entries[339] = (SHORT, (sample_format,) * channels)
    if tile:
        entries |= {322: (LONG, (tile[1],)), 323: (LONG, (tile[0],))}
    else:
        entries[278] = (LONG, (height,))
    offsets, counts = (324, 325) if tile else (273, 279)
    body, at = b"", []
    for block in blocks:
        at.append(8 + len(body))
        body += block + bytes(len(block) % 2)
    entries |= {offsets: (LONG, tuple(at)), counts: (LONG, tuple(map(len, blocks)))}
    entries |= tags or {}
    if after:
        places = []
        for directory in after:
            places.append(8 + len(body))
            body += _directory(directory, order, places[-1])
        entries[330] = (LONG, tuple(places))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(body))
    return head + body + _directory(entries, order, 8 + len(body))


def _blocks(plane: np.ndarray, tile: tuple[int, int] | None) -> list[np.ndarray]:
    if tile is None:
        return [plane]
    high, wide = tile
    height, width = plane.shape[:2]
    padded = np.pad(plane, ((0, -height % high), (0, -width % wide), (0, 0)))
    return [
        padded[top : top + high, left : left + wide]
        for top in range(0, height, high)
        for left in range(0, width, wide)
    ]


def _packed(block: np.ndarray, bits: int, order: str) -> bytes:
    if bits == 8 * block.dtype.itemsize:
        return block.astype(block.dtype.newbyteorder(order)).tobytes()
    flat = block.reshape(len(block), -1)  # rows of bits, each padded to a byte
    spread = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()


def _directory(entries: dict[int, tuple[int, tuple]], order: str, at: int) -> bytes:
    out = struct.pack(order + "H", len(entries))
    spare = b""
    spare_at = at + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        if kind == RATIONAL:
            data = b"".join(struct.pack(order + "II", *value) for value in values)
        else:
            data = struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)
        out += struct.pack(order + "HHI", tag, kind, len(values))
        if len(data) > 4:
            out += struct.pack(order + "I", spare_at + len(spare))
            spare += data + bytes(len(data) % 2)
        else:
            out += data.ljust(4, b"\0")
    return out + bytes(4) + spare
