"""The float transforms in an engine: whole for small pictures, in overlapping tiles for large ones.

A tile has a halo as wide as the network's reach, so tiles give the same as the whole picture, up to
the last bits of a float. At the picture's own edge there is no halo, as in the whole picture. The
reach follows from the network's kernels; the bundle states it (`trellic_export.bundle`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trellic.constants import COLOURS
from trellic.engines import Engine
from trellic.errors import EngineError
from trellic.geometry import Plane, Rectangle, Window
from trellic.support import bounds

Pixels = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

TILE = 64  # latents a side: 1024 pixels
WHOLE = 1.5  # an area of no more than the square of 1.5 tiles is not cut


class Latents(Protocol):
    """An array (channels, rows, columns), or an object that gives windows of one on demand."""

    def __getitem__(self, window: Window, /) -> Float32:
        """Return a window."""


def told(engine: Engine, quality: float) -> Engine:
    """Return an engine that gets the quality of a level, for a network that sees it."""
    beside = {"quality": np.array([quality], np.float32)}
    return lambda inputs: engine({**inputs, **beside})


def analysis(
    engine: Engine,
    pixels: Pixels,
    plane: Plane,
    latents: int,
    halo: int,
    tile: int = TILE,
) -> Float32:
    """g_a on a picture, which is padded by its last row and column to whole hyper-latents.

    Parameters
    ----------
    pixels : uint8 (height, width, bands), or (height, width) for three equal channels
    latents : number of latent channels
    halo : reach of the network, in pixels
    tile : side of a tile in latents, a multiple of 4

    Returns
    -------
    float32 (latents, rows, columns), before the gain
    """
    margin = -(-halo // plane.hyper_stride) * plane.cell
    out = np.empty((latents, *plane.latents), np.float32)
    for window, inner in tiles(all_of(plane), plane, margin, tile):
        image = _padded(pixels, window.finer(plane.stride))
        result = engine({"image": image[None]})[0][0]
        out[_all(inner)] = result[_all(inner, window)]
    return out


def hyper_analysis(
    engine: Engine, latents: Float32, plane: Plane, halo: int, tile: int = TILE
) -> Float32:
    """h_a on latents before their gain.

    Parameters
    ----------
    latents : float32 (channels, rows, columns)
    halo : reach of the network, in latents; 0 for no tiles, if a bundle does not state it
    tile : side of a tile in latents, a multiple of 4

    Returns
    -------
    float32 (hyper, rows / cell, columns / cell), before the gain
    """
    margin = -(-halo // plane.cell) * plane.cell
    area = all_of(plane)
    out = np.empty((0, *plane.hyper), np.float32)
    for window, inner in tiles(area, plane, margin, tile) if halo else [(area, area)]:
        part = np.ascontiguousarray(latents[_all(window)])
        result = engine({"latents": part[None]})[0][0]
        if not len(out):
            out = np.empty((len(result), *plane.hyper), np.float32)
        cells = inner.coarser(plane.cell)
        out[_all(cells)] = result[_all(cells, window.coarser(plane.cell))]
    return out


def synthesis(
    engine: Engine,
    latents: Latents,
    plane: Plane,
    halo: int,
    *,
    region: Rectangle | None = None,
    scale: int = 1,
    bands: int = COLOURS,
    tile: int = TILE,
) -> Pixels:
    """g_s on latents.

    Parameters
    ----------
    latents : float32 (channels, rows, columns), gains already divided out; windows of it are read
        in the order of `tiles`
    halo : reach of the network, in latents
    region : in pixels of the full size, inside the picture; all of it if left out
    scale : the network's pictures are of 1 / scale of the size
    bands : samples of a pixel; 1 for the mean of three
    tile : side of a tile, in latents

    Returns
    -------
    uint8 (height, width, bands), or (height, width) for one, of the region, at 1 / scale of its
    size, rounded outwards

    Raises
    ------
    EngineError
        When the network's picture has another size or type.
    """
    region = (region or Rectangle(0, plane.height, 0, plane.width)).coarser(scale)
    stride = plane.stride // scale
    grey, made = bands == 1, max(bands, COLOURS)
    out = np.empty(region.shape if grey else (*region.shape, bands), np.uint8)
    for window, inner in tiles(region.coarser(stride), plane, halo, tile):
        part = np.ascontiguousarray(latents[_all(window)])
        result = engine({"latents": part[None]})[0]
        shape = (1, *window.finer(stride).shape, made)
        if result.shape != shape or result.dtype != np.uint8:
            raise EngineError(
                f"the decoder made {result.dtype} {result.shape} of a tile",
                expected=f"uint8 {shape}",
                remedy="the bundle is wrong: install it again, or use another decoder",
            )
        kept = inner.finer(stride).within(region)
        result = result[0][kept.index(window.finer(stride))]
        out[kept.index(region)] = _mean(result) if grey else result
    return out


def all_of(plane: Plane) -> Rectangle:
    """Rectangle of all latents of a picture."""
    rows, columns = plane.latents
    return Rectangle(0, rows, 0, columns)


def by_rows(area: Rectangle) -> bool:
    """Whether the tiles of an area come row by row (column by column otherwise).

    Rows are along the shorter side, so that little has to be kept from one row to the next.
    """
    rows, columns = area.shape
    return rows >= columns


def tiles(
    area: Rectangle, plane: Plane, halo: int, side: int
) -> Iterator[tuple[Rectangle, Rectangle]]:
    """Cut an area of the latent plane into tiles.

    Yields
    ------
    window : a tile with its halo, as far as the plane reaches
    inner : the part of it that is kept; these parts together are the area

    Raises
    ------
    Stopped
        Between two tiles, when a time limit has passed (see `trellic.support.bounds`).
    """
    down, across = (side, side) if area.area > (WHOLE * side) ** 2 else area.shape
    corners = [
        (top, left)
        for top in range(area.top, area.bottom, down)
        for left in range(area.left, area.right, across)
    ]
    if not by_rows(area):
        corners.sort(key=lambda corner: corner[::-1])
    for top, left in corners:
        bounds.check()
        inner = Rectangle(top, top + down, left, left + across).within(area)
        yield inner.grown(halo).within(all_of(plane)), inner


def _padded(pixels: Pixels, window: Rectangle) -> Pixels:
    """All channels of a window of a picture, its last row and column repeated beyond it."""
    height, width = pixels.shape[:2]
    part = pixels[window.within(Rectangle(0, height, 0, width)).index()]
    if part.ndim == 2:
        part = np.repeat(part[:, :, None], 3, axis=2)
    missing = [max(0, window.bottom - height), max(0, window.right - width), 0]
    return np.pad(part, [(0, count) for count in missing], "edge")


def _all(part: Rectangle, origin: Rectangle | None = None) -> Window:
    """Index of a rectangle in all channels."""
    return (slice(None), *part.index(origin))


def _mean(pixels: Pixels) -> Pixels:
    """Mean of the three channels, rounded."""
    total = pixels.astype(np.uint16).sum(2)
    mean: Pixels = ((2 * total + 3) // 6).astype(np.uint8)
    return mean
