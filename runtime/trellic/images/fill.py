"""Colours under alpha 0: nobody sees them, so they are made what costs the least to code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.images.picture import Picture, Pixels

_Sums = npt.NDArray[np.float32]


def fill_clear(picture: Picture) -> Picture:
    """Replace the colours of clear pixels by a smooth continuation of those that are seen.

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
    clear = picture.alpha == 0
    if not clear.any() or clear.all():
        return picture
    planes = picture.pixels[..., None] if picture.grey else picture.pixels
    filled = _filled(planes, ~clear)
    pixels = np.where(clear[..., None], filled, planes)
    pixels = pixels[..., 0] if picture.grey else pixels
    return Picture(
        np.ascontiguousarray(pixels), picture.alpha, picture.icc, picture.exif, picture.xmp
    )


def _filled(planes: Pixels, seen: npt.NDArray[np.bool_]) -> Pixels:
    """Fill from coarser and coarser means of what is seen, ("pull" and "push")."""
    sums = _halved(np.where(seen[..., None], planes, 0))
    weights = _halved(seen[..., None].astype(np.uint8))
    means = _smooth(sums, weights)
    return np.rint(_doubled(means, seen.shape)).astype(np.uint8)


def _smooth(sums: _Sums, weights: _Sums) -> _Sums:
    """Return the means of sums by weights, continued to where nothing is seen."""
    seen = weights > 0
    means: _Sums = (sums / np.maximum(weights, 1)).astype(np.float32)
    if seen.all():
        return means
    # Each place that is seen counts alike: a few pixels at an edge tell as much as many.
    coarse = _smooth(_halved(means), _halved(seen))
    return np.where(seen, means, _doubled(coarse, seen.shape[:2])).astype(np.float32)


def _halved(array: npt.NDArray[np.generic]) -> _Sums:
    """Sum blocks of 2 x 2, those at the end being smaller where sides are odd."""
    height, width = array.shape[:2]
    rows = np.add.reduceat(array.astype(np.float32, copy=False), np.arange(0, height, 2), axis=0)
    return np.add.reduceat(rows, np.arange(0, width, 2), axis=1)


def _doubled(array: _Sums, shape: tuple[int, ...]) -> _Sums:
    """Interpolate linearly to twice the size."""
    for axis in (0, 1):
        padded = np.pad(array, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode="edge")
        before, here, after = (
            np.take(padded, range(i, i + array.shape[axis]), axis=axis) for i in range(3)
        )
        near = np.stack([0.75 * here + 0.25 * before, 0.75 * here + 0.25 * after], axis=axis + 1)
        doubled = list(array.shape)
        doubled[axis] *= 2
        array = near.reshape(doubled)
    return array[: shape[0], : shape[1]].astype(np.float32, copy=False)
