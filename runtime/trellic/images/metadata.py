"""ICC, EXIF and XMP of a Pillow image, and the orientation that EXIF or XMP ask for.

The orientation is applied to the pixels, so every copy of the tag is set to 1 (upright), in place:
all other bytes, maker notes and thumbnails included, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.images.picture import warn

if TYPE_CHECKING:
    from PIL import Image

UPRIGHT = 1
EXIF_PREFIX = b"Exif\0\0"  # before the TIFF header, in JPEG files and in Pillow's info
_ORIENTATION_TAG = 0x0112
_INTEGER_BYTES = {1: 1, 3: 2, 4: 4}  # TIFF type -> bytes: BYTE, SHORT, LONG
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])")

# Tags of a TIFF file's first directory that describe the photo rather than the storage: image
# description, make, model, software, date, artist, copyright. Then the EXIF and GPS directories.
_TIFF_TAGS = (270, 271, 272, 305, 306, 315, 33432)
_TIFF_DIRECTORIES = (0x8769, 0x8825)


_ByteOrder = Literal["little", "big"]


class Metadata(NamedTuple):
    """Metadata of one picture, upright, and how it has to be turned."""

    orientation: int  # 1 to 8, as in EXIF
    icc: bytes | None
    exif: bytes | None  # from the TIFF header on
    xmp: bytes | None


def metadata_of(image: Image.Image) -> Metadata:
    """Collect the metadata of an image whose pixels are loaded.

    Parameters
    ----------
    image : PIL.Image.Image
        Any image; loaded, because Pillow turns TIFF images, and fills in some fields, on loading.

    Returns
    -------
    Metadata
        Orientation tags found are reported in ``orientation`` and reset in the bytes.
    """
    exif = _raw_exif(image)
    xmp = _raw_xmp(image)
    found = _find_orientation(exif) if exif else None
    if exif and found:
        start, stop, order = found
        orientation = int.from_bytes(exif[start:stop], order)
        exif = exif[:start] + UPRIGHT.to_bytes(stop - start, order) + exif[stop:]
    else:
        match = _XMP_ORIENTATION.search(xmp or b"")
        orientation = int(match[2]) if match else UPRIGHT
    if xmp:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    icc = image.info.get("icc_profile")
    return Metadata(orientation, icc if isinstance(icc, bytes) and icc else None, exif, xmp)


def turn(samples: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an array upright.

    Parameters
    ----------
    samples : ndarray, shape (H, W) or (H, W, C)
        Rows and columns as stored.
    orientation : int
        EXIF orientation; anything but 2 to 8 means upright already.

    Returns
    -------
    ndarray
        A view, or a copy, of the same dtype.
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def about_the_photo(read: Callable[[], Image.Exif]) -> bytes | None:
    """Copy from EXIF what is about the photo, leaving out what is about the layout of its file.

    Parameters
    ----------
    read : callable
        Makes the EXIF to copy from; if it fails, or the copy does, there is a warning.

    Returns
    -------
    bytes or None
        Without the orientation, with Pillow's prefix. None if nothing is left.
    """
    from PIL import Image

    kept = Image.Exif()
    try:
        source = read()
        for tag in _TIFF_TAGS:
            if tag in source:
                kept[tag] = source[tag]
        for directory in _TIFF_DIRECTORIES:
            if entries := source.get_ifd(directory):
                kept[directory] = dict(entries)
        return kept.tobytes() if len(kept) else None
    except Exception:  # Pillow raises nearly anything on a damaged directory
        warn("the EXIF data is damaged and was left out")
        return None


def _raw_exif(image: Image.Image) -> bytes | None:
    exif = image.info.get("exif")
    if exif is None and hasattr(image, "tag_v2"):
        exif = _exif_of_tiff(image)
    elif exif is None and "Raw profile type exif" in image.info:
        exif = _hex_profile(image.info["Raw profile type exif"])
    exif = exif.removeprefix(EXIF_PREFIX) if isinstance(exif, bytes) else b""
    if exif and _byte_order(exif) is None:
        warn("the EXIF data is damaged and was left out")
        return None
    return exif or None


def _hex_profile(text: object) -> bytes | None:
    """Read EXIF as ImageMagick once stored it in PNG: three lines of heading, then hex digits."""
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:]))
    except ValueError:
        return None


def _exif_of_tiff(image: Image.Image) -> bytes | None:
    """Make EXIF of a TIFF image, whose own directory mixes it with the layout of the file."""
    return about_the_photo(image.getexif)


def _raw_xmp(image: Image.Image) -> bytes | None:
    for key in ("xmp", "XML:com.adobe.xmp"):
        value = image.info.get(key)
        if isinstance(value, str):
            value = value.encode("utf-8", "replace")
        if isinstance(value, bytes) and value:
            return value
    return None


def _byte_order(exif: bytes) -> _ByteOrder | None:
    """Read the byte order in the TIFF header that EXIF data begin with."""
    orders: dict[bytes, _ByteOrder] = {b"II*\0": "little", b"MM\0*": "big"}
    return orders.get(exif[:4])


def _find_orientation(exif: bytes) -> tuple[int, int, _ByteOrder] | None:
    """Find the orientation in EXIF data: (start, stop, byte order) of a valid value, or None."""
    order = _byte_order(exif)
    if order is None:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    directory = number(4, 4)
    for entry in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if entry + 12 > len(exif):
            break
        size = _INTEGER_BYTES.get(number(entry + 2, 2))
        if number(entry, 2) == _ORIENTATION_TAG and size and 1 <= number(entry + 8, size) <= 8:
            return entry + 8, entry + 8 + size, order
    return None
