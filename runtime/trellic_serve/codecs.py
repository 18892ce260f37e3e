"""The loaded models of a service; they code pictures one by one, or in batches on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from trellic import bitstream, images
from trellic.codec import Codec
from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_PATCHES,
    DEFAULT_TRELLIS,
    Patching,
    Trellis,
)
from trellic.errors import BadAdapter, BadParameter, TrellicError, UnknownAdapter, UnknownDecoder
from trellic.images import Picture
from trellic.model.choice import choose
from trellic.pipeline.region import Region
from trellic.scored import encode_scored
from trellic_serve.batcher import Batcher
from trellic_serve.settings import Settings

Stages = dict[str, float]


@dataclass(frozen=True)
class Encoding:
    """How to encode a picture; at most one of the four targets.

    Attributes
    ----------
    model : name, None for the first of the service
    adapter : name, None for none
    quality, bpp, max_bytes, trellis, strip, patches, progressive, steady, refine : as of
        `trellic.Codec.encode_picture`
    score : SSIMULACRA 2 to reach, within a point
    """

    model: str | None = None
    quality: float | None = None
    score: float | None = None
    bpp: float | None = None
    max_bytes: int | None = None
    trellis: Trellis = DEFAULT_TRELLIS
    strip: bool = False
    patches: Patching = DEFAULT_PATCHES
    progressive: bool = False
    steady: bool = False
    refine: bool = False
    adapter: str | None = None

    def __post_init__(self) -> None:
        targets = (self.quality, self.score, self.bpp, self.max_bytes)
        if sum(target is not None for target in targets) > 1:
            raise BadParameter("more than one target", expected="quality, score, bpp or bytes")

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the codec."""
        return {"quality": self.quality, "bpp": self.bpp, "max_bytes": self.max_bytes} | self.how

    @property
    def how(self) -> dict[str, Any]:
        """Arguments of the codec without a target."""
        names = ("trellis", "strip", "patches", "progressive", "steady", "refine")
        return {name: getattr(self, name) for name in names}


class Stream(NamedTuple):
    """A stream that was made, and seconds by stage."""

    data: bytes
    stages: Stages


class Shown(NamedTuple):
    """A picture that was made of a stream, and seconds by stage."""

    picture: Picture
    stages: Stages


