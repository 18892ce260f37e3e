"""The memory that coding takes, computed before it begins, so that it can be limited.

Peak memory of a process that does nothing else, in bytes, with constants measured with the models
``photo`` and ``cifar`` on Linux and rounded up (``python -m benchmarks.big`` measures again):

========================  =======================================================================
always                    `LIBRARIES`: interpreter, engines and what they keep
coding                    `NETWORK` a pixel of the tile that is in a network, halo included, and
                          `BAND` for each band beyond three (computed, not measured)
encoding                  the picture, the float32 outputs of g_a, `HYPER` a hyper-latent, `SPARE`
                          a pixel, and `SLICE_ENCODING` a latent of one slice
decoding                  the picture or the region of it, three rows of slices of latents, and
                          `SLICE_DECODING` a latent of one slice
mixing two decoders       `NETWORK` for the second one too, and `MIXING` a pixel of the tile
patches                   `PATCH_DECODING` a pixel of the largest slice; in encoding,
                          `PATCH_ENCODING` a pixel of the picture, and `STILL_ENCODING` of a slice
reading a picture file    the file, and `READING` a pixel (`READING_DEEP` for 16-bit samples)
writing a picture file    `WRITING` a pixel (`WRITING_ALPHA` with alpha; WebP, AVIF
                          `WRITING_CODED`), and `NETWORK` a pixel of the largest tile, for each
                          network: engines keep what they have used
========================  =======================================================================

So memory grows with a picture by the picture itself and, in encoding, by its latents. Tiles become
smaller if that makes it fit. Other memory of the program is added to that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from trellic import images
from trellic.bitstream import Header
from trellic.constants import COLOURS
from trellic.errors import ImageTooLarge
from trellic.geometry import BARE_SLICE_SIDE, BLOCK, STRIDE, Plane, Rectangle
from trellic.images.picture import check_size
from trellic.pipeline.transforms import WHOLE
from trellic.support import bounds

if TYPE_CHECKING:
    from trellic.images import Picture
    from trellic.model.channels import Layout

LIBRARIES = 320_000_000
NETWORK, MIXING, BAND = 72, 30, 16
SLICE_ENCODING, SLICE_DECODING = 100, 70
LAYERED = 90  # more than that for what is known of a slice's latents, and for sorting them
UNCUT_H_A = 8
HYPER, SPARE = 32, 1
READING, READING_DEEP = 12, 40
WRITING, WRITING_ALPHA, WRITING_CODED = 11, 14, 60
ALPHA_ENCODING, ALPHA_DECODING = 9, 3  # of the whole picture: differences, colours filled in
PATCH_DECODING = 32  # a pixel of a slice: what libwebp or libavif holds, and copies of its result
STILL_ENCODING = 70  # a pixel of a slice: what libaom holds of an AV1 patch, and its picture
PATCH_ENCODING = 40  # a pixel of a picture that looks drawn: trials, with their pictures
STILL_PLANES = 11  # of latents, while they are looked for that stand still
ROWS_OF_SLICES = 3
LATENT_BYTES = 4
SIDES = (64, 32, 16)  # of tiles, in latents, from the fastest to the smallest
UNCUT = round((WHOLE * SIDES[0] * STRIDE) ** 2)  # pixels of the largest picture of one tile


def encoding(
    picture: Picture,
    layout: Layout,
    *,
    halo: int,
    tiled_h_a: bool,
    layered: bool = False,
    drawn: bool = False,
    settled: bool = False,
    still: bool = False,
) -> Callable[[int], int]:
    """Return how many bytes encoding takes, as a function of the side of its tiles.

    Parameters
    ----------
    layout : of the model
    halo : of g_a, in latents
    tiled_h_a : whether h_a can be run in tiles
    layered : whether the file is progressive
    drawn : whether patches are tried, which takes latents twice
    settled : whether a picture is made of the latents and analysed again
    still : whether that is repeated until the latents stand still
    """
    plane = layout.plane(picture.width, picture.height)
    stride, pixels = plane.stride, plane.padded[0] * plane.padded[1]
    a_pixel = SPARE + LATENT_BYTES * layout.latents / stride**2
    a_pixel += 0 if tiled_h_a else UNCUT_H_A
    a_pixel += HYPER * layout.hyper / plane.hyper_stride**2
    alpha = 0 if picture.alpha is None else (1 + ALPHA_ENCODING) * pixels
    a_pixel += PATCH_ENCODING + LATENT_BYTES * layout.latents / stride**2 if drawn else 0
    av1 = STILL_ENCODING * min(pixels, (BARE_SLICE_SIDE * BLOCK) ** 2) if drawn else 0
    a_pixel += layout.bands + LATENT_BYTES * layout.latents / stride**2 if settled else 0
    a_pixel += (
        2 * layout.bands + STILL_PLANES * LATENT_BYTES * layout.latents / stride**2 if still else 0
    )
    fixed = LIBRARIES + picture.pixels.nbytes + alpha + av1 + int(a_pixel * pixels)
    slice_bytes = SLICE_ENCODING + (LAYERED if layered else 0)
    fixed += slice_bytes * layout.latents * _slice(plane, plane.slice_side)
    network = _network(layout.bands) * (2 if settled or still else 1)  # g_s keeps what it has used
    return lambda side: fixed + network * stride**2 * _tile_latents(plane.latents, side, halo)


def decoding(
    header: Header,
    region: Rectangle,
    latents: int,
    *,
    halo: int,
    alpha: bool,
    layout: Layout | None = None,
    scale: int = 1,
    networks: int = 1,
) -> Callable[[int], int]:
    """Return how many bytes decoding a region takes, as a function of the side of its tiles.

    Parameters
    ----------
    region : in pixels
    latents : channels
    halo : of g_s, in latents
    alpha : whether the picture has an alpha plane
    layout : of the model; None for the usual stride and colours
    scale : the picture is made at 1 / scale of its size
    networks : decoders that are mixed
    """
    stride, bands = (layout.stride, layout.bands) if layout else (STRIDE, COLOURS)
    whole = header.width * header.height
    slice_side = header.slice_side * BLOCK // stride
    held = region.coarser(stride).grown(halo).coarser(slice_side)
    rows, columns = sorted(held.shape)
    slices = rows * min(columns, ROWS_OF_SLICES) * slice_side**2
    out = (1 if header.grey else bands) * region.coarser(scale).area
    fixed = LIBRARIES + out + LATENT_BYTES * latents * slices
    slice_bytes = SLICE_DECODING + (0 if header.layering is None else LAYERED)
    fixed += slice_bytes * latents * _slice(_plane(header, stride), slice_side)
    fixed += ALPHA_DECODING * whole if alpha else 0
    a_pixel = _network(bands) * networks + (MIXING if networks > 1 else 0)
    return lambda side: (
        fixed + a_pixel * stride**2 * _tile_latents(region.coarser(stride).shape, side, halo)
    )


def with_patches(need: Callable[[int], int], header: Header) -> Callable[[int], int]:
    """Return how many bytes decoding takes if the file has patches; one slice's are held."""
    pixels = min(header.width * header.height, (header.slice_side * BLOCK) ** 2)
    return lambda side: need(side) + PATCH_DECODING * pixels


