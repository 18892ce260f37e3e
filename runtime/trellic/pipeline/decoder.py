"""Streams of one model to pictures or labels; reads only what the chosen decoder needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic import bitstream
from trellic.bitstream import Header, Prefix, Stream
from trellic.bitstream.cut import layering_of
from trellic.bitstream.front import PATCHES
from trellic.constants import COLOURS, DEFAULT_DECODER
from trellic.engines import Engine
from trellic.engines.mixture import Mixture
from trellic.engines.pool import EnginePool
from trellic.errors import BadParameter, CorruptStream, EngineError
from trellic.geometry import BLOCK, Rectangle
from trellic.images import Picture
from trellic.latents.decoder import LatentDecoder
from trellic.latents.encoder import LatentEncoder
from trellic.latents.layered_coding import LayeredDecoder, levels_of, reached
from trellic.latents.lazy import LazyLatents
from trellic.latents.order import check_count
from trellic.latents.quantizer import Quantizer, lattice_of
from trellic.model.bundle import Bundle
from trellic.model.choice import Choice, choose
from trellic.model.quality import Level
from trellic.pipeline import memory, transforms
from trellic.pipeline.header import header_of, level_of
from trellic.pipeline.layers import told16
from trellic.pipeline.options import DecodeOptions
from trellic.pipeline.patches import paste
from trellic.pipeline.rate_control import QUALITY16_MAX
from trellic.pipeline.region import crop, to_rectangle
from trellic.pipeline.results import Damage, Decoded
from trellic.support.clock import Clock

Parts = Stream | Prefix
Labels = list[tuple[str, float]]
WARM_SIDE = 64  # pixels of the picture that warms a decoder up
WARM_TRELLIS = 8
WARM_LANES = (1, 32)  # few lanes and many lanes have different kernels


class StreamDecoder:
    """Decodes the streams of one model.

    Parameters
    ----------
    bundle : the model
    pool : its engines
    """

    def __init__(self, bundle: Bundle, pool: EnginePool) -> None:
        self._bundle, self._pool = bundle, pool
        self._layout = bundle.manifest.layout

    def picture(self, data: bytes | memoryview, options: DecodeOptions) -> Decoded:
        """Decode a stream to a picture; see `Codec.decode_timed`."""
        choice, clock = self._choose(options.decoder, "picture"), Clock()
        header = bitstream.read_header(data)
        part = to_rectangle(options.region, header.width, header.height)
        if options.best_effort:
            stream: Parts = bitstream.read_prefix(data, options.max_pixels)
        else:
            wanted = None if options.region is None else part
            stream = self._read(data, header, choice, options.max_pixels, wanted)
        lost = set[int]() if options.best_effort and not _is_whole(stream) else None
        picture = self._picture(stream, choice, clock, part, options.max_memory, lost)
        passes = header.passes if header.layering else choice.steps(self._layout)
        damage = None if lost is None else _damage(stream, lost, passes)
        if stream.patches is not None:
            faults = list[CorruptStream]() if options.best_effort else None
            pasted = paste(picture.pixels, stream.patches, header, part, choice.scale, faults)
            if faults:
                if header.bare and not pasted:
                    raise faults[0]
                damage = damage or _damage(stream, set(), passes)
                damage = replace(damage, chunks=(*damage.chunks, PATCHES))
            clock.mark("patches")
        return Decoded(picture, sum(clock.stages.values()), clock.stages, damage)

    def shown(self, stream: Stream) -> npt.NDArray[np.uint8]:
        """Return the pixels of a stream in memory by the default decoder, without its patches."""
        whole = to_rectangle(None, stream.header.width, stream.header.height)
        choice = self._choose(DEFAULT_DECODER, "picture")
        return self._picture(stream, choice, Clock(), whole).pixels

    def labels(
        self,
        data: bytes | memoryview,
        decoder: str,
        max_pixels: int,
        max_memory: int | None = None,
    ) -> Labels:
        """Decode a stream to labels; see `Codec.classify`."""
        choice = self._choose(decoder, "labels")
        stream = self._read(data, bitstream.read_header(data), choice, max_pixels)
        header, channels = stream.header, choice.channels(self._layout)
        if header.bare:
            raise BadParameter(
                "labels of a file without latents",
                expected="a file that holds more than patches",
                remedy="decode the picture and encode it with patches='off'",
            )
        need = memory.classifying(header, channels, stride=self._layout.stride)
        memory.check(need, max_memory, f"classifying {header.width}x{header.height} pixels")
        return self._labels(stream, choice)

    def warm_up(self, decoder: str) -> None:
        """Load all that a decoder of any kind needs, and run it once."""
        choice = choose(self._bundle.manifest.decoders, decoder, self._bundle.manifest.name)
        self._engine(choice)
        for lanes in WARM_LANES:
            stream = self._blank(choice, lanes)
            if choice.kind == "labels":
                self._labels(stream, choice)
            else:
                self._picture(stream, choice, Clock(), Rectangle(0, WARM_SIDE, 0, WARM_SIDE))

    # ---- what is needed ----

    def _choose(self, decoder: str, kind: str) -> Choice:
        manifest = self._bundle.manifest
        choice = choose(manifest.decoders, decoder, manifest.name)
        if choice.kind != kind:
            remedy = (
                "use classify (trellic decode prints the labels)"
                if choice.kind == "labels"
                else "use decode"
            )
            raise BadParameter(
                f"decoder {decoder!r} of model {manifest.name!r} gives {_GIVES[choice.kind]}",
                expected=f"one that gives {_GIVES[kind]}",
                remedy=remedy,
            )
        return choice

    def _engine(self, choice: Choice) -> Engine:
        parts = [
            (self._pool.decoder(p.name), p.info.channels or self._layout.latents, p.weight)
            for p in choice.parts
        ]
        return parts[0][0] if len(parts) == 1 else Mixture(parts)

    def latents(self, steps: int | None = None, clock: Clock | None = None) -> LatentDecoder:
        """Return a decoder of the model's latents, for all context steps or the first few."""
        exact = self._pool.exact(steps)
        return LatentDecoder(self._layout, self._bundle.tables, exact, steps, clock)

    def _read(
        self,
        data: bytes | memoryview,
        header: Header,
        choice: Choice,
        max_pixels: int,
        part: Rectangle | None = None,
    ) -> Parts:
        """Read a whole stream, or the parts that a region and the decoder need."""
        steps = choice.steps(self._layout)
        if header.layering is not None:
            steps = header.passes
        if part is None and (header.layering or steps == len(self._layout.steps)):
            return bitstream.read(data, max_pixels)
        area = part or to_rectangle(None, header.width, header.height)
        seen = area.coarser(self._layout.stride).grown(choice.halo).finer(self._layout.stride)
        return bitstream.read_slices(data, seen.coarser(BLOCK), max_pixels, steps)

    # ---- doing it ----

    def _picture(
        self,
        stream: Parts,
        choice: Choice,
        clock: Clock,
        part: Rectangle,
        max_memory: int | None = None,
        lost: set[int] | None = None,
    ) -> Picture:
        header, stride = stream.header, self._layout.stride
        _check_bands(stream, self._layout.bands)
        if header.bare:
            return _blank_picture(stream, choice, part, max_memory)
        tile = self._tile(stream, choice, part, max_memory)
        plane = self._layout.plane(header.width, header.height)
        engine = self._engine(choice)
        by_rows = transforms.by_rows(part.coarser(stride))
        level = self._level(stream)
        latents = self._latents(stream, choice, level, clock, by_rows, lost)
        pixels = transforms.synthesis(
            transforms.told(engine, self._told(stream, level)),
            latents,
            plane,
            choice.halo,
            region=part,
            scale=choice.scale,
            bands=1 if header.grey else self._layout.bands,
            tile=tile,
        )
        clock.mark("g_s")
        return Picture(pixels, **vars(crop(stream.chunks, part, choice.scale)))

    def _labels(self, stream: Parts, choice: Choice) -> Labels:
        engine = self._engine(choice)
        plane = self._layout.plane(stream.header.width, stream.header.height)
        whole = (slice(None), *transforms.all_of(plane).index())
        level = self._level(stream)
        latents = self._latents(stream, choice, level, Clock(), by_rows=True)[whole]
        quality = np.array([self._told(stream, level)], np.float32)
        logits = engine({"latents": latents[None], "quality": quality})[0]
        names = choice.parts[0].info.labels or []
        if logits.shape != (1, len(names)) or not np.isfinite(logits).all():
            raise EngineError(
                f"decoder {choice.text!r} made logits {logits.shape}",
                expected=f"{(1, len(names))} finite numbers, one for each label",
            )
        chances = _softmax(logits[0])
        order = np.argsort(-chances, kind="stable")
        return [(names[i], float(chances[i])) for i in order]

    def _level(self, stream: Parts) -> Level:
        """Return the level whose steps the decoded latents are in."""
        header = stream.header
        if header.layering is not None:
            return self._levels(stream)[-1]
        return level_of(self._bundle, header)

    def _levels(self, stream: Parts) -> list[Level]:
        """Return the levels of a stream's layers, up to the last that it has a part of."""
        header, layering = stream.header, layering_of(stream.header)
        qualities16 = (*layering.below, header.quality16)
        levels = levels_of(self._bundle.levels, qualities16, header.trellis)
        passes = reached(header, stream.segments)
        return levels[: 1 + layering.of(passes - 1, header.steps)[0]]

    def _told(self, stream: Parts, level: Level) -> float:
        """Return the quality that a decoder is told: that of the level, unless layers say more."""
        header = stream.header
        if header.layering is None or not header.layering.intervals:
            return level.quality
        passes = reached(header, stream.segments)
        return told16(header.layering, header.quality16, header.steps, passes) / 16

    def _latents(
        self,
        stream: Parts,
        choice: Choice,
        level: Level,
        clock: Clock,
        by_rows: bool,
        lost: set[int] | None = None,
    ) -> LazyLatents:
        header, steps = stream.header, choice.steps(self._layout)
        check_count(1 + header.steps * header.slices, len(self._layout.steps), header.slices)
        plane = self._layout.plane(header.width, header.height)
        clock.mark("file")
        if header.layering is None:
            coder = self.latents(steps, clock)
            segments = stream.segments[: 1 + steps * header.slices]
            sizes = header.lanes, plane, level, header.trellis, header.slice_side * plane.block
            decode = coder.slices(segments, *sizes, lost, lattice_of(header))
        else:
            layered = LayeredDecoder(self._layout, self._bundle.tables, self._pool.exact(), clock)
            levels = self._levels(stream)
            decode = layered.slices(header, stream.segments, plane, levels, lost, steps)
        latents = LazyLatents(
            header,
            plane,
            decode,
            level.unit_float[: choice.channels(self._layout), None, None],
            by_rows=by_rows,
            clock=clock,
        )
        clock.mark("latents")
        return latents

    def _tile(self, stream: Parts, choice: Choice, part: Rectangle, max_memory: int | None) -> int:
        need = memory.decoding(
            stream.header,
            part,
            choice.channels(self._layout),
            halo=choice.halo,
            alpha=stream.chunks.alpha is not None,
            layout=self._layout,
            scale=choice.scale,
            networks=len(choice.parts),
        )
        if stream.patches is not None:
            need = memory.with_patches(need, stream.header)
        purpose = "decoding {1}x{0} pixels".format(*part.shape)
        return memory.tile_side(need, max_memory, purpose, ", or decode a region of it")

    def _blank(self, choice: Choice, lanes: int) -> Stream:
        """Return a stream of a decoder's steps, made without loading g_a."""
        layout, manifest = self._layout, self._bundle.manifest
        plane = layout.plane(WARM_SIDE, WARM_SIDE)
        level = self._bundle.levels.at(QUALITY16_MAX, WARM_TRELLIS)
        f = np.ones((layout.latents, *plane.latents), np.float32)
        h = np.zeros((layout.hyper, *plane.hyper), np.float32)
        quantizer = Quantizer(WARM_TRELLIS, manifest.search["trellis"].lam)
        steps = choice.steps(layout)
        encoder = LatentEncoder(layout, self._bundle.tables, self._pool.exact(steps), steps)
        coded = encoder.encode(f, h, plane, level, quantizer, lanes=[lanes])
        size = WARM_SIDE, WARM_SIDE
        header = header_of(self._bundle, size, QUALITY16_MAX, WARM_TRELLIS, coded.lanes)
        return Stream(header, coded.segments)