class Coder:
    """Codecs by the names of their models.

    Parameters
    ----------
    settings : of the service
    seen : called with the number of pictures of each batch on a GPU

    Raises
    ------
    TrellicError
        When a model or an adapter is not installed or damaged, an adapter is of none of the models,
        or the device is not there. That its networks run is known after `load`.
    """

    def __init__(
        self, settings: Settings, seen: Callable[[int], None] = lambda count: None
    ) -> None:
        self._settings = settings
        self._codecs = {codec.model: codec for codec in map(self._open, settings.models)}
        self._adapted = {
            (codec.model, codec.bundle.adapter.name): codec
            for codec in map(self._open_adapted, settings.adapters)
            if codec.bundle.adapter is not None
        }
        make = partial(Batcher, window=settings.window, most=settings.batch, seen=seen)
        self._make_batcher: Callable[[Callable[..., Any]], Batcher[Any, Any, Any]] = make
        self._encoders: dict[str, Batcher[Encoding, Picture, bytes]] = {}
        self._decoders: dict[str, Batcher[str, bytes, images.Picture]] = {}

    @property
    def models(self) -> list[str]:
        """Names of the models, the default first."""
        return list(self._codecs)

    @property
    def gpu(self) -> bool:
        """Whether pictures are coded in batches on a GPU."""
        return bool(self._encoders)

    def _open(self, model: str, adapter: str | None = None) -> Codec:
        asked = self._settings
        return Codec(model, asked.device, asked.threads, asked.precision, asked.limits, adapter)

    def _open_adapted(self, adapter: str) -> Codec:
        """Return the first model that an adapter is of, with it."""
        refused: list[TrellicError] = []
        for model in self._settings.models:
            try:
                return self._open(model, adapter)
            except (UnknownAdapter, BadAdapter) as error:
                refused.append(error)
        raise refused[0]

    def load(self) -> None:
        """Load the engines and kernels of all models that the first calls would load.

        Raises
        ------
        TrellicError
            When one does not load.
        """
        for codec in (*self._codecs.values(), *self._adapted.values()):
            codec.warm_up(trellis=DEFAULT_TRELLIS)
            for name, info in codec.decoders.items():
                if info.kind == "picture":
                    codec.warm_up(decoder=name)
            if codec.device != "cpu" and codec.bundle.adapter is None:
                self._encoders[codec.model] = self._make_batcher(partial(_encode_all, codec))
                self._decoders[codec.model] = self._make_batcher(partial(_decode_all, codec))

    def close(self) -> None:
        """End the threads of the batches."""
        batchers: list[Batcher[Any, Any, Any]] = [
            *self._encoders.values(),
            *self._decoders.values(),
        ]
        for batcher in batchers:
            batcher.close()

    def codec(self, model: str | None, adapter: str | None = None) -> Codec:
        """Return the codec of a model, None for the default, with an adapter or without.

        Raises
        ------
        BadParameter
            When the service does not have it.
        """
        name = next(iter(self._codecs)) if model is None else model
        if name not in self._codecs:
            raise BadParameter(f"model {name!r}", expected=f"one of {', '.join(self._codecs)}")
        if adapter is None:
            return self._codecs[name]
        if (name, adapter) not in self._adapted:
            served = [own for of, own in self._adapted if of == name]
            raise BadParameter(
                f"adapter {adapter!r} of model {name!r}",
                expected=f"one of {', '.join(served)}" if served else "none: it has none here",
            )
        return self._adapted[name, adapter]

    def encode(self, picture: Picture, want: Encoding) -> Stream:
        """Encode a picture.

        Raises
        ------
        TrellicError
            As of `trellic.Codec.encode_picture`.
        """
        codec = self.codec(want.model, want.adapter)
        if want.score is not None:
            scored = encode_scored(codec, picture, want.score, **want.how)
            return Stream(scored.encoded.data, {})
        batched = codec.model in self._encoders and codec.bundle.adapter is None
        if batched and want.bpp is None and want.max_bytes is None:
            return Stream(self._encoders[codec.model](replace(want, model=None), picture), {})
        encoded = codec.encode_picture(picture, **want.options)
        return Stream(encoded.data, encoded.stages)

    def decode(
        self,
        data: bytes,
        *,
        decoder: str | None = None,
        region: Region | None = None,
        box: tuple[int, int] | None = None,
    ) -> Shown:
        """Decode a stream.

        Parameters
        ----------
        data : of any installed model
        decoder : name; None for the default, or for a smaller one if the picture will be small
        region : as of `trellic.Codec.decode_timed`
        box : width and height of the box that the picture is fitted into afterwards

        Raises
        ------
        TrellicError
            As of `trellic.Codec.decode_timed`.
        """
        header = bitstream.read_header(data)
        codec = self._codec_of(header)
        shape = (header.width, header.height) if region is None else (region[2], region[3])
        decoder = decoder or _smallest(codec, shape, box)
        own = header.stream_id.hex() == codec.bundle.manifest.stream_id
        if codec.model in self._decoders and region is None and own and header.adapter is None:
            return Shown(self._decoders[codec.model](decoder, data), {})
        decoded = codec.decode_timed(data, decoder=decoder, region=region)
        return Shown(decoded.picture, decoded.stages)

    def _codec_of(self, header: bitstream.Header) -> Codec:
        """Return the codec of a stream's model and adapter; else that of its model, or any."""
        by_id = {
            (codec.bundle.manifest.stream_id, codec.bundle.adapter_id): codec
            for codec in (*self._codecs.values(), *self._adapted.values())
        }
        model = header.stream_id.hex()
        return by_id.get((model, header.adapter)) or by_id.get((model, None)) or self.codec(None)


def _smallest(codec: Codec, shape: tuple[int, int], box: tuple[int, int] | None) -> str:
    """Choose the decoder of the smallest picture that still fills the box."""
    if box is None:
        return DEFAULT_DECODER
    shrink = max(side / most for side, most in zip(shape, box, strict=True))
    kinds = codec.decoders.items()
    fit = [(info.scale, name) for name, info in kinds if 1 < info.scale <= shrink]
    return max(fit)[1] if fit else DEFAULT_DECODER


def _encode_all(codec: Codec, want: Encoding, pictures: Sequence[Picture]) -> list[bytes]:
    return codec.encode_batch(pictures, **want.options)


def _decode_all(codec: Codec, decoder: str, streams: Sequence[bytes]) -> list[Picture]:
    """Decode streams together; a batch gives arrays, so metadata are read separately."""
    if choose(codec.decoders, decoder, codec.model).kind != "picture":
        raise UnknownDecoder(f"decoder {decoder!r} gives labels", expected="one of pictures")
    pictures = []
    for data, pixels in zip(streams, codec.decode_batch(streams, decoder=decoder), strict=True):
        chunks = bitstream.read(data).chunks
        shown = images.from_any(pixels)
        pictures.append(replace(shown, icc=chunks.icc, exif=chunks.exif, xmp=chunks.xmp))
    return pictures
