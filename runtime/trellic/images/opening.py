"""Read a picture file: recognise it, bound it, then let Pillow decode it."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

import numpy as np

from trellic.constants import MAX_PIXELS
from trellic.errors import BadImage, ImageTooLarge
from trellic.images import bands, jpeg
from trellic.images.checked import opened
from trellic.images.faults import unreadable
from trellic.images.modes import from_pil, load, raw_modes_of
from trellic.images.picture import Picture, check_size, warn
from trellic.images.sniff import describe, picture_format
from trellic.support.files import read_bytes

if TYPE_CHECKING:
    from PIL import Image

# Pillow may use only these, because some of its other readers run programs (EPS) or are stubs.
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
_SUFFIXES = (
    ".png .apng .jpg .jpeg .jpe .jfif .webp .tif .tiff .gif .bmp .dib .ppm .pgm .pbm .pnm .jp2 "
    ".j2k .jpx .jpf .jpc .qoi .avif .avifs"
)
_FOREIGN = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTE = {";16B": ";16L", ";16L": ";16B", ";16N": f";16{_FOREIGN}"}


def readable() -> tuple[str, ...]:
    """Usual suffixes of pictures that can be read, in lower case, with the dot."""
    return tuple(_SUFFIXES.split())


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
        If it is not such a picture, is damaged, or has no 8-bit RGB or grey equivalent.
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side.
    OSError
        If the file cannot be read.
    """
    return from_bytes(read_bytes(path), max_pixels)


def from_bytes(data: bytes, max_pixels: int = MAX_PIXELS, *, arrays: bool = False) -> Picture:
    """Decode a picture file in memory.

    Parameters
    ----------
    data : bytes
        The whole file.
    max_pixels : int
        Most pixels allowed, checked before they are decoded.
    arrays : bool
        NumPy files will do too: a caller has to expect other bands than red, green and blue.

    Returns
    -------
    Picture
        Upright, with metadata.

    Raises
    ------
    BadImage, ImageTooLarge
        See `read`.
    """
    if arrays and data.startswith(bands.SIGNATURE):
        return bands.npy_picture(data, max_pixels)
    if picture_format(data) != "JPEG" or jpeg.has_end(data):
        return _decode(data, max_pixels)
    picture = _jpeg_without_end(data, max_pixels)
    warn("a JPEG file without its end marker: nothing else is missing")
    return picture


def size_of(data: bytes, *, arrays: bool = False) -> tuple[int, int, bool]:
    """Return width and height as stored, and whether samples have 16 bits, without decoding.

    Parameters
    ----------
    data : bytes
        The whole file.
    arrays : bool
        NumPy files will do too.

    Raises
    ------
    BadImage
        See `read`.
    """
    if arrays and data.startswith(bands.SIGNATURE):
        return *bands.npy_size(data), False
    with _open(data) as image:
        deep = image.mode.startswith("I") or any(";16" in raw for raw in raw_modes_of(image))
        return *image.size, deep


def _decode(data: bytes, max_pixels: int) -> Picture:
    with _open(data) as image:
        check_size(*image.size, max_pixels)
        if "LA;16B" in raw_modes_of(image):
            image.tile = _tiles_as(image, "RGBA")  # type: ignore[attr-defined]
            return from_pil(image, max_pixels, image, data)
        low_tiles = _tiles_of_low_bytes(image)
        if low_tiles is None:
            return from_pil(image, max_pixels, None, data)
        with _open(data) as low:
            low.tile = low_tiles  # type: ignore[attr-defined]
            return from_pil(image, max_pixels, low, data)


def _jpeg_without_end(data: bytes, max_pixels: int) -> Picture:
    """Decode a JPEG file that lacks only its end marker."""
    variants = jpeg.with_ends(data)
    first = None
    for variant in variants:
        with _open(variant) as image:
            check_size(*image.size, max_pixels)
            load(image)
            pixels = np.asarray(image)
        first = pixels if first is None else first
        if not np.array_equal(first, pixels):
            first = None
            break
    if first is None:
        raise unreadable("JPEG", "it ends before its picture does", data)
    return _decode(variants[0], max_pixels)


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
        return opened(data, name)  # max_pixels applies here, not the program's limit for Pillow
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLarge(str(error)) from error
    except UnidentifiedImageError as error:
        raise unreadable(name, _reason(name, data), data) from error
    except Exception as error:  # Pillow raises nearly anything on damaged data
        raise unreadable(name, str(error), data) from error


def _reason(name: str, data: bytes) -> str:
    """Return why the reader of a format cannot open a file, which `PIL.Image.open` does not say."""
    from PIL import Image

    try:
        Image.OPEN[name][0](io.BytesIO(data), "")
    except MemoryError:
        raise
    except Exception as error:
        return str(error)
    return ""


def _tiles_of_low_bytes(image: Image.Image) -> list[object] | None:
    """Describe to Pillow how to read the lower bytes of 16-bit colour, of which it keeps the upper.

    Pillow has no 16-bit colour: it unpacks ``RGB;16B`` (big endian) by taking each first byte.
    The other byte order's name therefore yields the lower bytes.
    """
    modes = raw_modes_of(image)
    if image.mode not in ("RGB", "RGBA") or not modes:
        return None
    names = []
    for mode in modes:
        other = _OTHER_BYTE.get(mode[-4:])
        if other is None or mode[:-4] not in ("RGB", "RGBA", "RGBX"):
            return None
        names.append(mode[:-4] + other)
    return _tiles_as(image, *names)


def _tiles_as(image: Image.Image, *names: str) -> list[object]:
    """Return an image's tiles under other names of their layout."""
    tiles = []
    for tile, name in zip(image.tile, names, strict=True):  # type: ignore[attr-defined]
        arguments = name if isinstance(tile[3], str) else (name, *tile[3][1:])
        make = getattr(type(tile), "_make", tuple)  # a named tuple since Pillow 11
        tiles.append(make((*tile[:3], arguments)))
    return tiles
