r"""Streams to smaller streams of the same model, without making a picture in between.

::

    .tlc -> y_hat / gain -> matched to the new quality -> h_a -> z
                                                      \-> * new gain -> search -> rANS -> .tlc

Without g_s and g_a, it saves most of the time, and avoids the loss of a second generation. The
hyper-latents are computed again from the latents of the file.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trellic import bitstream
from trellic.bitstream import Header
from trellic.constants import MAX_PIXELS
from trellic.engines.pool import EnginePool
from trellic.errors import BadParameter, TrellicWarning
from trellic.latents.decoder import LatentDecoder
from trellic.latents.order import check_count
from trellic.latents.quantizer import lattice_of
from trellic.model.bundle import Bundle
from trellic.pipeline import memory
from trellic.pipeline.alone import recoded
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.header import level_of, refuse_layers
from trellic.pipeline.matching import Matcher
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.rate_control import fill, to_budget, to_quality16
from trellic.pipeline.results import Encoded
from trellic.support.clock import Clock

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TranscodeOptions:
    """Options of transcoding; `trellic.Codec.transcode_timed` explains each one.

    Raises
    ------
    BadParameter
        When one is out of range, or there is not exactly one target.
    """

    quality: float | None = None
    max_bytes: int | None = None
    trellis: int | None = None
    max_pixels: int = MAX_PIXELS
    max_memory: int | None = None

    def __post_init__(self) -> None:
        if (self.quality is None) == (self.max_bytes is None):
            raise BadParameter(
                "two targets" if self.quality is not None else "no target",
                expected="quality or max_bytes",
            )
        self.encoding(0)

    def encoding(self, trellis: int, *, steady: bool = False) -> EncodeOptions:
        """Return the options of an encoder; ``trellis`` and ``steady`` are those of the stream."""
        kept = self.trellis is None
        return EncodeOptions(
            quality=self.quality,
            max_bytes=self.max_bytes,
            trellis=trellis if self.trellis is None else self.trellis,
            steady=steady and kept,
        )


class Transcoder:
    """Transcodes the streams of one model.

    Parameters
    ----------
    bundle : the model
    pool : its engines
    """

    def __init__(self, bundle: Bundle, pool: EnginePool) -> None:
        self._bundle, self._pool = bundle, pool
        self._layout = bundle.manifest.layout
        self._encoder = StreamEncoder(bundle, pool)

    def stream(self, data: bytes | memoryview, options: TranscodeOptions) -> Encoded:
        """Transcode a stream; see `Codec.transcode_timed`."""
        start, clock = time.perf_counter(), Clock()
        stream = bitstream.read(data, options.max_pixels)
        header = stream.header
        if header.bare:
            return self._bare(stream, data, options, start)
        encoding = options.encoding(header.trellis, steady=header.still)
        refuse_layers(header, "transcoding a progressive file")
        check_count(header.segments, len(self._layout.steps), header.slices)
        plane = self._layout.plane(header.width, header.height)
        self._check_memory(header, stream.chunks.alpha is not None, options.max_memory)
        matcher, quantizer = self._matcher(stream, clock), encoding.quantizer(self._bundle)
        latents, side = self._encoder.latents(clock), header.slice_side * plane.block

        def encode_at(quality16: int) -> bytes:
            level = self._bundle.levels.at(quality16, quantizer.states)
            f = matcher.at(level.quality)
            clock.mark("match")
            h = self._encoder.hyper(f, plane)
            clock.mark("h_a")
            coded = latents.encode(f, h, plane, level, quantizer, slice_side=side)
            fresh = replace(
                header,
                quality16=quality16,
                trellis=quantizer.states,
                lanes=tuple(coded.lanes),
                dither=None,
                still=quantizer.still,
            )
            return bitstream.write(replace(stream, header=fresh, segments=coded.segments))

        result = _meet(encode_at, data, header, options)
        clock.mark("file")
        return _encoded(result, start, clock)

    def _bare(
        self,
        stream: bitstream.Stream,
        data: bytes | memoryview,
        options: TranscodeOptions,
        start: float,
    ) -> Encoded:
        """Transcode a stream without latents: its AV1 patches are coded again."""
        header, clock = stream.header, Clock()
        need = memory.recoding(header, alpha=stream.chunks.alpha is not None)
        size = f"{header.width}x{header.height}"
        memory.check(need, options.max_memory, f"transcoding {size} pixels")

        def encode_at(quality16: int) -> bytes:
            if stream.patches is None or quality16 >= header.quality16:
                return bytes(data)  # nothing is gained
            fresh = replace(header, quality16=quality16)
            patches = recoded(stream.patches, header, quality16)
            return bitstream.write(replace(stream, header=fresh, patches=patches))

        result = _meet(encode_at, data, header, options)
        clock.mark("patches")
        return _encoded(result, start, clock)

    def _matcher(self, stream: bitstream.Stream, clock: Clock) -> Matcher:
        """Decode all latents, gains divided out."""
        header = stream.header
        level = level_of(self._bundle, header)
        plane = self._layout.plane(header.width, header.height)
        coder = LatentDecoder(self._layout, self._bundle.tables, self._pool.exact(), clock=clock)
        v32 = coder.decode(
            stream.segments,
            header.lanes,
            plane,
            level,
            header.trellis,
            header.slice_side * plane.block,
            lattice=lattice_of(header),
        )
        unit = np.float32(128) / level.gain.astype(np.float32)
        f = v32.astype(np.float32) * unit[:, None, None]
        matcher = Matcher(self._bundle, self._pool, f, plane, level.quality)
        clock.mark("match")
        return matcher

    def _check_memory(self, header: Header, alpha: bool, limit: int | None) -> None:
        halo = self._bundle.manifest.hyper_encoder.halo
        need = memory.transcoding(header, self._layout, alpha=alpha, tiled_h_a=halo > 0)
        memory.check(need, limit, f"transcoding {header.width}x{header.height} pixels")


def _meet(
    encode_at: Callable[[int], bytes],
    data: bytes | memoryview,
    header: Header,
    options: TranscodeOptions,
) -> bytes:
    """Encode at the requested quality, or at the one that fills the bytes.

    The result is the stream itself if it is small enough, or has the quality and the trellis; a
    dithered one keeps its dither then.
    """
    if options.quality is not None:
        quality16 = to_quality16(options.quality)
        if quality16 > header.quality16:
            _warn(header, f"transcoding to {quality16 / 16:g} makes it larger and no better")
        if quality16 == header.quality16 and _as_it_is(header, options):
            _warn(header, "it is kept as it is")
            return bytes(data)
        return encode_at(quality16)
    pixels = header.width * header.height
    budget = to_budget(None, options.max_bytes, pixels)
    if len(data) <= budget:
        return bytes(data)
    return fill(encode_at, budget, allow_spare=True, pixels=pixels)[1]


def _as_it_is(header: Header, options: TranscodeOptions) -> bool:
    """Whether a stream of the quality has all else that is asked for, too.

    A trellis that is asked for makes a steady file an ordinary one.
    """
    if options.trellis is None:
        return True
    return options.trellis == header.trellis and not header.still


def _warn(header: Header, consequence: str) -> None:
    warnings.warn(
        f"the file has quality {header.quality16 / 16:g}: {consequence}",
        TrellicWarning,
        stacklevel=3,
    )


def _encoded(data: bytes, start: float, clock: Clock) -> Encoded:
    """Describe a stream that was made, whose header says all but the time."""
    header = bitstream.read_header(data)
    return Encoded(
        data=data,
        width=header.width,
        height=header.height,
        quality=header.quality,
        trellis=header.trellis,
        lanes=header.lanes[0],
        seconds=time.perf_counter() - start,
        stages=clock.stages,
    )
