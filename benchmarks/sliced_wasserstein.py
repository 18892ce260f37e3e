"""How far the patches of a decoded picture are, as a distribution, from those of the original.

Distortion compares pixel with pixel, so a blurred texture beats a sharp one that is a little off.
This compares what patches there are, wherever they are: a decoder that leaves texture out is far
from the original, one that puts in texture of the right kind is near.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

Pixels = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

PATCH = 7  # pixels a side, in each level of the pyramid
LEVELS = 5  # of the pyramid at most; none has a side under SMALLEST
SMALLEST = 16  # pixels
POSITIONS = 8192  # patches of each level
PROJECTIONS = 256  # directions in the space of patches
SEED = 7
TAPS = np.array([1, 4, 6, 4, 1], np.float32) / 16
FLAT = 1.0  # standard deviation, in 8-bit levels, below which a channel counts as this


def sliced_wasserstein(original: Pixels, decoded: Pixels) -> float:
    """Return the sliced Wasserstein distance of two pictures' patches, times 1000.

    Of each level of a Laplacian pyramid, 7x7 patches of three channels are taken at random
    positions, the same ones in both pictures; they are projected on random directions, and the
    distance is the mean over the directions of the one-dimensional Wasserstein-1 distance. The
    result is the mean over the levels.

    In the paper each set of patches is normalised by its own mean and deviation, which hides a
    loss of contrast, the very thing that a smoothing decoder does; here both sets are normalised
    by the *original's*, for each level and channel.

    Parameters
    ----------
    original, decoded
        Pictures (H, W, 3) of uint8, both sides at least 16 pixels.

    Returns
    -------
    float
        0 for equal pictures; the same for the same pictures on every call (fixed seed).

    Raises
    ------
    ValueError
        The shapes differ or the picture is too small.

    References
    ----------
    T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive growing of GANs for improved quality,
    stability, and variation", ICLR 2018, section 5; J. Rabin, G. Peyré, J. Delon, M. Bernot,
    "Wasserstein barycenter and its application to texture mixing", SSVM 2011.
    """
    if original.shape != decoded.shape or original.ndim != 3:
        raise ValueError(f"expected (H, W, 3) twice, got {original.shape} and {decoded.shape}")
    if min(original.shape[:2]) < SMALLEST:
        raise ValueError(f"needs {SMALLEST} pixels a side, got {original.shape[:2]}")
    rng = np.random.default_rng(SEED)
    levels = zip(pyramid(original), pyramid(decoded), strict=True)
    return 1000 * float(np.mean([_distance(a, b, rng) for a, b in levels]))


def pyramid(pixels: Pixels) -> Iterator[Float32]:
    """Yield the levels of a Laplacian pyramid, finest first; the last is the smoothed rest."""
    plane = pixels.astype(np.float32)
    for _ in range(LEVELS - 1):
        if min(plane.shape[:2]) < 2 * SMALLEST:
            break
        coarser = _smooth(plane)[::2, ::2]
        yield plane - _grown(coarser, plane.shape)
        plane = coarser
    yield plane


def project(patches: Float32, directions: Float32, others: Float32) -> Float32:
    """Return the Wasserstein-1 distance of two sets of points along each direction.

    Parameters
    ----------
    patches, others : float32 (points, dimensions), as many points in both
    directions : float32 (dimensions, directions)

    Returns
    -------
    float32 (directions,)
    """
    sorted_ = [np.sort((points @ directions).T, axis=1) for points in (patches, others)]
    return np.asarray(np.abs(sorted_[0] - sorted_[1]).mean(axis=1))


def _distance(one: Float32, other: Float32, rng: np.random.Generator) -> float:
    mean = one.mean(axis=(0, 1))
    scale = 1 / np.maximum(one.std(axis=(0, 1)), FLAT)
    height, width = (side - PATCH + 1 for side in one.shape[:2])
    places = rng.choice(height * width, min(POSITIONS, height * width), replace=False)
    directions = rng.normal(size=(PATCH * PATCH * one.shape[2], PROJECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    sets = [_patches((plane - mean) * scale, places, width) for plane in (one, other)]
    return float(project(sets[0], directions, sets[1]).mean())


def _patches(plane: Float32, places: npt.NDArray[np.int64], width: int) -> Float32:
    """Return the patches whose corners are at the places, as rows."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (PATCH, PATCH), axis=(0, 1))
    chosen = windows[places // width, places % width]
    return np.ascontiguousarray(chosen.reshape(len(places), -1))


def _smooth(plane: Float32) -> Float32:
    for axis in (0, 1):
        plane = correlate1d(plane, TAPS, axis=axis, mode="mirror")
    return plane


def _grown(plane: Float32, shape: tuple[int, ...]) -> Float32:
    """Double the size, between the samples by the same filter."""
    wide = np.zeros(shape, np.float32)
    wide[::2, ::2] = 4 * plane
    return _smooth(wide)