def bare(header: Header, region: Rectangle, *, alpha: bool, scale: int = 1) -> int:
    """Bytes that decoding a region of a picture without latents takes."""
    out = (1 if header.grey else 3) * region.coarser(scale).area
    whole = ALPHA_DECODING * header.width * header.height if alpha else 0
    return with_patches(lambda _: LIBRARIES + out + whole, header)(0)


def recoding(header: Header, *, alpha: bool) -> int:
    """Bytes that decoding and coding patches without latents again takes."""
    whole = Rectangle(0, header.height, 0, header.width)
    pixels = min(whole.area, (header.slice_side * BLOCK) ** 2)
    return bare(header, whole, alpha=alpha) + STILL_ENCODING * pixels


def classifying(header: Header, latents: int, *, stride: int = STRIDE) -> int:
    """Return how many bytes the labels of a picture take; its latents are one tile.

    Parameters
    ----------
    latents : channels
    stride : of the model, pixels per latent
    """
    plane = _plane(header, stride)
    pixels = plane.padded[0] * plane.padded[1]
    work = SLICE_DECODING * latents * _slice(plane, header.slice_side * plane.block)
    return LIBRARIES + work + NETWORK * pixels + 2 * LATENT_BYTES * latents * pixels // stride**2


def transcoding(header: Header, layout: Layout, *, alpha: bool, tiled_h_a: bool) -> int:
    """Bytes that transcoding takes: latents of the whole picture twice, and no picture.

    Parameters
    ----------
    layout : of the model
    alpha : whether the picture has an alpha plane
    tiled_h_a : whether h_a can be run in tiles
    """
    plane = layout.plane(header.width, header.height)
    pixels = plane.padded[0] * plane.padded[1]
    a_pixel = 3 * LATENT_BYTES * layout.latents / plane.stride**2
    a_pixel += HYPER * layout.hyper / plane.hyper_stride**2 + (0 if tiled_h_a else UNCUT_H_A)
    a_pixel += ALPHA_ENCODING if alpha else 0
    slices = SLICE_ENCODING * layout.latents * _slice(plane, header.slice_side * plane.block)
    return LIBRARIES + int(a_pixel * pixels) + slices + NETWORK * min(pixels, UNCUT)


