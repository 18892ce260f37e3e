"""Chunks of arrays as bytes: one picture is a ``.tlc`` file, several follow one another.

A chunk (H, W) or (H, W, 3) is the bytes of one ``.tlc`` file. A chunk of more dimensions, such as
(N, H, W, 3), begins with ``TRST``, the number of pictures and the length of each (uint32, little
endian). The files follow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from trellic.codec import Codec
from trellic.constants import DEFAULT_DECODER
from trellic.errors import BadImage, CorruptStream
from trellic_data.codecs import check_decoder
from trellic_data.views import Pixels

MAGIC = b"TRST"
ALPHA = 4  # channels of a picture that has it


def picture_dimensions(shape: Sequence[int]) -> int:
    """Return how many of the last dimensions are a picture's.

    Parameters
    ----------
    shape : of a chunk

    Raises
    ------
    BadImage
        When a chunk of that shape holds no pictures.
    """
    if len(shape) >= 3 and shape[-1] in (1, 3, ALPHA) and 0 not in shape:
        return 3
    if len(shape) == 2 and 0 not in shape:
        return 2
    raise BadImage(
        f"a chunk of shape {tuple(shape)}",
        expected="(H, W), (H, W, 3) or (N, H, W, 3); of grey stacks (N, H, W, 1)",
    )


def written_dimensions(shape: Sequence[int]) -> int:
    """Return how many of the last dimensions are a picture's, of a chunk to write.

    Raises
    ------
    BadImage
        When a chunk of that shape holds no pictures. Alpha is refused: where all of a chunk is
        opaque, a file does not keep it, and not every reader knows that it was there.
    """
    count = picture_dimensions(shape)
    if count == 3 and shape[-1] == ALPHA:
        raise BadImage("a chunk with alpha", expected="alpha in an array of its own")
    return count


def pack(
    codec: Codec,
    chunk: Pixels,
    *,
    quality: float,
    trellis: int,
    decoder: str = DEFAULT_DECODER,
) -> bytes:
    """Encode a chunk.

    Parameters
    ----------
    chunk : uint8
    quality, trellis : as of `trellic.Codec.encode`
    decoder : that the chunk will be decoded with

    Raises
    ------
    BadImage
        When its dtype or shape is not that of pictures, or it has alpha.
    BadParameter
        When the decoder will not make pictures of the full size.
    TrellicError
        As of `trellic.Codec.encode`.
    """
    if chunk.dtype != np.uint8:
        raise BadImage(f"a chunk of dtype {chunk.dtype}", expected="uint8")
    count = written_dimensions(chunk.shape)
    check_decoder(codec.decoders, decoder, codec.model)
    pictures = np.ascontiguousarray(chunk).reshape(-1, *chunk.shape[-count:])
    if chunk.shape[-1] == 1 and count == 3:
        pictures = pictures[..., 0]
    options = {"quality": quality, "trellis": trellis}
    streams = codec.encode_batch(list(pictures), **options)  # type: ignore[arg-type]
    if chunk.ndim == count:
        return streams[0]
    lengths = struct.pack(f"<{len(streams) + 1}I", len(streams), *map(len, streams))
    return b"".join([MAGIC, lengths, *streams])


def unpack(codec: Codec, data: bytes, *, decoder: str) -> list[Pixels]:
    """Decode the pictures of a chunk: one or more, of one shape.

    Raises
    ------
    CorruptStream
        When the lengths do not fit, or the shapes differ.
    TrellicError
        As of `trellic.Codec.decode`.
    """
    pictures = codec.decode_batch(split(data), decoder=decoder)
    if any(picture.shape[-1] == ALPHA for picture in pictures if picture.ndim == 3):
        pictures = [_with_alpha(picture) for picture in pictures]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise CorruptStream(f"a stack of pictures of {len(shapes)} shapes", expected="one")
    return pictures


def _with_alpha(picture: Pixels) -> Pixels:
    """Return a picture whose alpha was left out because it is opaque, of an older chunk."""
    if picture.ndim != 3 or picture.shape[-1] != 3:
        return picture
    return np.concatenate([picture, np.full_like(picture[..., :1], 255)], axis=-1)


def split(data: bytes) -> list[bytes]:
    """Return the ``.tlc`` files of a chunk.

    Raises
    ------
    CorruptStream
        When the lengths do not fit.
    """
    if data[: len(MAGIC)] != MAGIC:
        return [data]
    count = int.from_bytes(data[4:8], "little")
    begin = 8 + 4 * count
    if begin > len(data):
        raise CorruptStream(f"a stack of {count} pictures in {len(data)} bytes")
    lengths = struct.unpack_from(f"<{count}I", data, 8)
    if begin + sum(lengths) != len(data):
        raise CorruptStream(
            f"pictures of {sum(lengths)} bytes in a stack of {len(data)}",
            expected=f"{len(data) - begin}",
        )
    streams = []
    for length in lengths:
        streams.append(data[begin : begin + length])
        begin += length
    return streams


def shaped(pictures: Sequence[Pixels], shape: Sequence[int]) -> Pixels:
    """Return pictures as a chunk of a shape.

    Raises
    ------
    CorruptStream
        When they are of other sizes.
    """
    if len(shape) >= 3 and shape[-1] == ALPHA:
        pictures = [_with_alpha(picture) for picture in pictures]
    if sum(picture.size for picture in pictures) != math.prod(shape):
        found = ", ".join(sorted({str(picture.shape) for picture in pictures}))
        raise CorruptStream(
            f"{len(pictures)} pictures of shape {found}", expected=f"a chunk of {tuple(shape)}"
        )
    return np.stack(pictures).reshape(shape)
