"""Pictures of other bands than red, green and blue: arrays, and NumPy files of arrays.

A NumPy file holds bands and never alpha: four samples of a pixel are four bands. They are 8-bit
samples; 16-bit ones are refused, because rounding them is the user's choice.
"""

from __future__ import annotations

import io
import math
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt

from trellic.constants import COLOURS, MAX_PIXELS, Bands
from trellic.errors import BadImage
from trellic.images.picture import Picture, check_size, to_array

SIGNATURE: Final = b"\x93NUMPY"
SUFFIX: Final = ".npy"
BANDS: Final[tuple[int, ...]] = get_args(Bands)
_HEADER: Final = 4096  # characters of a file's header at most


def from_bands(array: npt.NDArray[Any], bands: int, max_pixels: int | None = MAX_PIXELS) -> Picture:
    """Make a picture of so many bands from an array, without a copy if possible.

    Parameters
    ----------
    array : ndarray of uint8
        Shape (H, W, bands).
    bands : int
        Samples of a pixel, as the model has them.
    max_pixels : int, optional
        Most pixels allowed.

    Returns
    -------
    Picture
        Without alpha and metadata.

    Raises
    ------
    BadImage
        If shape or dtype is another.
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side.
    """
    _check_samples(array.dtype)
    if array.ndim != 3 or array.shape[2] != bands:
        raise BadImage(
            f"an array of shape {array.shape}",
            expected=f"(H, W, {bands}), for a model of {bands} bands",
        )
    check_size(array.shape[1], array.shape[0], max_pixels)
    return Picture(np.ascontiguousarray(array))


def from_npy(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Return the array of a NumPy file in memory.

    Raises
    ------
    BadImage
        If it is damaged, or no uint8 array of shape (H, W) or (H, W, bands).
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side, before memory is taken.
    """
    shape, in_columns, start = _header(data)
    check_size(shape[1], shape[0], max_pixels)
    if len(data) - start != math.prod(shape):
        raise BadImage(
            f"a NumPy file with {len(data) - start} bytes of samples",
            expected=f"{math.prod(shape)}, for the shape {shape}",
        )
    samples = np.frombuffer(data, np.uint8, offset=start)
    return samples.reshape(shape, order="F" if in_columns else "C")


def npy_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Return the picture of a NumPy file; errors are those of `from_npy`."""
    return Picture(np.ascontiguousarray(from_npy(data, max_pixels)))


def npy_size(data: bytes) -> tuple[int, int]:
    """Return width and height of a NumPy file; errors are those of `from_npy`."""
    height, width = _header(data)[0][:2]
    return width, height


def to_npy(picture: Picture) -> bytes:
    """Return the samples of a picture as a NumPy file.

    Raises
    ------
    BadImage
        If it has alpha, which such a file would make a band.
    """
    if picture.alpha is not None:
        raise BadImage(f"a picture of mode {picture.mode} as a NumPy file", expected="no alpha")
    file = io.BytesIO()
    np.save(file, to_array(picture), allow_pickle=False)
    return file.getvalue()


def check_bands(picture: Picture, bands: int, model: str) -> None:
    """Refuse a picture that a model is not for; one of three bands takes grey pictures too.

    Raises
    ------
    BadImage
        If it has other bands, or has alpha beside bands.
    """
    if picture.bands == bands or (picture.grey and bands == COLOURS):
        return
    what = "a grey picture" if picture.grey else f"a picture of {picture.bands} bands"
    raise BadImage(
        what,
        expected=f"{bands} bands, which the model {model!r} codes",
        remedy="name another model, or keep the bands that it is for",
    )


def _header(data: bytes) -> tuple[tuple[int, ...], bool, int]:
    """Return the shape of a file, whether columns come first, and where samples begin."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = np.lib.format.read_array_header_1_0
        read = read if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(file, max_header_size=_HEADER)
    except Exception as error:  # NumPy parses text, which can fail in many ways
        reason = " ".join(str(error).split())[:200]
        raise BadImage(f"a NumPy file that cannot be read ({reason})") from error
    _check_samples(dtype)
    if not all(type(side) is int and side >= 0 for side in shape):
        raise BadImage(f"a NumPy file of shape {shape}", expected="whole numbers")
    if len(shape) not in (2, 3) or shape[2:] not in ((), *((count,) for count in BANDS)):
        raise BadImage(
            f"a NumPy file of shape {shape}",
            expected=f"(H, W), or (H, W, bands) with {', '.join(map(str, BANDS))} bands",
        )
    return shape, in_columns, file.tell()


def _check_samples(dtype: np.dtype[Any]) -> None:
    if dtype == np.uint16:
        raise BadImage(
            "samples of 16 bits, but the range of latents, the scale of qualities and the tables "
            "are made for 8",
            expected="uint8",
            remedy="scale them to 0..255 first, as the use of the picture asks",
        )
    if dtype != np.uint8:
        raise BadImage(f"samples of type {dtype}", expected="uint8")
