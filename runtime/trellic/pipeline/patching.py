"""Which blocks of a picture become patches, and how they are stored.

Blocks that look drawn are candidates. In each slice they become patches with as few colours as make
the squared error under them a tenth of what it is without patches, if the slice then takes no more
bytes. If the picture has fewer bytes as patches alone, without latents, it becomes that: each slice
is an AV1 picture with no more squared error than the latents give, or is stored without loss.
Errors and bytes are those of real coding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.bitstream import Header, Patches, Stream
from trellic.bitstream.patches import in_pixels, is_av1, mask_shape, pack_patches, slice_areas
from trellic.images import Picture
from trellic.images.av1 import has_av1, pack_still, unpack_still
from trellic.images.drawn import fewer_colours
from trellic.images.fill import fill_unseen
from trellic.images.lossless import pack_pixels
from trellic.limits import PATCH_SIDE
from trellic.pipeline.patches import spread, unpacked
from trellic.support import bounds

Errors = npt.NDArray[np.int64]  # squared, of each pixel
Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

COLOURS: Final = (4, 8, 16, 32, 64, 128, 256, None)  # None: all
BETTER = 0.1  # times the squared error: eyes forgive a codec's errors more than missing colours
# Our quality, and libavif's of about the same SSIMULACRA 2 on drawn screens (docs/screens.md)
STILL: Final = ((1, 2), (18, 10), (30, 16), (44, 24), (54, 32), (64, 40), (73, 50), (81, 60))
STILL += ((86, 72), (90, 85), (100, 98))
STILL_BEST, STILL_STEP = 98, 8  # of libavif's quality


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
    error = _squared(pixels, decode(plain))
    best = _patched(pixels, mask, encode, plain, error)
    header = plain.header
    if header.layering is None and header.cuttable and has_av1():
        bare = _bare(pixels, error, plain)
        best = min((best, bare), key=_size) if bare else best
    return best


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


def _bare(pixels: Pixels, error: Errors, plain: Stream) -> Stream | None:
    """Return a stream of patches alone; None if a slice would be larger or worse than in latents."""
    header = plain.header
    lanes = (1,) * header.slices
    bare = replace(header, bare=True, steps=1, lanes=lanes, adapter=None)
    data = list[bytes]()
    for area, budget in zip(slice_areas(bare), _slice_bytes(plain), strict=True):
        part = in_pixels(area, *pixels.shape[:2]).index()
        bounds.check()
        still = _still(pixels[part], header.quality16, int(error[part].sum()), int(budget))
        whole = pack_pixels(pixels[part])
        fitting = [one for one in (whole, still) if one is not None and len(one) <= budget]
        if not fitting:
            return None
        data.append(min(fitting, key=len))
    mask = np.ones(mask_shape(header.height, header.width), np.bool_)
    segments = [b""] * bare.segments
    return Stream(bare, segments, plain.chunks, None, Patches(mask, tuple(data)))


def _still(pixels: Pixels, quality16: int, allowed: int, most: int) -> bytes | None:
    """Return a slice in AV1 of a quality or above, with an allowed squared error, if it fits."""
    for quality in range(still_quality(quality16), STILL_BEST + STILL_STEP, STILL_STEP):
        bounds.check()
        data = pack_still(pixels, min(quality, STILL_BEST))
        if len(data) > most:
            return None
        shown = unpack_still(data, *pixels.shape[:2], grey=pixels.ndim == 2)
        if _squared(pixels, shown[..., 1] if pixels.ndim == 2 else shown).sum() <= allowed:
            return data
    return None


def still_quality(quality16: int) -> int:
    """Return libavif's quality for one of ours, in sixteenths."""
    ours, theirs = zip(*STILL, strict=True)
    return round(float(np.interp(quality16 / 16, ours, theirs)))


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
        if _squared(clean, shown).sum() <= allowed:
            data = pack_pixels(shown)
            return data if len(data) <= budget else None
    return None


def repack(pixels: Pixels, changed: Mask, patches: Patches, header: Header) -> Patches:
    """Return the patches of an edited picture: those that changed are made anew.

    Patches without loss then have all colours. AV1 pictures are coded again, for the same quality.

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
            data[number] = pack_still(pixels[part], still_quality(header.quality16))
        else:
            data[number] = pack_pixels(_flat_outside(pixels[part], seen[part]))
    return Patches(patches.mask, tuple(data))


def recoded(patches: Patches, header: Header) -> Patches:
    """Return patches without latents for the header's quality: in AV1, where that is smaller."""
    data = []
    for area, before in zip(slice_areas(header), patches.data, strict=True):
        bounds.check()
        assert before is not None  # noqa: S101 - each slice of such a file has patches
        whole = in_pixels(area, header.height, header.width)
        pixels = unpacked(before, whole, grey=header.grey)
        still = pack_still(pixels, still_quality(header.quality16))
        data.append(min(before, still, key=len))
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


def _squared(one: Pixels, other: Pixels) -> Errors:
    """Squared difference of each pixel, summed over its channels."""
    square = (one.astype(np.int32) - other) ** 2
    error: Errors = square.reshape(*one.shape[:2], -1).sum(2, dtype=np.int64)
    return error


def _slice_bytes(stream: Stream) -> list[float]:
    """Bytes of each slice, with its share of the hyper-latents."""
    slices = stream.header.slices
    shared = len(stream.segments[0]) / slices
    return [shared + sum(map(len, stream.segments[1 + n :: slices])) for n in range(slices)]
