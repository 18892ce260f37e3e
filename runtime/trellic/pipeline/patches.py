"""Patches of a stream over the picture that its latents gave."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header, Patches
from trellic.bitstream.patches import in_pixels, is_av1, slice_areas
from trellic.errors import CorruptStream, EngineError
from trellic.geometry import Rectangle
from trellic.images.av1 import unpack_still
from trellic.images.lossless import unpack_pixels
from trellic.limits import PATCH_SIDE
from trellic.pipeline.region import shrunk
from trellic.support import bounds

Pixels = npt.NDArray[np.uint8]


def paste(
    pixels: Pixels,
    patches: Patches,
    header: Header,
    part: Rectangle,
    scale: int = 1,
    faults: list[CorruptStream] | None = None,
) -> int:
    """Put patches over a decoded picture, slice by slice, in place.

    Parameters
    ----------
    pixels : uint8 (rows, columns, 3) or (rows, columns), of ``part`` at 1 / scale of its size
    part : in pixels of the full size; slices outside of it are not decoded
    scale : patches are made smaller by it, by means of blocks of pixels
    faults : gets the errors of areas that do not decode, and the others are pasted; if left out,
        the first one is raised

    Returns
    -------
    number of areas that were pasted

    Raises
    ------
    CorruptStream
        When a patch is damaged.
    EngineError
        When the scale does not divide the side of a block.
    """
    if PATCH_SIDE % scale:
        raise EngineError(f"patches at 1/{scale} of their size", expected=f"1/{PATCH_SIDE} at most")
    target, pasted = part.coarser(scale), 0
    for area, data in zip(slice_areas(header), patches.data, strict=True):
        whole = in_pixels(area, header.height, header.width)
        seen = whole.coarser(scale).within(target)
        if data is None or min(seen.shape) <= 0:
            continue
        bounds.check()
        try:
            patch = unpacked(data, whole, grey=header.grey)
        except CorruptStream as error:
            if faults is None:
                raise
            faults.append(error)
            continue
        mask = spread(patches.mask[area.index()], PATCH_SIDE // scale)
        here = mask[seen.index(whole.coarser(scale))]
        small = _smaller(patch, scale)[seen.index(whole.coarser(scale))]
        pixels[seen.index(target)][here] = small[here]
        pasted += 1
    return pasted


def unpacked(data: bytes, area: Rectangle, *, grey: bool) -> Pixels:
    """Return the pixels of an area: uint8 (height, width, 3), or (height, width) if it is grey.

    Raises
    ------
    CorruptStream
        When it is damaged.
    EngineError
        When Pillow lacks the library for it.
    """
    if is_av1(data):
        patch = unpack_still(data, *area.shape, grey=grey)
    else:
        patch = unpack_pixels(data, *area.shape)
    return patch[..., 1] if grey else patch


def spread(mask: npt.NDArray[np.bool_], side: int) -> npt.NDArray[np.bool_]:
    """Return a mask of pixels from a mask of blocks of ``side`` pixels."""
    return mask.repeat(side, 0).repeat(side, 1)


def _smaller(patch: Pixels, scale: int) -> Pixels:
    """Mean of each block of ``scale`` x ``scale`` pixels, or of a part of it at the edges."""
    if scale == 1:
        return patch
    if patch.ndim == 2:
        return shrunk(np.ascontiguousarray(patch), scale)
    each = partial(shrunk, scale=scale)
    return np.stack([each(np.ascontiguousarray(patch[..., c])) for c in range(3)], axis=2)
