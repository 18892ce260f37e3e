"""Make a picture smaller: to fit into a size, or by a factor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic.images.picture import Picture, to_array

_GAP = 3.0  # Pillow first averages blocks down to this many times the size: fast, and not visible


@dataclass(frozen=True)
class Fit:
    """A smaller size; pictures keep their proportions and are never enlarged.

    Parameters
    ----------
    box : (width, height) in pixels that the result fits in
    scale : in place of it, a factor over 0 and at most 1

    Raises
    ------
    BadParameter
        When not exactly one of them is given, or it is out of range.
    """

    box: tuple[int, int] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if (self.box is None) == (self.scale is None):
            raise BadParameter("a size and a scale", expected="one of them")
        if self.box is not None and min(self.box) < 1:
            raise BadParameter(f"a size of {self.box[0]}x{self.box[1]}", expected="at least 1x1")
        if self.scale is not None and not 0 < self.scale <= 1:
            raise BadParameter(f"scale {self.scale!r}", expected="a number over 0, at most 1")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the result for those of a picture."""
        factor = self.factor(width, height)
        return max(1, round(width * factor)), max(1, round(height * factor))

    def factor(self, width: int, height: int) -> float:
        """Return the factor, at most 1, that both sides of a picture are multiplied with."""
        if self.box is None:
            return self.scale or 1.0
        return min(self.box[0] / width, self.box[1] / height, 1.0)


def resized(picture: Picture, size: tuple[int, int]) -> Picture:
    """Resize a picture in its own colour space; colours of clear pixels do not affect others.

    Parameters
    ----------
    picture : any picture
    size : width and height in pixels

    Returns
    -------
    the same picture if it has that size; otherwise a new one, with the same metadata
    """
    if size == (picture.width, picture.height):
        return picture
    if picture.bands not in (1, COLOURS):
        raise BadParameter(f"a size for a picture of {picture.mode}", expected="its own size")
    from PIL import Image

    image = Image.fromarray(to_array(picture))
    small = np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=_GAP))
    alpha = None
    if picture.alpha is not None:
        small, alpha = small[..., :-1], np.ascontiguousarray(small[..., -1])
        small = small[..., 0] if picture.grey else small
    return Picture(np.ascontiguousarray(small), alpha, picture.icc, picture.exif, picture.xmp)
