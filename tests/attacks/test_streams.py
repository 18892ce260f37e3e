"""Streams and pictures made to do harm: known attacks on decoders, each met by one clear error.

More of them stand beside what they attack: forged headers and flips in
tests/runtime/test_bitstream_damage.py, bombs in chunks in tests/runtime/test_bitstream_chunks.py.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trellic import bitstream, images
from trellic.bitstream import Chunks, Header, Stream
from trellic.codec import Codec
from trellic.errors import BadImage, ImageTooLarge, StreamError, TrellicError

TINY = Path(__file__).parents[1] / "data" / "tiny.zip"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def codec():
    return Codec(TINY, threads=1)


def peak_of(call, *errors) -> int:
    """Peak of the memory that Python takes while `call` fails."""
    tracemalloc.start()
    try:
        with pytest.raises(errors):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def stream_of(codec, width, height, segments, lanes=(1,), **fields) -> bytes:
    steps = len(codec.bundle.manifest.layout.steps)
    stream_id = bytes.fromhex(codec.bundle.manifest.stream_id)
    header = Header(width, height, 960, 8, steps, stream_id, lanes, **fields)
    return bitstream.write(Stream(header, segments))


def test_many_pixels_in_few_bytes(codec):
    """A picture of 2^28 pixels whose segments are empty is refused before memory is taken."""
    slices = 256
    data = stream_of(codec, 16384, 16384, [bytes(4)] * (1 + 3 * slices), (1,) * slices)
    assert len(data) < 10_000
    codec.decode(codec.encode(np.zeros((8, 8, 3), np.uint8)))  # warm
    assert peak_of(lambda: codec.decode(data, max_pixels=2**24), ImageTooLarge) < MEGABYTE


def test_lanes_without_payload(codec):
    """1024 lanes a slice in a picture of one pixel: their states would not fit the segment."""
    with pytest.raises(StreamError):
        codec.decode(stream_of(codec, 1, 1, [bytes(4)] * 4, (1024,)))


def test_segments_of_other_pictures(codec):
    """Segments that are right in themselves, of a picture of another size or quality."""
    large = bitstream.read(codec.encode(np.full((64, 64, 3), 200, np.uint8), quality=90))
    small = bitstream.read(codec.encode(np.zeros((16, 16, 3), np.uint8), quality=90))
    mixed = bitstream.write(Stream(large.header, small.segments))
    with pytest.raises(StreamError):
        codec.decode(mixed)


def test_exif_that_points_at_itself(codec):
    """An EXIF directory whose next directory is itself, and a sub-directory that is the first."""
    entry = struct.pack("<HHII", 0x8769, 4, 1, 8)  # "Exif IFD" at offset 8: the directory it is in
    exif = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "jpeg", exif=b"Exif\0\0" + exif)
    opened = images.from_any(Image.open(io.BytesIO(picture.getvalue())))
    data = codec.encode_picture(opened).data
    assert codec.decode_picture(data).width == 8


def test_xmp_of_many_entities_is_not_expanded(codec):
    """XMP is carried, not parsed: entities that expand a billion times stay as they are."""
    lines = [f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10)]
    xmp = f"<!DOCTYPE l [{''.join(lines)}]><x>&l9;</x>".encode()
    picture = images.from_any(np.zeros((8, 8, 3), np.uint8))
    stream = bitstream.read(codec.encode_picture(picture).data)
    data = bitstream.write(Stream(stream.header, stream.segments, Chunks(xmp=xmp)))
    assert codec.decode_picture(data).xmp == xmp


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        out += struct.pack(">I", len(data)) + kind + data
        out += struct.pack(">I", zlib.crc32(kind + data))
    return out


def header_of(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)


def test_a_png_that_promises_too_many_pixels(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(header_of(60_000, 60_000), (b"IDAT", zlib.compress(bytes(9999)))))
    assert peak_of(lambda: images.read(path), TrellicError) < 20 * MEGABYTE


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_chunks_of_a_png_that_inflate_without_end(tmp_path, kind):
    bomb = zlib.compress(bytes(120 * MEGABYTE), 1)
    path = tmp_path / "bomb.png"
    rows = zlib.compress(bytes(8 * (1 + 24)))
    chunks = [header_of(8, 8), (kind, b"k\0\0" + bomb), (b"IDAT", rows), (b"IEND", b"")]
    path.write_bytes(png(*chunks))
    tracemalloc.start()
    try:
        images.read(path)
    except BadImage:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40 * MEGABYTE
