"""Pictures to streams of one model: the order of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trellic import bitstream, images
from trellic.bitstream import Chunks, Layering
from trellic.bitstream.patches import mask_shape
from trellic.constants import COLOURS, DEFAULT_DECODER
from trellic.engines.pool import EnginePool
from trellic.errors import BadParameter
from trellic.geometry import Plane
from trellic.images import Picture
from trellic.images.drawn import drawn_blocks
from trellic.images.lossless import has_lossless
from trellic.latents.encoder import CodedLatents, LatentEncoder, Observer
from trellic.latents.layered_coding import LayeredEncoder, levels_of
from trellic.latents.quantizer import Quantizer
from trellic.limits import PATCH_SIDE
from trellic.model.bundle import Bundle
from trellic.model.choice import choose as choose_decoder
from trellic.model.quality import Level
from trellic.pipeline import memory, transforms
from trellic.pipeline.decoder import StreamDecoder
from trellic.pipeline.header import header_of
from trellic.pipeline.layers import layering_for
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.patching import Mask, choose, without
from trellic.pipeline.rate_control import fill, to_budget
from trellic.pipeline.results import Encoded
from trellic.pipeline.settling import Settler, Transforms, corrected
from trellic.support.clock import Clock

Analysed = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class _Whole:
    """A picture in the form that is coded, and how to code it."""

    picture: Picture
    chunks: Chunks
    options: EncodeOptions
    quantizer: Quantizer
    clock: Clock
    drawn: bool  # patches are tried


class StreamEncoder:
    """Encodes pictures to the streams of one model.

    Parameters
    ----------
    bundle : the model
    pool : its engines
    observe : called with quantized latents, as by `LatentEncoder.encode`; not for layers
    layering : of a progressive file, from a quality (in sixteenths), the context steps and pixels
    """

    def __init__(
        self,
        bundle: Bundle,
        pool: EnginePool,
        observe: Observer | None = None,
        layering: Callable[[int, int, int], Layering] = layering_for,
    ) -> None:
        self.bundle = self._bundle = bundle
        self._pool, self._observe = pool, observe
        self._layering = layering
        self._layout = bundle.manifest.layout

    def picture(self, picture: Picture, options: EncodeOptions) -> Encoded:
        """Encode a picture; see `Codec.encode_picture`."""
        start, clock = time.perf_counter(), Clock()
        self._check(picture)
        quantizer = self._quantizer(options, picture)
        picture, chunks = prepared(picture, strip=options.strip)
        pixels, mask = picture.width * picture.height, self._drawn(picture, options)
        whole = _Whole(picture, chunks, options, quantizer, clock, mask is not None)
        stream = self._streams(whole)

        def encode_at(quality16: int) -> bytes:
            if mask is None:
                return bitstream.write(stream(None, quality16))
            decode = StreamDecoder(self._bundle, self._pool).shown
            return bitstream.write(choose(picture.pixels, mask, stream, decode, quality16))

        if options.bpp is None and options.max_bytes is None:
            quality16, data = options.quality16, encode_at(options.quality16)
        else:
            budget = to_budget(options.bpp, options.max_bytes, pixels)
            spare = options.max_bytes is not None
            quality16, data = fill(encode_at, budget, allow_spare=spare, pixels=pixels)
        clock.mark("file")
        return Encoded(
            data=data,
            width=picture.width,
            height=picture.height,
            quality=quality16 / 16,
            trellis=quantizer.states,
            lanes=bitstream.read_header(data).lanes[0],
            seconds=time.perf_counter() - start,
            stages=clock.stages,
        )

    def _quantizer(self, options: EncodeOptions, picture: Picture) -> Quantizer:
        """Return how to quantize; layers of intervals have no trellis."""
        quantizer = options.quantizer(self._bundle)
        if options.progressive and self._layers(options.quality16, picture).intervals:
            return replace(quantizer, states=0)
        return quantizer

    def _layers(self, quality16: int, picture: Picture) -> Layering:
        pixels = picture.width * picture.height
        return self._layering(quality16, len(self._layout.steps), pixels)

    def _check(self, picture: Picture) -> None:
        images.check_bands(picture, self._layout.bands, self._bundle.manifest.name)

    def _drawn(self, picture: Picture, options: EncodeOptions) -> Mask | None:
        """Return the blocks that may become patches, if they are asked for and there are any."""
        decoder = self._bundle.manifest.decoders.get(DEFAULT_DECODER)
        if options.patches == "off" or decoder is None or decoder.scale != 1:
            return None
        if self._layout.bands != COLOURS:
            return None
        mask = drawn_blocks(picture.pixels, PATCH_SIDE)
        return mask if mask.any() and has_lossless() else None

    def _streams(self, whole: _Whole) -> Callable[[Mask | None, int], bitstream.Stream]:
        """Return what encodes a picture, with some blocks filled in, at a quality in sixteenths."""
        picture, options, quantizer = whole.picture, whole.options, whole.quantizer
        size = picture.width, picture.height
        plane, latents = self._layout.plane(*size), self.latents(whole.clock)
        sees, how_many = self._sees(options), 2 if whole.drawn else 1

        @lru_cache(maxsize=how_many)
        def analysed(blocks: bytes | None, told: float | None) -> Analysed:
            shown = _filled(picture, blocks)
            how = options.progressive, whole.drawn, options.refine
            return self.analyse(shown, plane, whole.clock, options.max_memory, told, *how)

        @lru_cache(maxsize=how_many)
        def settled(blocks: bytes | None, quality16: int) -> Analysed:
            level = self._bundle.levels.at(quality16, quantizer.states)
            shown, told = _filled(picture, blocks), level.quality if sees else None
            how = False, whole.drawn, False, True
            tile = self._tile(shown, plane, options.max_memory, *how)
            networks = self._transforms(plane, told, tile, grey=picture.grey, clock=whole.clock)
            return Settler(networks, latents, plane, level, quantizer).settle(shown.pixels)

        def stream(mask: Mask | None, quality16: int) -> bitstream.Stream:
            def at_level(level: Level) -> Analysed:
                blocks = None if mask is None else mask.tobytes()
                if options.steady:
                    return settled(blocks, quality16)
                return analysed(blocks, level.quality if sees else None)

            layering = None
            if options.progressive:
                layering = self._layers(quality16, picture)
            keeping = replace(quantizer, keep=options.steady)
            coded = self._coded(quality16, layering, keeping, plane, latents, at_level)
            header = header_of(
                self._bundle,
                size,
                quality16,
                quantizer.states,
                coded.lanes,
                grey=picture.grey,
                lattice=quantizer.lattice,
                layering=layering,
            )
            return bitstream.Stream(header, coded.segments, whole.chunks, self._bundle.embedded)

        return stream

    def _sees(self, options: EncodeOptions) -> bool:
        """Return whether latents before their gains depend on the quality."""
        manifest = self._bundle.manifest
        if manifest.encoder.sees_quality or not options.settled:
            return manifest.encoder.sees_quality
        decoder = choose_decoder(manifest.decoders, DEFAULT_DECODER, manifest.name)
        return any(part.info.graph.sees_quality for part in decoder.parts)

    def _coded(
        self,
        quality16: int,
        layering: Layering | None,
        quantizer: Quantizer,
        plane: Plane,
        latents: LatentEncoder,
        analysed: Callable[[Level], Analysed],
    ) -> CodedLatents:
        """Code a picture at a quality, in layers or not."""
        tables, levels = self._bundle.tables, self._bundle.levels
        if layering is None:
            dithered = quantizer.dither is not None
            level = levels.at(quality16, quantizer.states, dithered=dithered)
            made = analysed(level)
            return latents.encode(*made, plane, level, quantizer, observe=self._observe)
        rising = levels_of(levels, (*layering.below, quality16), quantizer.states)
        seen = [rising[-1]] * len(rising) if layering.intervals else rising
        f, h = zip(*(analysed(level) for level in seen), strict=True)
        coder = LayeredEncoder(latents.predictor, tables, layering)
        return coder.encode(f, h[-1], plane, rising, quantizer)

    def latents(self, clock: Clock | None = None) -> LatentEncoder:
        """Return an encoder of the model's latents."""
        return LatentEncoder(self._layout, self._bundle.tables, self._pool.exact(), clock=clock)

    def analyse(
        self,
        picture: Picture,
        plane: Plane,
        clock: Clock,
        max_memory: int | None = None,
        quality: float | None = None,
        layered: bool = False,
        drawn: bool = False,
        settled: bool = False,
    ) -> Analysed:
        """Latents and hyper-latents before their gains: g_a, then h_a.

        Parameters
        ----------
        plane : of the picture
        clock : told when a stage ends: "prepare", "g_a", "g_s" if settled, "h_a"
        max_memory : bytes that the process may use; None for no limit
        quality : of the level, for an encoder that sees it
        layered : whether the file will be progressive
        drawn : whether patches are tried
        settled : correct the latents once by what g_a finds in their own picture

        Raises
        ------
        ImageTooLarge
            When ``max_memory`` is too little.
        """
        self._check(picture)
        tile = self._tile(picture, plane, max_memory, layered, drawn, settled)
        clock.mark("prepare")
        networks = self._transforms(plane, quality, tile, grey=picture.grey, clock=clock)
        f = networks.g_a(picture.pixels)
        if settled:
            f = corrected(networks, f, f)
        return f, networks.h_a(f)

    def _tile(
        self,
        picture: Picture,
        plane: Plane,
        max_memory: int | None,
        layered: bool = False,
        drawn: bool = False,
        settled: bool = False,
        still: bool = False,
    ) -> int:
        """Return the side of tiles whose memory is within a limit."""
        manifest = self._bundle.manifest
        need = memory.encoding(
            picture,
            self._layout,
            halo=-(-manifest.encoder.halo // plane.stride),
            tiled_h_a=manifest.hyper_encoder.halo > 0,
            layered=layered,
            drawn=drawn,
            settled=settled,
            still=still,
        )
        purpose = f"encoding {picture.width}x{picture.height} pixels"
        return memory.tile_side(need, max_memory, purpose)

    def _g_a(
        self, pixels: npt.NDArray[np.uint8], plane: Plane, quality: float | None, tile: int
    ) -> npt.NDArray[np.float32]:
        g_a = self._pool.encoder()
        if quality is not None:
            g_a = transforms.told(g_a, quality)
        halo = self._bundle.manifest.encoder.halo
        return transforms.analysis(g_a, pixels, plane, self._layout.latents, halo, tile)

    def _transforms(
        self, plane: Plane, quality: float | None, tile: int, *, grey: bool, clock: Clock
    ) -> Transforms:
        """Return the networks for pictures of one size, each of which tells the clock."""

        def g_a(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            f = self._g_a(pixels, plane, quality, tile)
            clock.mark("g_a")
            return f

        def g_s(f: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
            shown = self._g_s(f, plane, quality, tile, grey)
            clock.mark("g_s")
            return shown

        def h_a(f: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            h = self.hyper(f, plane, tile)
            clock.mark("h_a")
            return h

        return Transforms(g_a, g_s, h_a)

    def _g_s(
        self,
        f: npt.NDArray[np.float32],
        plane: Plane,
        quality: float | None,
        tile: int,
        grey: bool,
    ) -> npt.NDArray[np.uint8]:
        manifest = self._bundle.manifest
        choice = choose_decoder(manifest.decoders, DEFAULT_DECODER, manifest.name)
        if choice.kind != "picture" or choice.scale != 1:
            raise BadParameter(
                f"refine or steady with the decoder {DEFAULT_DECODER!r} of {manifest.name!r}",
                expected="one that makes pictures of full size",
            )
        g_s = self._pool.decoder(DEFAULT_DECODER)
        if quality is not None:
            g_s = transforms.told(g_s, quality)
        seen = f[: choice.channels(self._layout)]
        bands = 1 if grey else self._layout.bands
        return transforms.synthesis(g_s, seen, plane, choice.halo, bands=bands, tile=tile)

    def hyper(
        self, f: npt.NDArray[np.float32], plane: Plane, tile: int = transforms.TILE
    ) -> npt.NDArray[np.float32]:
        """Hyper-latents of latents, both before their gains: h_a."""
        halo = self._bundle.manifest.hyper_encoder.halo
        return transforms.hyper_analysis(self._pool.hyper_encoder(), f, plane, halo, tile)


def _filled(picture: Picture, blocks: bytes | None) -> Picture:
    """Return a picture without the blocks of a mask, if there is one."""
    if blocks is None:
        return picture
    shape = mask_shape(picture.height, picture.width)
    return without(picture, np.frombuffer(blocks, bool).reshape(shape))


def prepared(picture: Picture, *, strip: bool) -> tuple[Picture, Chunks]:
    """Return a picture in the form that is coded, and the chunks beside it.

    Parameters
    ----------
    strip : leave out metadata; colours with a profile are converted to sRGB first

    Returns
    -------
    picture : with colours under alpha 0 that cost little
    chunks : its alpha, and its metadata
    """
    picture = images.fill_clear(images.to_srgb(picture) if strip else picture)
    return picture, Chunks.of(picture, strip=strip)
