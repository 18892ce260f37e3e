"""Pictures to streams of one model: the order of the steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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
from trellic.pipeline.layers import LAYERS, layering_for
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.patching import Mask, choose, without
from trellic.pipeline.rate_control import fill, to_budget
from trellic.pipeline.results import Encoded
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
    layering : of a progressive file, from a quality (in sixteenths) and a number of context steps
    """

    def __init__(
        self,
        bundle: Bundle,
        pool: EnginePool,
        observe: Observer | None = None,
        layering: Callable[[int, int], Layering] = layering_for,
    ) -> None:
        self.bundle = self._bundle = bundle
        self._pool, self._observe = pool, observe
        self._layering = layering
        self._layout = bundle.manifest.layout

    def picture(self, picture: Picture, options: EncodeOptions) -> Encoded:
        """Encode a picture; see `Codec.encode_picture`."""
        start, clock = time.perf_counter(), Clock()
        self._check(picture)
        quantizer = options.quantizer(self._bundle)
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
        sees = self._sees(options)

        @lru_cache(maxsize=2 if whole.drawn else 1)
        def analysed(blocks: bytes | None, told: float | None) -> Analysed:
            layers = LAYERS if options.progressive else 1
            shown = picture
            if blocks is not None:
                shape = mask_shape(picture.height, picture.width)
                shown = without(picture, np.frombuffer(blocks, bool).reshape(shape))
            how = layers, whole.drawn, options.settled
            return self.analyse(shown, plane, whole.clock, options.max_memory, told, *how)

        def stream(mask: Mask | None, quality16: int) -> bitstream.Stream:
            def at_level(level: Level) -> Analysed:
                blocks = None if mask is None else mask.tobytes()
                return analysed(blocks, level.quality if sees else None)

            layering = None
            if options.progressive:
                layering = self._layering(quality16, len(self._layout.steps))
            coded = self._coded(quality16, layering, quantizer, plane, latents, at_level)
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
        f, h = zip(*(analysed(level) for level in rising), strict=True)
        coder = LayeredEncoder(latents.predictor, tables, layering.parts)
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
        layers: int = 1,
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
        layers : whose latents are held at once
        drawn : whether patches are tried
        settled : correct the latents once by what g_a finds in their own picture

        Raises
        ------
        ImageTooLarge
            When ``max_memory`` is too little.
        """
        manifest = self._bundle.manifest
        halo, h_a_halo = manifest.encoder.halo, manifest.hyper_encoder.halo
        self._check(picture)
        need = memory.encoding(
            picture,
            self._layout,
            halo=-(-halo // plane.stride),
            tiled_h_a=h_a_halo > 0,
            layers=layers,
            drawn=drawn,
            settled=settled,
        )
        purpose = f"encoding {picture.width}x{picture.height} pixels"
        tile = memory.tile_side(need, max_memory, purpose)
        clock.mark("prepare")
        f = self._g_a(picture.pixels, plane, quality, tile)
        clock.mark("g_a")
        if settled:
            f = self._settled(f, plane, quality, tile, picture.grey)
            clock.mark("g_s")
        h = self.hyper(f, plane, tile)
        clock.mark("h_a")
        return f, h

    def _g_a(
        self, pixels: npt.NDArray[np.uint8], plane: Plane, quality: float | None, tile: int
    ) -> npt.NDArray[np.float32]:
        g_a = self._pool.encoder()
        if quality is not None:
            g_a = transforms.told(g_a, quality)
        halo = self._bundle.manifest.encoder.halo
        return transforms.analysis(g_a, pixels, plane, self._layout.latents, halo, tile)

    def _settled(
        self,
        f: npt.NDArray[np.float32],
        plane: Plane,
        quality: float | None,
        tile: int,
        grey: bool,
    ) -> npt.NDArray[np.float32]:
        """Take one step towards the latents that g_s makes the picture of.

        With ``f = g_a(x)`` it is ``f + g_a(x) - g_a(g_s(f))``. g_a and g_s do not quite undo each
        other, and the step takes back most of what a picture loses by that, once or each time that
        it is encoded again (docs/saving-again.md).
        """
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
        shown = transforms.synthesis(g_s, seen, plane, choice.halo, bands=bands, tile=tile)
        moved = self._g_a(shown, plane, quality, tile)
        np.subtract(f, moved, out=moved)
        moved += f
        return moved

    def hyper(
        self, f: npt.NDArray[np.float32], plane: Plane, tile: int = transforms.TILE
    ) -> npt.NDArray[np.float32]:
        """Hyper-latents of latents, both before their gains: h_a."""
        halo = self._bundle.manifest.hyper_encoder.halo
        return transforms.hyper_analysis(self._pool.hyper_encoder(), f, plane, halo, tile)


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