def reading(pixels: int, file_bytes: int, *, deep: bool) -> int:
    """Bytes that decoding a picture file takes."""
    return LIBRARIES + file_bytes + (READING_DEEP if deep else READING) * pixels


def writing(pixels: int, suffix: str, *, alpha: bool, networks: int = 1) -> int:
    """Bytes that writing a picture file takes, after decoding it.

    Parameters
    ----------
    suffix : of the file, such as ".png"
    networks : decoders that were mixed
    """
    kept = LIBRARIES + NETWORK * networks * min(pixels, UNCUT)
    if suffix.lower() in (".webp", ".avif"):
        return kept + WRITING_CODED * pixels
    return kept + (WRITING_ALPHA if alpha else WRITING) * pixels


def check_reading(data: bytes, limit: int | None = None, *, arrays: bool = False) -> None:
    """Refuse a picture file that has too many pixels or takes too much memory, by its header.

    Limits that the caller sets (`trellic.limited`) apply.

    Parameters
    ----------
    data : of the whole file
    limit : bytes of memory; None for no other limit
    arrays : NumPy files will do too

    Raises
    ------
    ImageTooLarge
    BadImage
        When it is no picture.
    """
    width, height, deep = images.size_of(data, arrays=arrays)
    check_size(width, height)
    need = reading(width * height, len(data), deep=deep)
    check(need, limit, f"reading a picture of {width}x{height} pixels")


def check(need: int, limit: int | None, purpose: str, remedy: str = "") -> None:
    """Refuse work that takes more than the limit.

    Raises
    ------
    ImageTooLarge
    BadParameter
        When the limit is not a positive number.
    """
    limit = bounds.most_memory(limit)
    if limit is not None and need > limit:
        raise ImageTooLarge(
            f"{purpose} takes up to {_megabytes(need)}",
            expected=f"at most {_megabytes(limit)}",
            remedy=f"raise --max-memory (max_memory in Python){remedy}",
        )


def tile_side(need: Callable[[int], int], limit: int | None, purpose: str, remedy: str = "") -> int:
    """Return the side, in latents, of the largest tiles that stay within the limit.

    Parameters
    ----------
    need : bytes by side
    limit : bytes, or None for none

    Raises
    ------
    ImageTooLarge
        When even the smallest tiles do not.
    BadParameter
        When the limit is not a positive number.
    """
    limit = bounds.most_memory(limit)
    for side in SIDES:
        if limit is None or need(side) <= limit:
            return side
    check(need(SIDES[-1]), limit, purpose, remedy)
    return SIDES[-1]


def _network(bands: int) -> int:
    """Bytes a pixel of the tile that is in a network."""
    return NETWORK + BAND * (bands - COLOURS)


def _plane(header: Header, stride: int) -> Plane:
    return Plane(header.width, header.height, stride)


def _slice(plane: Plane, side: int) -> int:
    """Positions of the largest slice of a plane; ``side`` in latents."""
    rows, columns = (min(side, length) for length in plane.latents)
    return rows * columns


def _tile_latents(area: tuple[int, int], side: int, halo: int) -> int:
    """Latents of the largest window of an area of latents that `transforms.tiles` cuts."""
    rows, columns = area
    if rows * columns > (WHOLE * side) ** 2:
        rows, columns = side, side
    return (rows + 2 * halo) * (columns + 2 * halo)


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"
