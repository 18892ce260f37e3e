"""Pillow images of every mode to a `Picture`: grey stays grey, alpha is split off."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from trellic.constants import MAX_PIXELS
from trellic.errors import BadImage
from trellic.images.metadata import Metadata, metadata_of, turn
from trellic.images.picture import Picture, Pixels, check_size, from_array, round_to_8_bits, warn

if TYPE_CHECKING:
    from PIL import Image

_CONVERTED = {  # modes that Pillow turns, without loss or choice, into one of ours
    "1": "L",
    "La": "LA",
    "PA": "RGBA",
    "RGBa": "RGBA",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
}
_STRIP = 512  # rows
_DEEP = "16-bit samples rounded to 8 bits"


def from_any(image: object, max_pixels: int = MAX_PIXELS) -> Picture:
    """Make a picture of an array or a Pillow image.

    Parameters
    ----------
    image : ndarray, PIL.Image.Image or Picture
        See `trellic.images.picture.from_array` for arrays. Pillow images of any mode but float
        and Lab; their EXIF orientation is applied and reset. A picture is returned as it is.
    max_pixels : int
        Most pixels allowed.

    Returns
    -------
    Picture
        With the metadata of a Pillow image.

    Raises
    ------
    BadImage
        If it is none of these, cannot be read, or has no 8-bit RGB or grey equivalent.
    ImageTooLarge
        If it exceeds ``max_pixels`` or 65535 a side.
    """
    if isinstance(image, Picture):
        check_size(image.width, image.height, max_pixels)
        return image
    if isinstance(image, np.ndarray):
        return from_array(image, max_pixels)
    # Who holds a Pillow image has imported Pillow; nobody else has to pay for it.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image):
        return from_pil(image, max_pixels)
    raise BadImage(
        f"an object of type {type(image).__name__}",
        expected="a NumPy array or a Pillow image",
        remedy="read a file with trellic.images.read(path)"
        if isinstance(image, (str, bytes)) or hasattr(image, "__fspath__")
        else "",
    )


def from_pil(
    image: Image.Image, max_pixels: int = MAX_PIXELS, low: Image.Image | None = None
) -> Picture:
    """Make a picture of a Pillow image.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded or not.
    max_pixels : int
        Most pixels allowed.
    low : PIL.Image.Image, optional
        For 16-bit colour, which Pillow cuts to its upper bytes: an image of the lower bytes.

    Returns
    -------
    Picture
        Upright, with metadata.

    Raises
    ------
    BadImage, ImageTooLarge
        See `from_any`.
    """
    check_size(*image.size, max_pixels)
    raw_modes = raw_modes_of(image)
    deep = any(";16" in raw for raw in raw_modes)
    grey_alpha = "LA;16B" in raw_modes  # Pillow reads 16-bit grey and alpha of PNG as RGBA
    if _has_more_frames(image):
        warn("an animation or several pages: only the first is coded")
    load(image)
    metadata = metadata_of(image)
    if image.mode == "CMYK":
        image, metadata = _from_cmyk(image, metadata), metadata._replace(icc=None)
    if deep and low is not None:
        load(low)
        samples = (np.array(image).astype(np.uint16) << 8) | np.array(low)
    else:
        samples = _samples(image)
    if deep or samples.dtype != np.uint8:
        warn(_DEEP)
    colour, alpha = _split(samples, None if image.mode == "P" else image.info.get("transparency"))
    if grey_alpha:
        colour = colour[..., 0]
    orientation, icc, exif, xmp = metadata
    return Picture(
        turn(colour, orientation),
        None if alpha is None else turn(alpha, orientation),
        icc,
        exif,
        xmp,
    )


def raw_modes_of(image: Image.Image) -> list[str]:
    """Names of the storage layouts of an image not loaded yet, such as ``'RGB;16B'``."""
    modes = []
    for tile in getattr(image, "tile", None) or []:
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        modes.append(first if isinstance(first, str) else "")
    return modes


def _has_more_frames(image: Image.Image) -> bool:
    """Tell whether other frames or pages are left out; an MPO file's others are mere previews."""
    try:
        return bool(getattr(image, "is_animated", False)) and image.format != "MPO"
    except Exception:  # Pillow counts frames by reading them; damage shows when this one is loaded
        return False


