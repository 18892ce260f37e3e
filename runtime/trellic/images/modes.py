"""Pillow images of every mode to a `Picture`: grey stays grey, alpha is split off."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from trellic.constants import COLOURS, MAX_PIXELS
from trellic.errors import BadImage
from trellic.images.bands import from_bands
from trellic.images.colour import profile, space_of
from trellic.images.convert import from_cmyk
from trellic.images.facts import bytes_of, facts_of
from trellic.images.faults import unreadable
from trellic.images.metadata import load_unturned, metadata_of, profile_of, turn
from trellic.images.picture import Picture, Pixels, check_size, from_array, warn
from trellic.images.samples import Reading, to_8_bits

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
_OPTIONAL = ("lzma", "zstd", "webp", "tiff_jpeg", "tiff_thunderscan")  # codecs of libtiff
_STRIP = 512  # rows


class SupportsArray(Protocol):
    """An object that NumPy converts to an array: a tensor of torch on the CPU, a JAX array."""

    def __array__(self) -> npt.NDArray[Any]:
        """Return the array."""


ImageLike: TypeAlias = "npt.NDArray[Any] | SupportsArray | Image.Image | Picture"


def from_any(
    image: ImageLike, max_pixels: int | None = MAX_PIXELS, bands: int = COLOURS
) -> Picture:
    """Make a picture of an array or a Pillow image.

    Parameters
    ----------
    image : ndarray, anything that has ``__array__``, PIL.Image.Image or Picture
        See `trellic.images.picture.from_array` for arrays. Pillow images of any mode but float
        and Lab; their EXIF orientation is applied and reset. A picture is returned as it is.
    max_pixels : int, optional
        Most pixels allowed.
    bands : int
        Those of a model; with other ones than red, green and blue only arrays of them will do.

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
        return _of_array(image, max_pixels, bands)
    # A caller with a Pillow image has imported Pillow; others need not wait for the import.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(image, pillow.Image):
        if bands != COLOURS:
            raise BadImage(f"a Pillow image for a model of {bands} bands", expected="an array")
        return from_pil(image, max_pixels)
    if hasattr(image, "__array__"):
        try:
            array = np.asarray(image)
        except (TypeError, ValueError, RuntimeError) as error:  # torch: a GPU, bfloat16, gradients
            raise BadImage(
                f"a {type(image).__name__} that NumPy cannot read ({error})",
                expected="8-bit values in the host's memory",
                remedy="of torch: tensor.detach().cpu(), rounded and of dtype torch.uint8",
            ) from error
        return _of_array(array, max_pixels, bands)
    raise BadImage(
        f"an object of type {type(image).__name__}",
        expected="a NumPy array or a Pillow image",
        remedy="read a file with trellic.images.read(path)"
        if isinstance(image, (str, bytes)) or hasattr(image, "__fspath__")
        else "",
    )


def _of_array(array: npt.NDArray[Any], max_pixels: int | None, bands: int) -> Picture:
    if bands == COLOURS:
        return from_array(array, max_pixels)
    return from_bands(array, bands, max_pixels)


def several(batch: Iterable[ImageLike]) -> list[ImageLike]:
    """Make a list of the pictures of a batch.

    Raises
    ------
    BadImage
        If it is a single picture, whose rows would be coded as pictures, or not a picture at all.
    """
    shape = tuple(getattr(batch, "shape", ()))
    one = len(shape) == 2 or (len(shape) == 3 and shape[2] <= 4)
    if one or isinstance(batch, (str, bytes)) or not isinstance(batch, Iterable):
        seen = f"one array of shape {shape}" if one else f"an object of type {type(batch).__name__}"
        raise BadImage(seen, expected="several pictures", remedy="put it into a list: [image]")
    return list(batch)


def from_pil(
    image: Image.Image,
    max_pixels: int | None = MAX_PIXELS,
    low: Image.Image | None = None,
    data: bytes | None = None,
    given: Mapping[str, Any] | None = None,
) -> Picture:
    """Make a picture of a Pillow image.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded or not.
    max_pixels : int, optional
        Most pixels allowed.
    low : PIL.Image.Image, optional
        For 16-bit colour, which Pillow cuts to its upper bytes: an image of the lower bytes.
    data : bytes, optional
        The file of the image; read from the image if that has not been loaded.
    given : mapping, optional
        Metadata in place of the image's own; see `trellic.images.metadata.metadata_of`.

    Returns
    -------
    Picture
        Upright, with metadata.

    Raises
    ------
    BadImage, ImageTooLarge
        See `from_any`.
    BadParameter
        If metadata in ``given`` is not bytes.
    """
    given = given or {}
    check_size(*image.size, max_pixels)
    _refuse_closed(image)
    facts = facts_of(image, bytes_of(image) if data is None else data)
    raw_modes = raw_modes_of(image)
    if _has_more_frames(image):
        number = "the first" if image.tell() == 0 else f"number {image.tell() + 1}"
        warn(f"an animation or several pages: only {number} is coded")
    load(image)
    own = profile_of(image) or facts.icc
    orientation, icc, exif, xmp = metadata_of(image, given, own)
    if image.mode == "CMYK":
        image = from_cmyk(image, own)
        icc = icc if "icc_profile" in given else None
    colour, alpha = _pixels(image, low, facts.reading, raw_modes)
    for loss in facts.losses:
        warn(loss)
    icc = _fitting(icc, grey=colour.ndim == 2)
    if icc is None and facts.space is not None and "icc_profile" not in given:
        icc = profile(facts.space, grey=colour.ndim == 2)
    alpha = None if alpha is None else turn(alpha, orientation)
    return Picture(turn(colour, orientation), alpha, icc, exif, xmp)


