"""The picture as the codec sees it: 8-bit samples, optional alpha, metadata as bytes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from trellic.constants import COLOURS, MAX_PIXELS, MAX_SIDE, Bands
from trellic.errors import BadImage, ImageTooLarge, TrellicWarning
from trellic.support import bounds

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture, ready to be coded or just decoded.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W, 3), (H, W), (H, W, 4) or (H, W, 8)
        RGB or grey samples, upright, in the colour space that ``icc`` names (sRGB without one); or
        those of other bands.
    alpha : ndarray of uint8, shape (H, W), optional
        Opacity, 0 (clear) to 255 (opaque), not premultiplied.
    icc, exif, xmp : bytes, optional
        Metadata as found. EXIF begins with its TIFF header (no ``Exif`` prefix) and its
        orientation, like that of the XMP, is 1 (upright).

    Raises
    ------
    BadImage
        If an array has the wrong type, dtype or shape, or is empty, or if metadata is not bytes.
    ImageTooLarge
        If a side is longer than 65535 pixels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        """Check types, dtypes and shapes."""
        self._check_types()
        shape = self.pixels.shape
        bands = get_args(Bands)
        fits = len(shape) == 2 or (len(shape) == 3 and shape[2] in bands)
        if self.pixels.dtype != np.uint8 or not fits:
            raise BadImage(
                f"pixels of dtype {self.pixels.dtype} and shape {shape}",
                expected="uint8 of shape (H, W, 3) or (H, W)",
            )
        check_size(shape[1], shape[0])
        alpha = self.alpha
        if alpha is not None and self.bands not in (1, COLOURS):
            raise BadImage(f"alpha beside {self.bands} bands", expected="none")
        if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != shape[:2]):
            raise BadImage(
                f"alpha of dtype {alpha.dtype} and shape {alpha.shape}",
                expected=f"uint8 of shape {shape[:2]}",
            )

    def _check_types(self) -> None:
        for name in ("pixels", "alpha"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) and (name == "pixels" or value is not None):
                raise BadImage(
                    f"{name} of type {type(value).__name__}",
                    expected="a NumPy array",
                    remedy="convert it with numpy.asarray",
                )
        for name in ("icc", "exif", "xmp"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, bytes):
                raise BadImage(f"{name} of type {type(value).__name__}", expected="bytes, or None")

    @property
    def height(self) -> int:
        """Rows, in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns, in pixels."""
        return int(self.pixels.shape[1])

    @property
    def grey(self) -> bool:
        """Whether there is one sample per pixel instead of three."""
        return self.pixels.ndim == 2

    @property
    def bands(self) -> int:
        """Samples of a pixel, without alpha: 1 if grey, 3 in colour, or those of a model."""
        return 1 if self.grey else int(self.pixels.shape[2])

    @property
    def mode(self) -> str:
        """Name of the Pillow mode that holds the picture: L, LA, RGB or RGBA; else the bands."""
        if self.bands not in (1, COLOURS):
            return f"{self.bands} bands"
        return ("L" if self.grey else "RGB") + ("A" if self.alpha is not None else "")


def check_size(width: int, height: int, max_pixels: int | None = None) -> None:
    """Refuse a picture that is empty or too large, before any memory is taken for it.

    Parameters
    ----------
    width, height : int
        Sides in pixels.
    max_pixels : int, optional
        Most pixels that the caller allows.

    Raises
    ------
    BadImage
        If a side is 0.
    ImageTooLarge
        If a side is over 65535 or there are more than ``max_pixels`` pixels.
    """
    if width < 1 or height < 1:
        raise BadImage(f"an empty picture of {width}x{height} pixels", expected="at least 1x1")
    if max(width, height) > MAX_SIDE:
        raise ImageTooLarge(
            f"a picture of {width}x{height} pixels", expected=f"at most {MAX_SIDE} pixels a side"
        )
    max_pixels = bounds.most_pixels(max_pixels, width * height)
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLarge(
            f"a picture of {width}x{height} = {width * height} pixels",
            expected=f"at most {max_pixels} pixels",
            remedy="raise --max-pixels (max_pixels in Python) if you trust it",
        )


def warn(message: str) -> None:
    """Give one `TrellicWarning`, attributed to the caller of the function that warns."""
    warnings.warn(message, TrellicWarning, stacklevel=3)


def round_to_8_bits(samples: npt.NDArray[Any]) -> Pixels:
    """Round 16-bit samples to 8 bits: 0 to 0, 65535 to 255, ties upwards.

    Parameters
    ----------
    samples : ndarray of an integer type
        Values in [0, 65535].

    Returns
    -------
    ndarray of uint8
        ``round(samples / 257)``; 257 = 65535 / 255.
    """
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def from_array(array: npt.NDArray[Any], max_pixels: int | None = MAX_PIXELS) -> Picture:
    """Make a picture from an array, without a copy if possible.

    Parameters
    ----------
    array : ndarray of uint8 or uint16
        Shape (H, W) or (H, W, 1) is grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB
        and alpha. 16-bit samples are rounded to 8 bits, with a warning.
    max_pixels : int, optional
        Most pixels allowed.

    Returns
    -------
    Picture
        Without metadata.

    Raises
    ------
    BadImage
        If dtype or shape is none of the above.
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side.
    """
    if array.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
        raise BadImage(
            f"an array of dtype {array.dtype}",
            expected="uint8 (or uint16)",
            remedy="scale the values to 0..255 and convert with .astype(numpy.uint8)",
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise BadImage(
            f"an array of shape {array.shape}",
            expected="(H, W), (H, W, 2), (H, W, 3) or (H, W, 4)",
            remedy="move the channels last: numpy.moveaxis(array, 0, -1)" if first else "",
        )
    check_size(array.shape[1], array.shape[0], max_pixels)
    if array.dtype == np.uint16:
        warn("16-bit samples rounded to 8 bits")
        array = round_to_8_bits(array)
    planes = array[..., None] if array.ndim == 2 else array
    channels = planes.shape[2]
    colour = planes[..., 0] if channels < 3 else planes[..., :3]
    alpha = None if channels in (1, 3) else np.ascontiguousarray(planes[..., -1])
    return Picture(np.ascontiguousarray(colour), alpha)


def to_array(picture: Picture) -> Pixels:
    """Return the samples of a picture as one array, the inverse of `from_array`.

    Parameters
    ----------
    picture : Picture
        Any picture.

    Returns
    -------
    ndarray of uint8
        (H, W) grey, (H, W, 3) RGB, (H, W, 2) grey and alpha, or (H, W, 4) RGB and alpha.
    """
    if picture.alpha is None:
        return picture.pixels
    return np.dstack([picture.pixels, picture.alpha])
