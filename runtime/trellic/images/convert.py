"""Pixels to sRGB, by their ICC profile if they have one."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trellic.images.colour import Space, profile, space_of
from trellic.images.picture import Picture, Pixels, warn

if TYPE_CHECKING:
    from PIL import Image

_STRIP = 512  # rows converted at a time
_SAME = 1  # steps by which two conversions of the same colour may differ
_LEVELS = 9  # of each channel in the colours that tell whether a profile is that of sRGB


def from_cmyk(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert CMYK to sRGB by its profile; without one as browsers do, with a warning.

    Parameters
    ----------
    image : PIL.Image.Image
        Of mode CMYK.
    icc : bytes, optional
        The profile in its file.

    Returns
    -------
    PIL.Image.Image
        Of mode RGB.
    """
    what = "a CMYK picture without a colour profile"
    if icc:
        try:
            return cast("Image.Image", _transform(icc, "CMYK", "RGB", None)(image))
        except (OSError, ValueError, ImportError) as error:
            what = f"a CMYK picture with an unusable colour profile ({error})"
    warn(f"{what}: its colours were converted as browsers do and may be off")
    return image.convert("RGB")


def to_srgb(picture: Picture) -> Picture:
    """Convert a picture that is about to lose its profile.

    Parameters
    ----------
    picture : Picture
        Any picture.

    Returns
    -------
    Picture
        Without a profile; the same pixels if they are sRGB already, or, with a warning, if the
        profile cannot be used.
    """
    if picture.icc is None:
        return picture
    own = space_of(picture.icc)
    grey = picture.grey and own == "GRAY"
    source, target = ("L", "L") if grey else ("RGB", "RGB")
    pixels = picture.pixels
    if own in ("GRAY", "RGB"):
        try:
            output = profile(Space(), grey=True) if grey else None
            apply = _transform(picture.icc, source, target, output)
            pixels = _converted(pixels, apply, grey=grey)
        except (OSError, ValueError, ImportError) as error:
            warn(f"an unusable colour profile ({error}): colours were left as they are")
    return Picture(pixels, picture.alpha, None, picture.exif, picture.xmp)


def _transform(icc: bytes, source: str, target: str, output: bytes | None) -> Any:
    """Return a function from images of one mode to another.

    Raises
    ------
    ValueError, OSError, ImportError
        If the profile cannot be used for it.
    """
    from PIL import ImageCms

    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    precise = ImageCms.Flags.NOOPTIMIZE if source == "L" else ImageCms.Flags.NONE
    try:
        into = ImageCms.createProfile("sRGB") if output is None else io.BytesIO(output)
        transform = ImageCms.buildTransform(
            io.BytesIO(icc), cast("Any", into), source, target, relative, precise
        )
    except ImageCms.PyCMSError as error:
        raise ValueError(str(error)) from error
    return transform.apply


def _converted(pixels: Pixels, apply: Any, *, grey: bool) -> Pixels:
    """Convert pixels in strips, if that changes any of some sample colours."""
    from PIL import Image

    def convert(part: Pixels) -> Pixels:
        single = part.ndim == 2
        image = Image.fromarray(part)
        result = np.asarray(apply(image if grey or not single else image.convert("RGB")))
        return result if grey or not single else np.ascontiguousarray(result[..., 1])

    levels = np.linspace(0, 255, _LEVELS).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(*[levels] * 3), axis=-1).reshape(-1, _LEVELS, 3)
    sample = np.repeat(levels[None], 2, axis=0) if pixels.ndim == 2 else cube
    if np.abs(convert(sample).astype(int) - sample).max() <= _SAME:
        return pixels
    result = np.empty_like(pixels)
    for top in range(0, len(pixels), _STRIP):
        result[top : top + _STRIP] = convert(pixels[top : top + _STRIP])
    return result
