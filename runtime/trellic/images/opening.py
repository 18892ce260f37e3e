"""Read a picture file: recognise it, bound it, then let Pillow decode it."""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
from typing import TYPE_CHECKING

from trellic.constants import MAX_PIXELS
from trellic.errors import BadImage, ImageTooLarge
from trellic.images.modes import from_pil, raw_modes_of
from trellic.images.picture import Picture, check_size
from trellic.images.sniff import describe, picture_format
from trellic.support.files import read_bytes

if TYPE_CHECKING:
    from PIL import Image

# Only these are offered to Pillow: some of its other readers run programs (EPS) or are stubs.
# Importing the one plugin saves the 0.1 s that importing all of them takes.
_PLUGINS = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "PPM": "PpmImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "QOI": "QoiImagePlugin",
    "AVIF": "AvifImagePlugin",
}
_FOREIGN = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": f";16{_FOREIGN}"}
_pillow_limit = threading.Lock()


def read(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture file.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, WebP, TIFF, GIF, BMP, PPM, JPEG 2000, QOI or AVIF file; the suffix is ignored.
    max_pixels : int
        Most pixels allowed, checked before they are decoded.

    Returns
    -------
    Picture
        Upright, with metadata.

    Raises
    ------
    BadImage
        If it is no such picture, is damaged, or has no 8-bit RGB or grey equivalent.
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side.
    OSError
        If the file cannot be read.
    """
    return from_bytes(read_bytes(path), max_pixels)


def from_bytes(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture file that is in memory.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Most pixels allowed, checked before they are decoded.

    Returns
    -------
    Picture
        Upright, with metadata.

    Raises
    ------
    BadImage, ImageTooLarge
        See `read`.
    """
    with _open(data) as image:
        check_size(*image.size, max_pixels)
        low_tiles = _tiles_of_low_bytes(image)
        if low_tiles is None:
            return from_pil(image, max_pixels)
        with _open(data) as low:
            low.tile = low_tiles  # type: ignore[attr-defined]
            return from_pil(image, max_pixels, low)


def size_of(data: bytes) -> tuple[int, int, bool]:
    """Return width and height as stored, and whether samples have 16 bits, without decoding.

    Raises
    ------
    BadImage
        See `read`.
    """
    with _open(data) as image:
        return *image.size, any(";16" in raw for raw in raw_modes_of(image))


def _open(data: bytes) -> Image.Image:
    """Read the header of a picture."""
    from PIL import Image, UnidentifiedImageError

    name = picture_format(data)
    if name is None:
        raise BadImage(describe(data), expected="a PNG, JPEG, WebP, TIFF or another picture")
    try:
        importlib.import_module(f"PIL.{_PLUGINS[name]}")
    except ImportError as error:
        raise BadImage(
            f"{describe(data)}, which this version of Pillow does not read",
            remedy="pip install --upgrade pillow",
        ) from error
    try:
        with _pillow_limit:  # max_pixels holds here, whatever limit the program has for Pillow
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(io.BytesIO(data), formats=[name])
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except UnidentifiedImageError as error:
        raise BadImage(
            f"a truncated or damaged {name} file", remedy="get a whole copy of it"
        ) from error
    except Exception as error:  # Pillow raises nearly anything on damaged data
        raise BadImage(
            f"a truncated or damaged {name} file ({error})", remedy="get a whole copy of it"
        ) from error


def _tiles_of_low_bytes(image: Image.Image) -> list[object] | None:
    """Describe to Pillow how to read the lower bytes of 16-bit colour, of which it keeps the upper.

    Pillow has no 16-bit colour: it unpacks ``RGB;16B`` (big endian) by taking each first byte.
    The other byte order's name therefore yields the lower bytes. 16-bit grey and alpha, four
    bytes a pixel, has no such twin.
    """
    modes = raw_modes_of(image)
    if image.mode not in ("RGB", "RGBA") or not modes:
        return None
    tiles = []
    for tile, mode in zip(image.tile, modes, strict=True):  # type: ignore[attr-defined]
        other = _OTHER_BYTE.get(mode[-4:])
        if other is None or mode not in ("RGB" + mode[-4:], "RGBA" + mode[-4:]):
            return None
        rest = tile[3]
        raw = mode[:-4] + other
        arguments = raw if isinstance(rest, str) else (raw, *rest[1:])
        make = getattr(type(tile), "_make", tuple)  # a named tuple since Pillow 11
        tiles.append(make((*tile[:3], arguments)))
    return tiles
