"""Latents of one quality as an encoder would have made them for another.

An encoder that sees the quality (`sees_quality`) scales and shifts its latents with it, so latents
of a file of quality 90 are not what the model expects at quality 60. A patch of the picture shows
the difference: it is decoded, and encoded at both qualities. Each channel gets a line that gives
its latents the mean and the deviation of the other quality.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trellic.constants import DEFAULT_DECODER
from trellic.engines.pool import EnginePool
from trellic.geometry import Plane, Rectangle
from trellic.model.bundle import Bundle
from trellic.pipeline import transforms

Float32 = npt.NDArray[np.float32]

PATCH = 256  # pixels a side, at most: 256 latents of each channel of the model `photo`
FLAT = 1e-6  # of a channel's mean square: with less variance there is no slope to measure


class Matcher:
    """Turns latents of a file into those of another quality.

    Parameters
    ----------
    bundle, pool : the model and its engines
    f : float32 (channels, rows, columns), latents before their gain
    plane : of the picture
    quality : of the level that they were made for
    """

    def __init__(
        self, bundle: Bundle, pool: EnginePool, f: Float32, plane: Plane, quality: float
    ) -> None:
        self._bundle, self._pool, self._f, self._quality = bundle, pool, f, quality
        self._sees = _needs_matching(bundle)
        if self._sees:
            graph = bundle.manifest.decoders[DEFAULT_DECODER].graph
            part = _patch(plane)
            engine = transforms.told(pool.decoder(DEFAULT_DECODER), quality)
            bands = bundle.manifest.layout.bands
            self._pixels = transforms.synthesis(
                engine, f, plane, graph.halo, region=part, bands=bands
            )
            self._before = self._analysed(quality)

    def at(self, quality: float) -> Float32:
        """Return latents before their gain, matched to a level of this quality."""
        if not self._sees or quality == self._quality:
            return self._f
        slope, offset = lines(self._before, self._analysed(quality))
        return self._f * slope[:, None, None] + offset[:, None, None]

    def _analysed(self, quality: float) -> Float32:
        height, width = self._pixels.shape[:2]
        layout, encoder = self._bundle.manifest.layout, self._bundle.manifest.encoder
        plane = layout.plane(width, height)
        g_a = transforms.told(self._pool.encoder(), quality)
        return transforms.analysis(g_a, self._pixels, plane, layout.latents, encoder.halo)


def lines(x: Float32, y: Float32) -> tuple[Float32, Float32]:
    """Fit ``y = slope * x + offset`` for each channel, so that means and deviations are equal.

    Least squares would shrink noisy channels, and the search would then shrink them again.

    Parameters
    ----------
    x, y : float32 (channels, rows, columns)

    Returns
    -------
    slope, offset : float32 (channels,); the slope of a flat channel is 1
    """
    flat_x, flat_y = (plane.reshape(len(plane), -1).astype(np.float64) for plane in (x, y))
    mean_x, mean_y = flat_x.mean(1), flat_y.mean(1)
    dx, dy = flat_x - mean_x[:, None], flat_y - mean_y[:, None]
    variance = (dx**2).mean(1)
    flat = variance <= FLAT * (flat_x**2).mean(1)
    ratio = np.sqrt((dy**2).mean(1) / np.where(flat, 1, variance))
    slope = np.where(flat, 1, np.where((dx * dy).mean(1) < 0, -ratio, ratio))
    return slope.astype(np.float32), (mean_y - slope * mean_x).astype(np.float32)


def _needs_matching(bundle: Bundle) -> bool:
    """Whether latents depend on the quality, and there is a decoder to measure how."""
    decoder = bundle.manifest.decoders.get(DEFAULT_DECODER)
    whole = decoder is not None and decoder.kind == "picture" and decoder.scale == 1
    return whole and bundle.manifest.encoder.sees_quality


def _patch(plane: Plane) -> Rectangle:
    """Middle of a picture, in pixels: all of a small one, whole hyper-latents of a large one."""
    top, bottom = _middle(plane.height, plane.hyper_stride)
    left, right = _middle(plane.width, plane.hyper_stride)
    return Rectangle(top, bottom, left, right)


def _middle(length: int, multiple: int) -> tuple[int, int]:
    side = PATCH // multiple * multiple
    if length <= side:
        return 0, length
    start = (length - side) // 2 // multiple * multiple
    return start, start + side
