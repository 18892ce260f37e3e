"""`Codec`: one model, loaded, for pictures and streams; and which way a batch takes."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt

from trellic import bitstream, images
from trellic.constants import (
    DEFAULT_CLASSIFIER,
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    Device,
    Precision,
    Search,
    Trellis,
)
from trellic.engines.cuda import OTHERS
from trellic.engines.ort import torch_stands_in
from trellic.engines.pool import EnginePool
from trellic.errors import BadParameter, EngineError, MissingExtra, TrellicWarning
from trellic.gpu.where import on_gpu
from trellic.images import Picture
from trellic.model import bundle
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.again import Resaver
from trellic.pipeline.arriving import files_of
from trellic.pipeline.decoder import WARM_SIDE, StreamDecoder
from trellic.pipeline.encoder import StreamEncoder
from trellic.pipeline.options import DecodeOptions, EncodeOptions
from trellic.pipeline.region import Region
from trellic.pipeline.results import Decoded, Encoded
from trellic.pipeline.transcode import TranscodeOptions, Transcoder
from trellic.quantize.cpu import warm_up as warm_up_search
from trellic.support.bounds import Limits, limited

if TYPE_CHECKING:
    from trellic.gpu.codec import GpuCodec
    from trellic.gpu.dlpack import DeviceImage
    from trellic.images import ImageLike

Pixels = npt.NDArray[np.uint8]


class Codec:
    """One model, loaded: encodes and decodes pictures.

    Engines stay warm between calls. One codec may be used from several threads at once.

    Parameters
    ----------
    model : name of an installed bundle, or path of one
    device : "auto", "cpu", "cuda" or "tensorrt"
    threads : number of threads of the engines; 0 lets them choose
    precision : of encoder and decoders. "bf16" takes little more than half of the time; it needs
        OpenVINO and a CPU with bfloat16. "int8" takes three quarters of the time, for at most 1 %
        more bits; it works where the model has graphs in 8 bits. "fp16" is for GPUs and has not
        run on one yet. "auto" is the fastest one for a CPU. Every precision decodes any file;
        the pictures differ by a few hundredths of a dB
    limits : "service" for pictures and streams of strangers, or `trellic.Limits`. They apply to
        every call, and to each picture of a batch (on a GPU to the whole batch), in addition to
        the limits that the caller sets (`trellic.limited`). Call `warm_up` first, because loading
        and compiling count as well

    Examples
    --------
    >>> import numpy as np
    >>> from trellic.codec import Codec
    >>> codec = Codec.load("photo")
    >>> data = codec.encode(np.zeros((32, 48, 3), np.uint8), quality=50)
    >>> codec.decode(data).shape
    (32, 48, 3)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: Device = "auto",
        threads: int = 0,
        precision: Precision = "fp32",
        limits: Limits | str | None = None,
    ) -> None:
        self._within = partial(limited, Limits() if limits is None else limits)
        with self._within():  # an unknown name is an error here
            self.bundle = bundle.Bundle(bundle.find(model))
        self._asked = (device, threads, precision, limits)
        self._pool = EnginePool(self.bundle, device, threads, precision)
        self._encoding = StreamEncoder(self.bundle, self._pool)
        self._decoding = StreamDecoder(self.bundle, self._pool)
        self._transcoding = Transcoder(self.bundle, self._pool)
        self._resaving = Resaver(self._encoding, self._decoding)
        self._others: dict[str, Codec] = {}
        self._local = threading.local()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: Device = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        limits: Limits | str | None = None,
    ) -> Self:
        """Load a model; the same as the constructor."""
        return cls(model, device, threads or 0, precision, limits)

    def __repr__(self) -> str:
        device, threads, precision, limits = self._asked
        held = "" if limits is None else f", limits={limits!r}"
        return (
            f"Codec({str(self.bundle.path)!r}, device={device!r}, threads={threads},"
            f" precision={precision!r}{held})"
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Pickle and copy as what it was loaded with: engines start anew, of the same bundle."""
        return type(self), (os.path.abspath(self.bundle.path), *self._asked)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.bundle.manifest.name

    @property
    def device(self) -> str:
        """Device the engines run on."""
        return self._pool.device

    @property
    def precision(self) -> str:
        """What encoder and decoders run in: "fp32", "bf16" or, where they have it, "int8"."""
        return self._pool.precision

    @property
    def decoders(self) -> dict[str, DecoderInfo]:
        """Decoders of the model's streams, by name."""
        return dict(self.bundle.manifest.decoders)

    def warm_up(self, *, trellis: Trellis | None = None, decoder: str | None = None) -> None:
        """Load engines, integer networks and kernels now, so that the first calls do not have to.

        Parameters
        ----------
        trellis : number of trellis states for encoding; None if you will not encode
        decoder : name of the decoder; None if you will not decode
        """
        if trellis is not None:
            blank = Picture(np.zeros((WARM_SIDE, WARM_SIDE, 3), np.uint8))
            self._encoding.picture(blank, EncodeOptions(trellis=trellis))
            warm_up_search(trellis, self.bundle.tables)
        if decoder is not None:
            self._decoding.warm_up(decoder)

    # ---- encoding ----

    def encode(
        self,
        image: ImageLike,
        *,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        trellis: Trellis = DEFAULT_TRELLIS,
        search: Search = "trellis",
        strip: bool = False,
        max_memory: int | None = None,
        dither: int | None = None,
        progressive: bool = False,
    ) -> bytes:
        """Encode an array of uint8, or a PIL image.

        Parameters
        ----------
        image : array of shape (H, W) for grey, (H, W, 2) for grey with alpha, (H, W, 3) for RGB or
            (H, W, 4) for RGB with alpha, anything that has ``__array__``, or PIL image
        quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive : as of
            `encode_picture`

        Returns
        -------
        bytes of a ``.tlc`` file

        Raises
        ------
        BadImage
            When it is not a picture, or has samples that are not supported.
        TrellicError
            As of `encode_picture`.
        """
        options = EncodeOptions(
            quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive
        )
        return self._encode_all([image], options)[0]

    def encode_picture(
        self,
        picture: Picture,
        *,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        trellis: Trellis = DEFAULT_TRELLIS,
        search: Search = "trellis",
        strip: bool = False,
        max_memory: int | None = None,
        dither: int | None = None,
        progressive: bool = False,
    ) -> Encoded:
        """Encode a picture, and return the stream with its size, quality and times.

        Parameters
        ----------
        quality : in [1, 100], used in steps of 1/16; the default is 75
        bpp : highest bits per pixel, instead of ``quality``
        max_bytes : largest size, instead of ``quality``
        trellis : number of trellis states; 0 for scalar quantization with RDOQ
        search : "round" (with ``trellis=0``) only rounds; for experiments
        strip : leave out metadata; colours with a profile are converted to sRGB first
        max_memory : bytes that the process may use (see `trellic.pipeline.memory`); None for no
            limit
        dither : seed of subtractive dither, 0 to 2**32 - 1, only with ``trellis=0``. The errors
            of the latents are then uniform and independent of the picture, but it costs bits
        progressive : code in layers, so that the beginning of the file is a picture at any length
            (`trellic.cut`, `Codec.decode_progressive`); it costs bits

        Raises
        ------
        BadParameter
            When an option is out of range, or the model has no tables for dither.
        ImageTooLarge
            When ``max_memory`` is not enough.
        TargetUnreachable
            When no quality meets ``bpp`` or ``max_bytes``.
        """
        options = EncodeOptions(
            quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive
        )
        with self._within():
            return self._encoding.picture(picture, options)

    def encode_batch(
        self,
        batch: Iterable[ImageLike],
        *,
        quality: float | None = None,
        bpp: float | None = None,
        max_bytes: int | None = None,
        trellis: Trellis = DEFAULT_TRELLIS,
        search: Search = "trellis",
        strip: bool = False,
        max_memory: int | None = None,
        dither: int | None = None,
        progressive: bool = False,
    ) -> list[bytes]:
        """Encode several pictures, of any sizes, with the same options.

        Parameters
        ----------
        batch : pictures as of `encode`; or arrays in a GPU's memory, uint8 (H, W, 3) or (H, W).
            These may be of any library with ``__cuda_array_interface__`` (torch, CuPy, numba) or
            DLPack, and need ``device="cuda"`` or ``"tensorrt"``. With such a device and
            numba-cuda, all pictures are encoded together on the GPU
        quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive :
            as of `encode_picture`. Arrays on a GPU support only ``quality``, ``trellis`` and
            ``strip``. With other options, pictures in host memory are encoded one by one

        Raises
        ------
        BadParameter
            When an option is out of range, or does not work for arrays on a GPU.
        EngineError
            When an array is on a GPU and the codec runs on the CPU.
        TrellicError
            As of `encode`.
        """
        pictures = images.several(batch)
        options = EncodeOptions(
            quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive
        )
        return self._encode_all(pictures, options)

    def _encode_all(self, pictures: list[ImageLike], options: EncodeOptions) -> list[bytes]:
        """Encode pictures together on a GPU, or one by one on the host."""
        if not any(map(on_gpu, pictures)) and not self._batches_on_gpu():
            return [self._encode(picture, options) for picture in pictures]
        gpu = self.on_gpu()
        from trellic.gpu import batches

        with self._within():
            return batches.encode(gpu, pictures, options, partial(self._encode, options=options))

    def _encode(self, image: ImageLike, options: EncodeOptions) -> bytes:
        with self._within():
            return self._encoding.picture(images.from_any(image), options).data

    def encode_again(
        self,
        picture: Picture,
        like: bytes | memoryview,
        *,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> Encoded:
        """Encode a picture that was decoded from a stream, and perhaps edited.

        Quality and trellis are those of the stream. If no pixel has changed, its segments are
        returned as they are; else latents and hyper-latents are kept where no pixel has changed.
        Runs on the CPU, whatever the device, but for the networks of the encoder and the decoder.

        Parameters
        ----------
        picture : as the decoder `quality` gave it, or edited; its alpha and metadata are coded
        like : bytes of the ``.tlc`` file that it was decoded from
        max_pixels : refuse larger pictures before memory is taken
        max_memory : bytes that the process may use; None for no limit

        Raises
        ------
        BadParameter
            When picture and stream differ in size or number of channels, or an edited picture's
            stream is progressive.
        StreamError
            When the stream is damaged, too large, or of a model that is not installed.
        """
        codec = self._codec_for(like)
        with self._within():
            return codec._resaving.picture(picture, like, max_pixels, max_memory)

    # ---- from stream to stream ----

    def transcode(
        self,
        data: bytes | memoryview,
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        trellis: Trellis | None = None,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> bytes:
        """Make a stream smaller without a picture in between.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file
        quality, max_bytes, trellis, max_pixels, max_memory : as of `transcode_timed`

        Returns
        -------
        bytes of a ``.tlc`` file of the same model
        """
        return self.transcode_timed(
            data,
            quality=quality,
            max_bytes=max_bytes,
            trellis=trellis,
            max_pixels=max_pixels,
            max_memory=max_memory,
        ).data

    def transcode_timed(
        self,
        data: bytes | memoryview,
        *,
        quality: float | None = None,
        max_bytes: int | None = None,
        trellis: Trellis | None = None,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> Encoded:
        """Make a stream smaller without a picture in between, and say how it was made.

        Latents of the file are quantized anew; alpha and metadata are taken over. Runs on the CPU,
        whatever the device, but for the networks of the encoder and the decoder.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        quality : in [1, 100], used in steps of 1/16; above that of the file nothing is gained, and
            a `TrellicWarning` says so
        max_bytes : size not to exceed, in place of ``quality``; a file that is small enough is
            returned as it is
        trellis : number of trellis states; those of the file if left out
        max_pixels : refuse larger pictures before memory is taken
        max_memory : bytes that the process may take (see `trellic.pipeline.memory`), None for no
            limit

        Raises
        ------
        StreamError
            When the bytes are damaged, too large, or of a model that is not installed.
        BadParameter
            When an option is out of range, or there is not exactly one target.
        ImageTooLarge
            When ``max_memory`` is too little.
        TargetUnreachable
            When no quality meets ``max_bytes``.
        """
        options = TranscodeOptions(quality, max_bytes, trellis, max_pixels, max_memory)
        codec = self._codec_for(data)
        with self._within():
            return codec._transcoding.stream(data, options)

    # ---- decoding ----

    def decode(
        self,
        data: bytes | memoryview,
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> Pixels:
        """Decode to a uint8 array: (H, W, 3), (H, W) for grey; (H, W, 4) or (H, W, 2) with alpha.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file
        decoder, max_pixels, region, max_memory, best_effort : as of `decode_timed`
        """
        options = DecodeOptions(decoder, max_pixels, region, max_memory, best_effort)
        return self._decode_all([data], options)[0]

    def decode_picture(
        self,
        data: bytes | memoryview,
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> Picture:
        """Decode a stream, or a region of it; parameters and errors are those of `decode_timed`.

        With ``best_effort`` a `TrellicWarning` says what is lost.
        """
        return self._picture(
            data, DecodeOptions(decoder, max_pixels, region, max_memory, best_effort)
        )

    def decode_timed(
        self,
        data: bytes | memoryview,
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> Decoded:
        """Decode a stream; return the picture, the time of each stage, and what is lost.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        decoder : name of one of the model's picture decoders; or ``"NAME:x"`` with x in [0, 1],
            which mixes it with its base (1 is NAME alone, 0 is the base). A decoder that needs
            only the first context steps reads and checks only their segments. With a decoder that
            has a scale, the picture and its alpha have ceil(width / scale) x ceil(height / scale)
            pixels
        max_pixels : refuse larger pictures before memory is taken
        region : (x, y, width, height) in pixels of the full size, inside the picture. Only this
            part is decoded, from the slices that it needs; other slices are not checked
        max_memory : bytes that the process may use (see `trellic.pipeline.memory`); None for no
            limit
        best_effort : decode the intact parts of a damaged or cut file. Lost latents become their
            means. Only for whole pictures

        Raises
        ------
        StreamError
            When the bytes are damaged (with ``best_effort``: in the header or the hyper-latents),
            the picture is too large, or the model is not installed.
        UnknownDecoder
            When the stream's model has no such decoder.
        BadParameter
            When ``region`` does not lie inside the picture, x is out of range or the decoder has
            no base, or the decoder gives labels.
        """
        return self._timed(
            data, DecodeOptions(decoder, max_pixels, region, max_memory, best_effort)
        )

    @overload
    def decode_batch(
        self,
        streams: Iterable[bytes],
        *,
        out: Literal["host"] = "host",
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> list[Pixels]: ...

    @overload
    def decode_batch(
        self,
        streams: Iterable[bytes],
        *,
        out: Literal["cuda"],
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> list[DeviceImage]: ...

    def decode_batch(
        self,
        streams: Iterable[bytes],
        *,
        out: Literal["host", "cuda"] = "host",
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        region: Region | None = None,
        max_memory: int | None = None,
        best_effort: bool = False,
    ) -> list[Any]:
        """Decode several streams with the same options.

        Parameters
        ----------
        streams : bytes of ``.tlc`` files, of any sizes
        out : "cuda" decodes all streams at once and leaves the pictures in the GPU's memory. They
            are arrays with ``__dlpack__`` and ``__cuda_array_interface__``, so
            ``torch.as_tensor(array, device="cuda")`` does not copy them. This needs
            ``device="cuda"`` or ``"tensorrt"`` and streams of this model, and leaves out alpha.
            With such a device, "host" also decodes together what a batch on the GPU supports, and
            the rest one by one
        decoder, max_pixels, region, max_memory, best_effort : as of `decode_timed`; with
            ``out="cuda"`` only ``decoder`` and ``max_pixels``

        Returns
        -------
        list of uint8 arrays, as of `decode`

        Raises
        ------
        BadParameter
            When an option is out of range, or does not work with ``out="cuda"``.
        EngineError
            When ``out`` is "cuda" and the codec runs on the CPU.
        TrellicError
            As of `decode`.
        """
        options = DecodeOptions(decoder, max_pixels, region, max_memory, best_effort)
        if out not in ("host", "cuda"):
            raise BadParameter(f"out={out!r}", expected="'host' or 'cuda'")

        if out == "host":
            return self._decode_all(list(streams), options)
        gpu = self.on_gpu()
        from trellic.gpu import batches

        with self._within():
            return batches.decode_there(gpu, list(streams), options)

    def _decode_all(
        self, streams: Sequence[bytes | memoryview], options: DecodeOptions
    ) -> list[Pixels]:
        """Decode streams to the host, together on a GPU what it can, or one by one."""

        def ordinary(data: bytes | memoryview) -> Pixels:
            return images.to_array(self._picture(data, options))

        if not self._batches_on_gpu():
            return [ordinary(data) for data in streams]
        gpu = self.on_gpu()
        from trellic.gpu import batches

        with self._within():
            return batches.decode(gpu, streams, options, ordinary)

    def decode_progressive(
        self,
        stream: Iterable[bytes],
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> Iterator[Pixels]:
        """Decode a stream while it arrives: yield a picture each time that it can be better.

        Parameters
        ----------
        stream : the bytes of a ``.tlc`` file, in order, in pieces of any length. Where several
            passes over the picture arrive in one piece, one picture is made of them
        decoder, max_pixels, max_memory : as of `decode_timed`

        Yields
        ------
        uint8 arrays as of `decode`; the last one is what `decode` makes of the whole file. If the
        stream ends early a `TrellicWarning` says so

        Raises
        ------
        TrellicError
            As of `decode_timed`; a `TruncatedStream` if not even the first pass arrived.
        """
        options = DecodeOptions(decoder, max_pixels, None, max_memory)
        for data in files_of(stream):
            yield images.to_array(self._picture(data, options))

    def classify(
        self,
        data: bytes | memoryview,
        *,
        decoder: str = DEFAULT_CLASSIFIER,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> list[tuple[str, float]]:
        """Return labels for what a picture shows, from its latents, without making a picture.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        decoder : name of one of the model's decoders of kind "labels"
        max_pixels, max_memory : as of `decode_timed`

        Returns
        -------
        list of (label, probability), the most probable first; the probabilities add up to 1

        Raises
        ------
        StreamError
            As of `decode_timed`.
        UnknownDecoder
            When the stream's model has no such decoder.
        BadParameter
            When the decoder gives a picture.
        """
        codec = self._codec_for(data)
        with self._within():
            return codec._decoding.labels(data, decoder, max_pixels, max_memory)

    def _picture(self, data: bytes | memoryview, options: DecodeOptions) -> Picture:
        decoded = self._timed(data, options)
        if decoded.damage:
            warnings.warn(str(decoded.damage), TrellicWarning, stacklevel=3)
        return decoded.picture

    def _timed(self, data: bytes | memoryview, options: DecodeOptions) -> Decoded:
        start = time.perf_counter()
        codec = self._codec_for(data)
        with self._within():
            decoded = codec._decoding.picture(data, options)
        return replace(decoded, seconds=time.perf_counter() - start)

    def _codec_for(self, data: bytes | memoryview) -> Codec:
        """Return the codec of a stream's model, loaded like this one."""
        wanted = bitstream.read_header(data).stream_id.hex()
        if wanted == self.bundle.manifest.stream_id:
            return self
        if wanted not in self._others:
            self._others[wanted] = Codec(bundle.find_stream(wanted), *self._asked)
        return self._others[wanted]

    # ---- on a GPU ----

    def _batches_on_gpu(self) -> bool:
        """Whether pictures of the host can be coded in batches on a GPU."""
        has_contexts = "context_0" in self.bundle.networks
        installed = importlib.util.find_spec("numba_cuda") is not None
        return self.device != "cpu" and has_contexts and installed

    def on_gpu(self) -> GpuCodec:
        """Return this model on this codec's GPU, for the calling thread.

        Raises
        ------
        EngineError
            When the codec was loaded for the CPU.
        MissingExtra
            When numba-cuda is not installed.
        """
        if self.device == "cpu":
            raise EngineError(
                "arrays on a GPU with a codec that runs on the CPU",
                remedy="load it with device='cuda', on a machine with a GPU and trellic[gpu]",
            )
        try:
            from trellic.gpu.codec import GpuCodec
        except ImportError as error:
            raise MissingExtra.of(error.name or "numba_cuda", "gpu", "a batch on a GPU") from error
        if not hasattr(self._local, "gpu"):
            outside = self.device == "cuda" and torch_stands_in()
            engines = importlib.import_module(OTHERS).engines_on if outside else None
            self._local.gpu = GpuCodec.load(self.bundle, self.device, self.precision, engines)
        gpu: GpuCodec = self._local.gpu
        return gpu
