"""A picture that was decoded from a stream, and maybe edited, back to a stream.

::

    where pixels are those of the stream:   its latents and hyper-latents, as they are
    elsewhere:                              g_a, h_a

A picture without changes gives the same bytes. Kept hyper-latents do not change after an edit. Kept
latents of a steady file do not either; a trellis may choose other levels for them, since its paths
run through the whole slice.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trellic import bitstream
from trellic.bitstream import Header, Patches, Stream
from trellic.constants import DEFAULT_DECODER
from trellic.errors import BadParameter
from trellic.images import Picture, check_bands
from trellic.latents.encoder import hyper_values
from trellic.latents.quantizer import lattice_of
from trellic.pipeline import memory
from trellic.pipeline.decoder import StreamDecoder
from trellic.pipeline.encoder import StreamEncoder, prepared
from trellic.pipeline.header import level_of, refuse_layers
from trellic.pipeline.options import DecodeOptions, EncodeOptions
from trellic.pipeline.patching import on_pixels, repack, without
from trellic.pipeline.results import Encoded
from trellic.support.clock import Clock

Mask = npt.NDArray[np.bool_]

AROUND = 1  # latents around changed pixels that are computed again too


class Resaver:
    """Encodes pictures that were decoded from streams of one model.

    Parameters
    ----------
    encoder, decoder : of the model
    """

    def __init__(self, encoder: StreamEncoder, decoder: StreamDecoder) -> None:
        self._encoder, self._decoder = encoder, decoder
        self._bundle = encoder.bundle
        self._layout = self._bundle.manifest.layout

    def picture(
        self,
        picture: Picture,
        like: bytes | memoryview,
        max_pixels: int,
        max_memory: int | None = None,
    ) -> Encoded:
        """Encode a picture; see `Codec.encode_again`."""
        start, clock = time.perf_counter(), Clock()
        check_bands(picture, self._layout.bands, self._bundle.manifest.name)
        stream = bitstream.read(like, max_pixels)
        header = stream.header
        _check_alike(picture, header)
        options = DecodeOptions(DEFAULT_DECODER, max_pixels, max_memory=max_memory)
        decoded = self._decoder.picture(like, options).picture
        differs = picture.pixels != decoded.pixels
        changed: Mask = differs.reshape(*differs.shape[:2], -1).any(axis=2)
        picture, chunks = prepared(picture, strip=False)
        clock.mark("compare")
        if stream.patches is not None and changed.any():
            if header.bare:
                need = memory.recoding(header, alpha=stream.chunks.alpha is not None)
                memory.check(need, max_memory, f"encoding {header.width}x{header.height} pixels")
            picture, changed, patches = _repatched(picture, changed, stream.patches, header)
            stream = replace(stream, patches=patches)
        if changed.any():
            refuse_layers(header, "encoding an edited picture like a progressive file")
            stream = self._edited(picture, stream, changed, clock, max_memory)
        data = bitstream.write(replace(stream, chunks=chunks))
        clock.mark("file")
        return Encoded(
            data=data,
            width=header.width,
            height=header.height,
            quality=header.quality16 / 16,
            trellis=header.trellis,
            lanes=stream.header.lanes[0],
            seconds=time.perf_counter() - start,
            stages=clock.stages,
        )

    def _edited(
        self,
        picture: Picture,
        stream: Stream,
        changed: Mask,
        clock: Clock,
        max_memory: int | None,
    ) -> Stream:
        """Code a picture with some pixels that differ from the stream."""
        header, lattice = stream.header, lattice_of(stream.header)
        level = level_of(self._bundle, header)
        plane = self._layout.plane(header.width, header.height)
        coder = self._decoder.latents(clock=clock)
        side = header.slice_side * plane.block
        sizes = header.lanes, plane, level, header.trellis, side
        v32 = coder.decode(stream.segments, *sizes, lattice=lattice)
        told = level.quality if self._bundle.manifest.encoder.sees_quality else None
        f, _ = self._encoder.analyse(picture, plane, clock, max_memory, told)
        fresh = _touched(changed, plane.latents, plane.stride)
        f = np.where(fresh, f, v32.astype(np.float32) * level.unit_float[:, None, None])
        z = coder.hyper_latents(stream.segments, header.lanes, plane, level, lattice)
        cells = _blocks(fresh, plane.hyper, plane.cell)
        h = np.where(cells, self._encoder.hyper(f, plane), hyper_values(z, level))
        own = EncodeOptions(trellis=header.trellis, dither=lattice.dither, steady=lattice.still)
        quantizer = replace(own.quantizer(self._bundle), keep=lattice.still)
        encoder = self._encoder.latents(clock)
        coded = encoder.encode(f, h, plane, level, quantizer, slice_side=side)
        written = replace(header, lanes=tuple(coded.lanes))
        return replace(stream, header=written, segments=coded.segments)


def _repatched(
    picture: Picture, changed: Mask, patches: Patches, header: Header
) -> tuple[Picture, Mask, Patches]:
    """Return what the latents code of an edited picture, where it changed, and new patches."""
    below = picture if header.bare else without(picture, patches.mask)
    patched = on_pixels(patches.mask, picture.pixels)
    patches = repack(picture.pixels, changed & patched, patches, header)
    return below, changed & ~patched, patches


def _check_alike(picture: Picture, header: Header) -> None:
    """Refuse a picture that cannot have been decoded from a stream."""
    if (picture.width, picture.height, picture.grey) != (header.width, header.height, header.grey):
        raise BadParameter(
            f"a {_kind(picture.grey)} picture of {picture.width}x{picture.height} pixels, and a"
            f" {_kind(header.grey)} file of {header.width}x{header.height}",
            expected="a picture that was decoded from the file",
            remedy="encode it without --like",
        )


def _kind(grey: bool) -> str:
    return "grey" if grey else "colour"


def _touched(changed: Mask, shape: tuple[int, int], stride: int) -> Mask:
    """Latents under changed pixels, and `AROUND` of them: bool, of a plane's shape."""
    mask = np.pad(_blocks(changed, shape, stride), AROUND)
    sides = range(2 * AROUND + 1)
    windows = [mask[y : y + shape[0], x : x + shape[1]] for y in sides for x in sides]
    touched: Mask = np.logical_or.reduce(windows)
    return touched


def _blocks(mask: Mask, shape: tuple[int, int], side: int) -> Mask:
    """Whether any value of each block of a plane is true; values beyond the edge are false."""
    rows, columns = shape
    missing = [(0, rows * side - mask.shape[0]), (0, columns * side - mask.shape[1])]
    padded = np.pad(mask, missing).reshape(rows, side, columns, side)
    blocks: Mask = np.logical_or.reduce(padded, axis=(1, 3))
    return blocks
