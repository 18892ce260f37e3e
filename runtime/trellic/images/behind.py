"""A picture on a colour, for formats without transparency."""

from __future__ import annotations

import numpy as np

from trellic.errors import BadParameter
from trellic.images.picture import Picture

_STRIP = 512  # rows at a time


def colour_of(text: str, *, grey: bool = False) -> tuple[int, ...]:
    """Return the samples of an opaque colour, 0 to 255: red, green and blue, or its brightness.

    Parameters
    ----------
    text : a name such as ``white``, ``#rrggbb``, or what else Pillow's ImageColor takes

    Raises
    ------
    BadParameter
        When it is no colour, or is not opaque.
    """
    from PIL import ImageColor

    try:
        found = ImageColor.getrgb(text)
        opaque = len(found) == 3 and max(found) <= 255  # Pillow takes rgb(300,0,0)
    except ValueError:
        opaque = False
    if not opaque:
        raise BadParameter(f"the colour {text!r}", expected="a name such as white, or #rrggbb")
    samples = ImageColor.getcolor(text, "L" if grey else "RGB")
    return samples if isinstance(samples, tuple) else (samples,)


def on_colour(picture: Picture, colour: str) -> Picture:
    """Put a picture on a colour.

    Parameters
    ----------
    picture : any picture; a grey one stays grey
    colour : as for `colour_of`, in the colour space of the picture

    Returns
    -------
    the same picture if it has no alpha; otherwise a new one without, with the same metadata

    Raises
    ------
    BadParameter
        As of `colour_of`.
    """
    behind = np.array(colour_of(colour, grey=picture.grey), np.uint16)
    if picture.alpha is None:
        return picture
    pixels = np.empty_like(picture.pixels)
    planes, flat = (array.reshape(*picture.alpha.shape, -1) for array in (picture.pixels, pixels))
    for top in range(0, picture.height, _STRIP):
        rows = slice(top, top + _STRIP)
        alpha = picture.alpha[rows, :, None].astype(np.uint16)
        flat[rows] = (planes[rows] * alpha + behind * (255 - alpha) + 127) // 255
    return Picture(pixels, None, picture.icc, picture.exif, picture.xmp)