def _pixels(
    image: Image.Image, low: Image.Image | None, reading: Reading, raw_modes: list[str]
) -> tuple[Pixels, Pixels | None]:
    """Return 8-bit colour and alpha of a loaded image, with a warning if it was deeper."""
    if low is not None:
        load(low)
        samples = _joined(image, low)
    else:
        samples = _samples(image)
    deep = reading.bits > 8 or any(";16" in raw for raw in raw_modes)
    if deep or samples.dtype != np.uint8:
        warn(f"{reading.bits if reading.bits > 8 else 16}-bit samples rounded to 8 bits")
    key = None if image.mode == "P" else _key(image, raw_modes)
    colour, alpha = _split(samples, key, reading)
    if "LA;16B" in raw_modes and low is None:  # Pillow reads 16-bit grey and alpha of PNG as RGBA
        colour = colour[..., 0]
    return colour, alpha


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
    """Load the pixels of an image, with one kind of error for all of Pillow's errors."""
    try:
        load_unturned(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged data
        raise unreadable(image.format or "image", _told(image, error), bytes_of(image)) from error


def _told(image: Image.Image, error: Exception) -> str:
    """Return Pillow's message, or a better one if Pillow lacks a codec."""
    compression = image.info.get("compression")
    if image.format == "TIFF" and compression in _OPTIONAL:
        return f"compression {compression} is not supported, or the file is cut off"
    return str(error)


def _refuse_closed(image: Image.Image) -> None:
    if getattr(image, "tile", None) and getattr(image, "fp", image) is None:
        raise BadImage(
            "a Pillow image that was closed before its pixels were loaded",
            remedy="use it before it is closed, or call its load() first",
        )


def _joined(image: Image.Image, low: Image.Image) -> npt.NDArray[Any]:
    """Join upper and lower bytes; those of grey and alpha were read as the four of RGBA."""
    if low is image:
        joined = np.array(image).view(">u2").astype(np.uint16)
    else:
        joined = (np.array(image).astype(np.uint16) << 8) | np.array(low)
    return joined


def _key(image: Image.Image, raw_modes: list[str]) -> tuple[int, ...] | None:
    """Return the clear colour of a PNG file, in the form of Pillow's pixels."""
    key = image.info.get("transparency")
    key = (key,) if isinstance(key, int) else key
    if not isinstance(key, tuple):
        return None
    bits = next((int(raw[2:]) for raw in raw_modes if raw in ("L;2", "L;4")), 8)
    if image.mode.startswith("I") or any(";16" in raw for raw in raw_modes):
        bits = 16
    top = (1 << bits) - 1
    return tuple((int(value) & top) * (255 // top if bits < 8 else 1) for value in key)


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
    """Copy 8-bit samples in strips, because Pillow makes two more copies of a whole image."""
    channels = len(image.getbands())
    samples = np.empty((image.height, image.width, channels), np.uint8)
    image.load()
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        # Not image.crop: before Pillow 13 it refuses images over Pillow's own limit, not over ours.
        strip = np.asarray(image._new(image.im.crop((0, top, image.width, bottom))))
        samples[top:bottom] = strip.reshape(bottom - top, image.width, channels)
    return samples[..., 0] if channels == 1 else samples


def _is_32_bit_tiff(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return 32 in tags.get(258, ())  # BitsPerSample


def _narrow(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Convert 32-bit integers to the 16-bit samples that some readers store in them."""
    if samples.min() < 0 or samples.max() > 65535:
        raise BadImage(
            f"32-bit integer pixels from {samples.min()} to {samples.max()}",
            expected="samples in 0..65535",
            remedy="scale them to 0..255 and convert to mode L",
        )
    return samples.astype(np.uint16)


def _split(
    samples: npt.NDArray[Any], key: tuple[int, ...] | None, reading: Reading
) -> tuple[Pixels, Pixels | None]:
    """Split samples into 8-bit colour and alpha; ``key`` is the colour that PNG calls clear."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    alpha = None
    if channels in (2, 4):
        alpha = to_8_bits(samples[..., -1], reading._replace(inverted=False))
        samples = samples[..., 0] if channels == 2 else samples[..., :3]
    elif key is not None and len(key) == channels:
        clear = (samples.reshape(*samples.shape[:2], channels) == np.array(key)).all(axis=-1)
        alpha = np.where(clear, 0, 255).astype(np.uint8)
    return to_8_bits(samples, reading), alpha


def _fitting(icc: bytes | None, *, grey: bool) -> bytes | None:
    """Return a profile, unless it is for another kind of pixels, as after a conversion."""
    space = space_of(icc) if icc else ""
    if space in ("", "RGB") or (space == "GRAY" and grey):
        return icc
    warn(f"a colour profile of {space} does not fit the pixels and was left out")
    return None