def _blank_picture(
    stream: Parts, choice: Choice, part: Rectangle, max_memory: int | None
) -> Picture:
    """Return what the patches of a file without latents will cover.

    Raises
    ------
    CorruptStream
        When they are lost.
    ImageTooLarge
        When ``max_memory`` is too little.
    """
    header, alpha = stream.header, stream.chunks.alpha is not None
    need = memory.bare(header, part, alpha=alpha, scale=choice.scale)
    memory.check(need, max_memory, f"decoding {header.width}x{header.height} pixels")
    if stream.patches is None:
        raise CorruptStream("the patches are damaged or missing, and the file has no latents")
    shape = part.coarser(choice.scale).shape
    pixels = np.zeros(shape if stream.header.grey else (*shape, 3), np.uint8)
    return Picture(pixels, **vars(crop(stream.chunks, part, choice.scale)))


def _check_bands(stream: Parts, bands: int) -> None:
    """Refuse what streams of other bands than red, green and blue never have."""
    header = stream.header
    others = header.grey or header.bare or stream.patches is not None
    if bands != COLOURS and (others or stream.chunks.alpha is not None):
        raise CorruptStream(
            f"a stream of {bands} bands that is grey, or has patches or alpha",
            expected="none of it",
        )


_GIVES = {"picture": "a picture", "labels": "labels, no picture"}


def _softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    chances: npt.NDArray[np.float64] = powers / powers.sum()
    return chances


def _is_whole(stream: Parts) -> bool:
    return not isinstance(stream, Prefix) or (stream.whole and not stream.lost_chunks)


def _damage(part: Parts, lost: set[int], passes: int) -> Damage:
    chunks = part.lost_chunks if isinstance(part, Prefix) else ()
    slices = {(number - 1) % part.header.slices for number in lost}
    return Damage(len(lost), passes * part.header.slices, tuple(sorted(slices)), chunks)
