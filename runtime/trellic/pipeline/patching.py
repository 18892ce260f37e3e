"""Which blocks of a picture become patches, and how they are stored.

Blocks that look drawn are candidates. In each slice they become patches with as few colours as make
the squared error under them a tenth of what it is without patches, if the slice then takes no more
bytes. If that is better, the picture becomes patches alone, without latents: each slice is an AV1
picture with no more squared error than the latents give, or is stored without loss.
Errors and bytes are those of real coding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header, Patches, Stream
from trellic.bitstream.patches import in_pixels, is_av1, pack_patches, slice_areas
from trellic.images import Picture
from trellic.images.av1 import pack_still
from trellic.images.drawn import fewer_colours
from trellic.images.fill import fill_unseen
from trellic.images.lossless import pack_pixels
from trellic.limits import PATCH_SIDE
from trellic.pipeline.alone import BEST, Errors, alone, squared
from trellic.pipeline.patches import spread
from trellic.support import bounds

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

COLOURS: Final = (4, 8, 16, 32, 64, 128, 256, None)  # None: all
MORE, LESS = 1.05, 0.8  # patches alone may be so much larger if so much of the error is left
BETTER = 0.1  # times the squared error: eyes forgive a codec's errors more than missing colours


def without(picture: Picture, mask: Mask) -> Picture:
    """Return a picture whose blocks of a mask continue the pixels around them."""
    unseen = on_pixels(mask, picture.pixels)
    filled = fill_unseen(picture.pixels, ~unseen)
    return Picture(filled, picture.alpha, picture.icc, picture.exif, picture.xmp)


def choose(
    pixels: Pixels,
    mask: Mask,
    encode: Callable[[Mask | None, int], Stream],
    decode: Callable[[Stream], Pixels],
    quality16: int,
) -> Stream:
    """Return the best stream of a picture whose blocks of a mask may become patches.

    Parameters
    ----------
    pixels : uint8 (height, width, 3) or (height, width)
    mask : bool, blocks that may
    encode : from blocks that are filled in (None for none) and a quality, in sixteenths
    decode : without patches
    quality16 : of the stream
    """
    plain = encode(None, quality16)
    error = squared(pixels, decode(plain))
    best = _patched(pixels, mask, encode, plain, error)
    if plain.header.needs_latents:
        return best
    bare, left = alone(pixels, error, plain, round(MORE * _size(best)))
    if bare is None or (_size(bare) >= _size(best) and (best is not plain or left > LESS)):
        return best
    return bare


def _patched(
    pixels: Pixels,
    mask: Mask,
    encode: Callable[[Mask | None, int], Stream],
    plain: Stream,
    error: Errors,
) -> Stream:
    """Return a stream with patches over latents, or the plain one if none pays."""
    quality16 = plain.header.quality16
    filled = encode(mask, quality16)
    seen, kept, data = on_pixels(mask, pixels), np.zeros_like(mask), []
    sizes = zip(_slice_bytes(plain), _slice_bytes(filled), strict=True)
    for area, (now, below) in zip(slice_areas(plain.header), sizes, strict=True):
        part = in_pixels(area, *pixels.shape[:2]).index()
        allowed = BETTER * error[part][seen[part]].sum()
        data.append(_patch(pixels[part], seen[part], allowed, int(now - below)))
        if data[-1] is not None:
            kept[area.index()] = mask[area.index()]
    if not kept.any():
        return plain
    stream = filled if (kept == mask).all() else encode(kept, quality16)
    patched = replace(stream, patches=Patches(kept, tuple(data)))
    return patched if _size(patched) < _size(plain) else plain


def _size(stream: Stream) -> int:
    """Bytes of a stream's segments and patches."""
    patches = stream.patches
    own = 0 if patches is None else len(pack_patches(patches, stream.header))
    return own + sum(map(len, stream.segments))


def _patch(pixels: Pixels, seen: Mask, allowed: float, budget: int) -> bytes | None:
    """Return the patch of a slice with the fewest colours that are good enough, if it fits."""
    if not seen.any():
        return None
    clean = _flat_outside(pixels, seen)
    for colours in COLOURS:
        bounds.check()
        shown = clean if colours is None else fewer_colours(clean, colours)
        if squared(clean, shown).sum() <= allowed:
            data = pack_pixels(shown)
            return data if len(data) <= budget else None
    return None


def repack(pixels: Pixels, changed: Mask, patches: Patches, header: Header) -> Patches:
    """Return the patches of an edited picture: those that changed are made anew.

    Patches without loss then have all colours. AV1 pictures are coded again at AV1's best quality,
    so that what was not edited loses next to nothing, or without loss if that is smaller.

    Parameters
    ----------
    pixels : of the edited picture
    changed : bool (height, width), pixels under patches that were edited
    """
    data, seen = list(patches.data), on_pixels(patches.mask, pixels)
    for number, area in enumerate(slice_areas(header)):
        part, before = in_pixels(area, *pixels.shape[:2]).index(), data[number]
        if before is None or not changed[part].any():
            continue
        if is_av1(before):
            ways = pack_still(pixels[part], BEST), pack_pixels(pixels[part])
            data[number] = min(ways, key=len)
        else:
            data[number] = pack_pixels(_flat_outside(pixels[part], seen[part]))
    return Patches(patches.mask, tuple(data))


def _flat_outside(pixels: Pixels, seen: Mask) -> Pixels:
    """Return pixels with the commonest colour in place of those that are not seen."""
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    colours, counts = np.unique(planes[seen], axis=0, return_counts=True)
    flat = np.where(seen[..., None], planes, colours[counts.argmax()])
    return flat if pixels.ndim == 3 else flat[..., 0]


def on_pixels(mask: Mask, pixels: Pixels) -> Mask:
    """Return the pixels of a picture that blocks of a mask cover."""
    height, width = pixels.shape[:2]
    return spread(mask, PATCH_SIDE)[:height, :width]


def _slice_bytes(stream: Stream) -> list[float]:
    """Bytes of each slice, with its share of the hyper-latents."""
    slices = stream.header.slices
    shared = len(stream.segments[0]) / slices
    return [shared + sum(map(len, stream.segments[1 + n :: slices])) for n in range(slices)]
