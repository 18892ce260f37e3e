"""The free transforms in an engine: whole for small pictures, in overlapping tiles for large ones.

A tile carries a halo as wide as the network's reach, so tiles give what the whole gives, up to the
last bits of a float; at the picture's own edge there is no halo, as there is none in the whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .engines import Engine
from .layout import HYPER_STRIDE, STRIDE, Plane

Pixels = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

TILE = 64  # latents a side: 1024 pixels
WHOLE = 96 * 96  # latents; a plane of no more is not cut


def pad(pixels: Pixels, plane: Plane) -> Pixels:
    """Repeat the last row and column until both sides are multiples of the hyper-stride."""
    height, width = plane.padded
    missing = [(0, height - pixels.shape[0]), (0, width - pixels.shape[1]), (0, 0)]
    return np.pad(pixels, missing, "edge")


def analysis(engine: Engine, pixels: Pixels, plane: Plane, latents: int, halo: int) -> Float32:
    """g_a on a picture.

    Parameters
    ----------
    pixels : uint8 (height, width, 3), not yet padded
    latents : number of latent channels
    halo : reach of the network, in pixels

    Returns
    -------
    float32 (latents, rows, columns), before the gain
    """
    rows, columns = plane.latents
    margin = -(-halo // HYPER_STRIDE) * (HYPER_STRIDE // STRIDE)
    out = np.empty((latents, rows, columns), np.float32)
    for top, bottom, left, right, inner in _tiles(rows, columns, margin):
        window = pixels[top * STRIDE : bottom * STRIDE, left * STRIDE : right * STRIDE]
        padded = _pad_to(window, (bottom - top) * STRIDE, (right - left) * STRIDE, pixels)
        result = engine({"image": padded[None]})[0][0]
        y0, y1, x0, x1 = inner
        out[:, y0:y1, x0:x1] = result[:, y0 - top : y1 - top, x0 - left : x1 - left]
    return out


def synthesis(engine: Engine, latents: Float32, plane: Plane, halo: int) -> Pixels:
    """g_s on latents.

    Parameters
    ----------
    latents : float32 (channels, rows, columns), gains already divided out
    halo : reach of the network, in latents

    Returns
    -------
    uint8 (height, width, 3), cropped to the picture
    """
    rows, columns = plane.latents
    out = np.empty((plane.height, plane.width, 3), np.uint8)
    for top, bottom, left, right, inner in _tiles(rows, columns, halo):
        window = np.ascontiguousarray(latents[:, top:bottom, left:right])
        result = engine({"latents": window[None]})[0][0]
        y0, y1, x0, x1 = (STRIDE * v for v in inner)
        y1, x1 = min(y1, plane.height), min(x1, plane.width)
        dy, dx = STRIDE * top, STRIDE * left
        out[y0:y1, x0:x1] = result[y0 - dy : y1 - dy, x0 - dx : x1 - dx]
    return out


def _pad_to(window: Pixels, height: int, width: int, pixels: Pixels) -> Pixels:
    """Repeat edge pixels; a window that lies wholly outside repeats the picture's own edge."""
    if 0 in window.shape:
        raise ValueError(f"a tile of shape {window.shape} lies outside {pixels.shape}")
    missing = [(0, height - window.shape[0]), (0, width - window.shape[1]), (0, 0)]
    return np.pad(window, missing, "edge") if any(m[1] for m in missing) else window


def _tiles(
    rows: int, columns: int, halo: int
) -> Iterator[tuple[int, int, int, int, tuple[int, int, int, int]]]:
    """Yield (top, bottom, left, right, inner): a window, and the part of it that is kept."""
    if rows * columns <= WHOLE:
        yield 0, rows, 0, columns, (0, rows, 0, columns)
        return
    for y in range(0, rows, TILE):
        for x in range(0, columns, TILE):
            inner = (y, min(y + TILE, rows), x, min(x + TILE, columns))
            yield (
                max(inner[0] - halo, 0),
                min(inner[1] + halo, rows),
                max(inner[2] - halo, 0),
                min(inner[3] + halo, columns),
                inner,
            )
