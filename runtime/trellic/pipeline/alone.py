"""Pictures as patches alone: each slice in AV1 or without loss, and no latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header, Patches, Stream
from trellic.bitstream.patches import in_pixels, mask_shape, slice_areas
from trellic.geometry import BARE_SLICE_SIDE, slice_counts
from trellic.images.av1 import can_pack, pack_still, unpack_still
from trellic.images.lossless import pack_pixels
from trellic.pipeline.patches import unpacked
from trellic.support import bounds

Errors = npt.NDArray[np.int64]  # squared, of each pixel
Pixels = npt.NDArray[np.uint8]

# Our quality, and libavif's of about the same SSIMULACRA 2 on drawn screens
# (python -m benchmarks.still_quality)
STILL: Final = (
    *((1, 2), (18, 10), (30, 16), (44, 24), (54, 32), (64, 40)),
    *((73, 50), (81, 60), (86, 72), (90, 85), (100, 98)),
)
BEST, STEP = 98, 8  # of libavif's quality


def alone(pixels: Pixels, error: Errors, plain: Stream, most: int) -> tuple[Stream | None, float]:
    """Return a stream of patches alone that is no worse than latents anywhere, if there is one.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width)
    error : of the plain stream's picture
    plain : with latents, whose header and chunks are taken
    most : bytes of its patches

    Returns
    -------
    stream, and the share of the plain stream's squared error that is left; None and 1 if there is
    none
    """
    if not can_pack():
        return None, 1.0
    header = _header(plain.header)
    data, left = list[bytes](), 0
    for area in slice_areas(header):
        part = in_pixels(area, *pixels.shape[:2]).index()
        made = _slice(pixels[part], header.quality16, int(error[part].sum()), most)
        if made is None:
            return None, 1.0
        data.append(made[0])
        left, most = left + made[1], most - len(made[0])
    mask = np.ones(mask_shape(header.height, header.width), np.bool_)
    patches = Patches(mask, tuple(data))
    stream = Stream(header, [b""] * header.segments, plain.chunks, patches=patches)
    return stream, left / max(1, int(error.sum()))


def _header(plain: Header) -> Header:
    """Return the header of a picture without latents; its slices are larger, for AV1's sake."""
    rows, columns = slice_counts(*plain.blocks, BARE_SLICE_SIDE)
    return replace(
        plain,
        bare=True,
        steps=1,
        lanes=(1,) * (rows * columns),
        slice_side=BARE_SLICE_SIDE,
        adapter=None,
    )


def _slice(pixels: Pixels, quality16: int, allowed: int, most: int) -> tuple[bytes, int] | None:
    """Code a slice: the smaller one of AV1 and VP8L, and its squared error; None if none fits."""
    bounds.check()
    whole = pack_pixels(pixels)
    still = _still(pixels, quality16, allowed, most)
    found = [one for one in ((whole, 0), still) if one is not None and len(one[0]) <= most]
    return min(found, key=lambda one: len(one[0])) if found else None


def _still(pixels: Pixels, quality16: int, allowed: int, most: int) -> tuple[bytes, int] | None:
    """Code a slice in AV1 at a quality or above, with an allowed squared error, if it fits."""
    grey = pixels.ndim == 2
    for quality in range(still_quality(quality16), BEST + STEP, STEP):
        bounds.check()
        data = pack_still(pixels, min(quality, BEST))
        if len(data) > most:
            return None
        shown = unpack_still(data, *pixels.shape[:2], grey=grey)
        error = int(squared(pixels, shown[..., 1] if grey else shown).sum())
        if error <= allowed:
            return data, error
    return None


def still_quality(quality16: int) -> int:
    """Return libavif's quality for one of ours, in sixteenths."""
    ours, theirs = zip(*STILL, strict=True)
    return round(float(np.interp(quality16 / 16, ours, theirs)))


def recoded(patches: Patches, header: Header, quality16: int) -> Patches:
    """Return patches without latents for a lower quality: in AV1, where that is smaller."""
    data = list[bytes]()
    own = [part for part in patches.data if part is not None]
    for area, before in zip(slice_areas(header), own, strict=True):
        bounds.check()
        whole = in_pixels(area, header.height, header.width)
        pixels = unpacked(before, whole, grey=header.grey)
        still = pack_still(pixels, still_quality(quality16))
        data.append(min(before, still, key=len))
    return Patches(patches.mask, tuple(data))


def squared(one: Pixels, other: Pixels) -> Errors:
    """Squared difference of each pixel, summed over its channels."""
    square = (one.astype(np.int32) - other) ** 2
    error: Errors = square.reshape(*one.shape[:2], -1).sum(2, dtype=np.int64)
    return error
