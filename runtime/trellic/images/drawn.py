"""Blocks of a picture that look drawn, such as text on a flat ground, and fewer colours."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

FLAT = 0.5  # of a block's pixels equal their left neighbour, and as many their upper one
SHARP = 24  # a drawn block has neighbours that differ by so much in a channel
DRAWN = 0.15  # of a picture's blocks at least are drawn, or it counts as a photo
FEW = 16  # colours of a block, such as of a pattern of dots
GLANCE = 16  # every so many rows show whether a picture can be drawn at all
GLANCED = 0.3  # of their pixels equal their left neighbour
_ROWS = 512  # at a time, so that memory stays small: a multiple of every side of blocks


def drawn_blocks(pixels: Pixels, side: int) -> Mask:
    """Return the blocks of a picture that are flat or have few colours; none of a photo.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width)
    side : of a block, in pixels

    Returns
    -------
    bool (ceil(height / side), ceil(width / side))
    """
    rows = pixels[::GLANCE]
    equal = rows[:, 1:] == rows[:, :-1]
    if (equal.all(2) if equal.ndim == 3 else equal).sum() < GLANCED * rows.shape[0] * rows.shape[1]:
        return np.zeros((-(-len(pixels) // side), -(-pixels.shape[1] // side)), np.bool_)
    flat, sharp = features(pixels, side)
    if (flat & sharp).sum() < DRAWN * flat.size:
        return np.zeros_like(flat)
    drawn: Mask = flat.copy()
    for row, column in np.argwhere(~flat):
        block = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        drawn[row, column] = _colours(block) <= FEW
    return drawn


def features(pixels: Pixels, side: int) -> tuple[Mask, Mask]:
    """Return which blocks of a picture are flat, and which have a sharp edge."""
    found = [
        _features(pixels[max(top - 1, 0) : top + _ROWS], min(top, 1), side)
        for top in range(0, len(pixels), _ROWS)
    ]
    flat, sharp = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return flat, sharp


def _colours(block: Pixels) -> int:
    packed: npt.NDArray[Any] = block.astype(np.uint32)
    if block.ndim == 3:
        packed = packed[..., 0] << 16 | packed[..., 1] << 8 | packed[..., 2]
    return len(np.unique(packed))


def _features(pixels: Pixels, above: int, side: int) -> tuple[Mask, Mask]:
    """Return which blocks of some rows are flat, and which are sharp; ``above``: rows before."""
    down = _steps(pixels, 0)[above:]
    right = _steps(pixels[above:], 1)
    sizes = _sums(np.ones(down.shape, np.uint16), side)
    equal = [_sums((steps == 0).astype(np.uint16), side) for steps in (down, right)]
    flat = np.minimum(*equal) >= FLAT * sizes
    sharp = _sums((np.maximum(down, right) >= SHARP).astype(np.uint16), side) > 0
    return flat, sharp


def _steps(pixels: Pixels, axis: int) -> Pixels:
    """Largest difference of a channel from the pixel before; 0 for the first."""
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    lines = np.moveaxis(planes, axis, 0)
    steps = np.zeros(lines.shape[:2], np.uint8)
    larger, smaller = np.maximum(lines[1:], lines[:-1]), np.minimum(lines[1:], lines[:-1])
    steps[1:] = (larger - smaller).max(axis=2)
    return np.moveaxis(steps, 0, axis)


def _sums(plane: npt.NDArray[np.uint16], side: int) -> npt.NDArray[np.uint32]:
    rows = np.add.reduceat(plane, np.arange(0, plane.shape[0], side), 0, np.uint32)
    return np.add.reduceat(rows, np.arange(0, plane.shape[1], side), 1)


def fewer_colours(pixels: Pixels, most: int) -> Pixels:
    """Return a picture with at most so many colours, and frequent colours unchanged.

    Pillow's median cut and k-means group the colours. A group whose commonest colour has three
    quarters of the pixels gets that colour, so that white stays white; others get their mean.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width)
    most : 2 to 256
    """
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    rgb = np.asarray(image)
    grouped = image.quantize(
        most, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE
    )
    group = np.asarray(grouped)
    packed = (rgb.astype(np.uint32) << np.array([24, 16, 8], np.uint32)).sum(2, dtype=np.uint32)
    pairs, counts = np.unique(packed | group, return_counts=True)
    of, palette = pairs & 0xFF, np.zeros((256, 3), np.uint8)
    for number in np.unique(of):
        own, weight = pairs[of == number], counts[of == number]
        colours = np.stack([own >> 24, own >> 16 & 0xFF, own >> 8 & 0xFF], 1)
        common = weight.argmax()
        mean = np.rint((colours * weight[:, None]).sum(0) / weight.sum())
        palette[number] = colours[common] if 4 * weight[common] >= 3 * weight.sum() else mean
    result: Pixels = palette[group]
    return result if pixels.ndim == 3 else result[..., 1]
