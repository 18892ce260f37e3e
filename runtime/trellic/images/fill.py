"""Colours under alpha 0: nobody sees them, so they get values that cost little to code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.images.picture import Picture, Pixels

_Mask = npt.NDArray[np.bool_]
_STRIP = 512  # rows at a time, of the whole picture


def fill_clear(picture: Picture) -> Picture:
    """Replace the colours of clear pixels by a smooth continuation of the visible ones.

    Parameters
    ----------
    picture : Picture
        Any picture.

    Returns
    -------
    Picture
        The same alpha; other pixels only where it is 0.
    """
    if picture.alpha is None:
        return picture
    seen = picture.alpha != 0
    if seen.all() or not seen.any():
        return picture
    pixels = fill_unseen(picture.pixels, seen)
    return Picture(pixels, picture.alpha, picture.icc, picture.exif, picture.xmp)


def fill_unseen(pixels: Pixels, seen: _Mask) -> Pixels:
    """Replace pixels that nobody sees by a smooth continuation of the others.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width)
    seen : bool (height, width)
    """
    if seen.all():
        return pixels
    if not seen.any():
        return np.full_like(pixels, pixels.mean().round())
    grey = pixels.ndim == 2
    filled = _filled(pixels[..., None] if grey else pixels, seen)
    return filled[..., 0] if grey else filled


def _filled(planes: Pixels, seen: _Mask) -> Pixels:
    """Fill from means of visible pixels, at half the size."""
    means = _smooth(*_halved(planes, seen))
    result = planes.copy()
    for top in range(0, len(planes), _STRIP):
        rows = slice(top, top + _STRIP)
        first = max(top // 2 - 1, 0)  # one more row on either side, for interpolation
        wider = _doubled(means[first : (top + _STRIP) // 2 + 1])
        part = wider[top - 2 * first :][: len(result[rows]), : planes.shape[1]]
        result[rows] = np.where(seen[rows, :, None], planes[rows], part)
    return result


def _smooth(means: Pixels, seen: _Mask) -> Pixels:
    """Continue means to places without visible pixels, from coarser and coarser ones."""
    if seen.all():
        return means
    coarse = _doubled(_smooth(*_halved(means, seen)))
    return np.where(seen[..., None], means, coarse[: means.shape[0], : means.shape[1]])


def _halved(means: Pixels, seen: _Mask) -> tuple[Pixels, _Mask]:
    """Return the means of visible pixels in blocks of 2 x 2, and where there are any."""
    height, width = (seen.shape[0] + 1) // 2, (seen.shape[1] + 1) // 2
    sums = np.zeros((height, width, means.shape[2]), np.uint16)
    counts = np.zeros((height, width, 1), np.uint16)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        corner = seen[y::2, x::2, None]
        here = np.s_[: corner.shape[0], : corner.shape[1]]
        sums[here] += means[y::2, x::2] * corner
        counts[here] += corner
    sums += counts // 2
    sums //= np.maximum(counts, 1)
    return sums.astype(np.uint8), counts[..., 0] > 0


def _doubled(array: Pixels) -> Pixels:
    """Interpolate linearly to twice the size."""
    for axis in (0, 1):
        lines = np.moveaxis(array, axis, 0).astype(np.uint16)
        before = np.concatenate([lines[:1], lines[:-1]])
        after = np.concatenate([lines[1:], lines[-1:]])
        doubled = np.empty((2 * len(lines), *lines.shape[1:]), np.uint8)
        doubled[::2] = (3 * lines + before + 2) // 4
        doubled[1::2] = (3 * lines + after + 2) // 4
        array = np.moveaxis(doubled, 0, axis)
    return array