def load(image: Image.Image) -> None:
    """Load the pixels of an image, with one kind of error for all that Pillow may raise."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged data
        kind = image.format or "image"
        raise BadImage(
            f"a truncated or damaged {kind} file ({error})", remedy="get a whole copy of it"
        ) from error


def _samples(image: Image.Image) -> npt.NDArray[Any]:
    """Turn a loaded image into samples: (H, W) or (H, W, 2 to 4), uint8, or uint16 if deep."""
    mode = image.mode
    if mode.startswith("I;16"):
        return np.array(image).astype(np.uint16)
    if mode == "I":
        if _is_32_bit_tiff(image):
            raise BadImage(
                "a TIFF file of 32-bit integers, whose white is not known",
                expected="8-bit or 16-bit samples",
                remedy="scale them to 0..65535 and save 16 bits",
            )
        return _narrow(np.array(image))
    if mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif mode in _CONVERTED:
        image = image.convert(_CONVERTED[mode])
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        float_remedy = "scale it to 0..255 and convert it to mode L or RGB"
        raise BadImage(
            "floating-point pixels (mode F)" if mode == "F" else f"pixels of mode {mode}",
            expected="8-bit or 16-bit grey or RGB",
            remedy=float_remedy if mode == "F" else "convert it to RGB first",
        )
    return _copy_of(image)


def _copy_of(image: Image.Image) -> Pixels:
    """Copy 8-bit samples in strips: all at once, Pillow makes two more copies on the way."""
    channels = len(image.getbands())
    samples = np.empty((image.height, image.width, channels), np.uint8)
    image.load()
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        # Not image.crop: before Pillow 13 that refuses what is over Pillow's own limit, not ours.
        strip = np.asarray(image._new(image.im.crop((0, top, image.width, bottom))))
        samples[top:bottom] = strip.reshape(bottom - top, image.width, channels)
    return samples[..., 0] if channels == 1 else samples


def _is_32_bit_tiff(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return 32 in tags.get(258, ())  # BitsPerSample


def _narrow(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Take 32-bit integers as the 16-bit samples that some readers store in them."""
    if samples.min() < 0 or samples.max() > 65535:
        raise BadImage(
            f"32-bit integer pixels from {samples.min()} to {samples.max()}",
            expected="samples in 0..65535",
            remedy="scale them to 0..255 and convert to mode L",
        )
    return samples.astype(np.uint16)


def _split(samples: npt.NDArray[Any], key: object) -> tuple[Pixels, Pixels | None]:
    """Split samples into 8-bit colour and alpha; ``key`` is the colour that PNG calls clear."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    alpha = None
    if channels in (2, 4):
        alpha = samples[..., -1]
        samples = samples[..., 0] if channels == 2 else samples[..., :3]
    elif isinstance(key, int) or (isinstance(key, tuple) and len(key) == channels):
        clear = (samples.reshape(*samples.shape[:2], channels) == np.array(key)).all(axis=-1)
        alpha = np.where(clear, 0, 255).astype(np.uint8)
    if samples.dtype != np.uint8:
        samples = round_to_8_bits(samples)
    if alpha is not None and alpha.dtype != np.uint8:
        alpha = round_to_8_bits(alpha)
    return samples, alpha


def _from_cmyk(image: Image.Image, metadata: Metadata) -> Image.Image:
    """Convert CMYK to sRGB by the profile embedded in the file."""
    from PIL import ImageCms

    if metadata.icc is None:
        raise BadImage(
            "a CMYK picture without a colour profile",
            expected="RGB or grey, or CMYK with its ICC profile",
            remedy="convert it to RGB in an image editor",
        )
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc))
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise BadImage(
            f"a CMYK picture with an unusable colour profile ({error})",
            remedy="convert it to RGB in an image editor",
        ) from error
    return cast("Image.Image", converted)  # None only with inPlace
