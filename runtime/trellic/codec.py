"""`Codec`: a loaded model that encodes and decodes pictures, alone or in batches."""

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
    COLOURS,
    DEFAULT_CLASSIFIER,
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_PATCHES,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    Device,
    Patching,
    Precision,
    Search,
    Trellis,
)
from trellic.engines.cuda import OTHERS
from trellic.engines.ort import torch_stands_in
from trellic.engines.pool import EnginePool
from trellic.errors import BadAdapter, BadParameter, EngineError, MissingExtra, TrellicWarning
from trellic.gpu.where import on_gpu
from trellic.images import Picture
from trellic.model import adapters, bundle
from trellic.model.adapter import Adapter
from trellic.model.decoders import DecoderInfo
from trellic.pipeline.again import Resaver
from trellic.pipeline.arriving import Piece, files_of
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
MOST_ADAPTERS = 4  # that stay loaded, because each stream of a stranger may hold another one


class Codec:
    """A loaded model, which encodes and decodes pictures.

    The engines stay loaded between calls. Several threads may use one codec at the same time.

    Parameters
    ----------
    model : name of an installed model, or path of a bundle
    device : "auto", "cpu", "cuda" or "tensorrt"
    threads : number of threads of each engine; 0 lets the engine choose
    precision : precision of the encoder and the decoders. "bf16" takes little more than half of
        the time; it needs OpenVINO and a CPU with bfloat16. "int8" takes three quarters of the
        time, for at most 1 % more bits; it needs a model with 8-bit graphs. "fp16" is for GPUs
        and has not run on one yet. "auto" chooses the fastest one for a CPU. Every precision
        decodes any file; the pictures differ by a few hundredths of a dB
    limits : `trellic.Limits`, or "service" if you do not trust the pictures and streams. The
        limits apply to every call, and to each picture of a batch (on a GPU, to the whole batch).
        Limits that the caller sets (`trellic.limited`) apply too. Call `warm_up` first, because
        the time to load and compile counts
    adapter : adapter to encode with (``trellic adapt``): name of an installed one, or path of its
        file. Decoding finds the adapter of each stream by itself
    embed_adapter : store the adapter in the streams, for readers that do not have it

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
        adapter: Adapter | str | os.PathLike[str] | None = None,
        embed_adapter: bool = False,
    ) -> None:
        self._within = partial(limited, Limits() if limits is None else limits)
        with self._within():  # an unknown name is an error here
            self.bundle = bundle.Bundle(bundle.find(model))
            if adapter is not None:
                if not isinstance(adapter, Adapter):
                    adapter = adapters.find(adapter, self.bundle.manifest)
                self.bundle = self.bundle.with_adapter(adapter, embed=embed_adapter)
        self._asked = (device, threads, precision, limits)
        self._pool = EnginePool(self.bundle, device, threads, precision)
        self._encoding = StreamEncoder(self.bundle, self._pool)
        self._decoding = StreamDecoder(self.bundle, self._pool)
        self._transcoding = Transcoder(self.bundle, self._pool)
        self._resaving = Resaver(self._encoding, self._decoding)
        self._others: dict[tuple[str, bytes | None], Codec] = {}
        self._local = threading.local()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        device: Device = "auto",
        threads: int | None = None,
        precision: Precision = "fp32",
        limits: Limits | str | None = None,
        adapter: Adapter | str | os.PathLike[str] | None = None,
        embed_adapter: bool = False,
    ) -> Self:
        """Load a model, as the constructor does."""
        return cls(model, device, threads or 0, precision, limits, adapter, embed_adapter)

    def __repr__(self) -> str:
        device, threads, precision, limits = self._asked
        held = "" if limits is None else f", limits={limits!r}"
        if self.bundle.adapter is not None:
            held += f", adapter={self.bundle.adapter.name!r}"
            held += f", embed_adapter={self.bundle.embedded is not None}"
        return (
            f"Codec({str(self.bundle.path)!r}, device={device!r}, threads={threads},"
            f" precision={precision!r}{held})"
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Pickle the arguments: a copy loads its own engines from the same bundle."""
        used = self.bundle.adapter, self.bundle.embedded is not None
        return type(self), (os.path.abspath(self.bundle.path), *self._asked, *used)

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.bundle.manifest.name

    @property
    def device(self) -> str:
        """Device that the engines run on."""
        return self._pool.device

    @property
    def precision(self) -> str:
        """Precision of the encoder and the decoders: "fp32", "bf16", "int8" or "fp16"."""
        return self._pool.precision

    @property
    def decoders(self) -> dict[str, DecoderInfo]:
        """Decoders of the model, by name."""
        return dict(self.bundle.manifest.decoders)

    def warm_up(self, *, trellis: Trellis | None = None, decoder: str | None = None) -> None:
        """Load engines, integer networks and kernels now, so that the first calls are fast.

        Parameters
        ----------
        trellis : number of trellis states for encoding; None if you will not encode
        decoder : name of the decoder; None if you will not decode
        """
        if trellis is not None:
            bands = self.bundle.manifest.layout.bands
            blank = Picture(np.zeros((WARM_SIDE, WARM_SIDE, bands), np.uint8))
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
        patches: Patching = DEFAULT_PATCHES,
        steady: bool = False,
        refine: bool = False,
    ) -> bytes:
        """Encode an array or a PIL image.

        Parameters
        ----------
        image : uint8 array of shape (H, W) for grey, (H, W, 2) for grey with alpha, (H, W, 3) for
            RGB or (H, W, 4) for RGB with alpha; any object with ``__array__``; or a PIL image. A
            model of other bands takes (H, W, bands) alone
        quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive, patches,
        steady, refine : see `encode_picture`

        Returns
        -------
        bytes of a ``.tlc`` file

        Raises
        ------
        BadImage
            If it is not a picture, or its type of samples is not supported.
        TrellicError
            As for `encode_picture`.
        """
        options = EncodeOptions(
            quality,
            bpp,
            max_bytes,
            trellis,
            search,
            strip,
            max_memory,
            dither,
            progressive,
            patches,
            steady,
            refine,
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
        patches: Patching = DEFAULT_PATCHES,
        steady: bool = False,
        refine: bool = False,
    ) -> Encoded:
        """Encode a picture, and return the stream with its size, quality and times.

        Parameters
        ----------
        picture : the picture, such as from `trellic.images.read`
        quality : in [1, 100], used in steps of 1/16; the default is 75
        bpp : find the best quality with at most so many bits per pixel, instead of ``quality``
        max_bytes : find the best quality with at most so many bytes, instead of ``quality``
        trellis : number of trellis states; 0 for scalar quantization with RDOQ
        search : "round" only rounds, and needs ``trellis=0``; for experiments
        strip : leave out metadata; colours with a profile are first converted to sRGB
        max_memory : bytes that the process may use (see `trellic.pipeline.memory`); None for no
            limit
        dither : seed of subtractive dither, 0 to 2**32 - 1; needs ``trellis=0``. The errors of
            the latents are then uniform and independent of the picture, but the file is larger
        progressive : code in layers, so that any beginning of the file is a picture
            (`trellic.cut`, `Codec.decode_progressive`); the file is larger. It has no trellis,
            whatever `trellis` says
        patches : "auto" stores screens as AV1 pictures, or their text and flat areas without loss,
            where that pays (docs/screens.md). They take several times as long; photos stay the same
        steady : make a file whose decoded picture mostly gives the same file again, and else loses
            little (docs/saving-again.md). It has no trellis; the first encode mostly takes
            20 to 200 times as long
        refine : correct the latents once by their own picture; ``steady`` does more than that. From
            quality 85 on the file is then smaller by some percent at equal quality; encoding runs
            the networks of encoder and decoder again

        Raises
        ------
        BadParameter
            If an option is out of range, or the model has no tables for dither.
        ImageTooLarge
            If ``max_memory`` is not enough.
        TargetUnreachable
            If no quality meets ``bpp`` or ``max_bytes``.
        """
        options = EncodeOptions(
            quality,
            bpp,
            max_bytes,
            trellis,
            search,
            strip,
            max_memory,
            dither,
            progressive,
            patches,
            steady,
            refine,
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
        patches: Patching = DEFAULT_PATCHES,
        steady: bool = False,
        refine: bool = False,
    ) -> list[bytes]:
        """Encode several pictures, of any sizes, with the same options.

        Parameters
        ----------
        batch : pictures as for `encode`, or arrays in a GPU's memory, uint8 (H, W, 3) or (H, W).
            The latter may come from any library with ``__cuda_array_interface__`` (torch, CuPy,
            numba) or DLPack, and need ``device="cuda"`` or ``"tensorrt"``. With such a device
            and numba-cuda, all pictures are encoded together on the GPU
        quality, bpp, max_bytes, trellis, search, strip, max_memory, dither, progressive, patches,
        steady, refine : see `encode_picture`. Arrays on a GPU support only ``quality``,
            ``trellis`` and ``strip``. With other options, pictures in host memory are encoded one
            by one

        Returns
        -------
        list of the bytes of ``.tlc`` files, in the order of the pictures

        Raises
        ------
        BadParameter
            If an option is out of range, or is not supported for arrays on a GPU.
        EngineError
            If an array is on a GPU and the codec runs on the CPU.
        TrellicError
            As for `encode`.
        """
        pictures = images.several(batch)
        options = EncodeOptions(
            quality,
            bpp,
            max_bytes,
            trellis,
            search,
            strip,
            max_memory,
            dither,
            progressive,
            patches,
            steady,
            refine,
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
            return self._encoding.picture(self._picture_of(image), options).data

    def _picture_of(self, image: ImageLike, max_pixels: int = MAX_PIXELS) -> Picture:
        return images.from_any(image, max_pixels, self.bundle.manifest.layout.bands)

    def encode_again(
        self,
        picture: ImageLike,
        like: bytes | memoryview,
        *,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> Encoded:
        """Encode a picture that was decoded from a stream and may have been edited.

        The result has the quality and the trellis of the stream. If no pixel has changed, it has
        the same segments. Otherwise latents and hyper-latents are kept where no pixel has changed.
        Everything runs on the CPU, except for the networks of the encoder and the decoder.

        Parameters
        ----------
        picture : as the decoder `quality` made it, or edited: anything that `encode` takes; its
            alpha and metadata are coded
        like : bytes of the ``.tlc`` file that it was decoded from
        max_pixels : refuse larger pictures before memory is taken
        max_memory : bytes that the process may use; None for no limit

        Raises
        ------
        BadImage
            If it is not a picture, or its type of samples is not supported.
        BadParameter
            If the picture and the stream differ in size or number of channels, or if the picture
            was edited and the stream is progressive.
        StreamError
            If the stream is damaged, too large, or from a model that is not installed.
        """
        codec = self._codec_for(like)
        with self._within():
            pixels = codec._picture_of(picture, max_pixels)
            return codec._resaving.picture(pixels, like, max_pixels, max_memory)

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
        """Make a stream smaller without decoding it to a picture.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file
        quality, max_bytes, trellis, max_pixels, max_memory : see `transcode_timed`

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
        """Make a stream smaller, and return it with its size, quality and times.

        The latents of the file are quantized again; alpha and metadata are copied. Everything runs
        on the CPU, except for the networks of the encoder and the decoder.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        quality : in [1, 100], used in steps of 1/16. A quality above that of the file gains
            nothing, and that of the file, with its trellis, gives the file as it is; both with a
            `TrellicWarning`
        max_bytes : find the best quality with at most so many bytes, instead of ``quality``. A
            file that is small enough is returned unchanged
        trellis : number of trellis states; by default as in the file
        max_pixels : refuse larger pictures before memory is taken
        max_memory : bytes that the process may use (see `trellic.pipeline.memory`); None for no
            limit

        Raises
        ------
        StreamError
            If the bytes are damaged, too large, or from a model that is not installed.
        BadParameter
            If an option is out of range, or not exactly one of ``quality`` and ``max_bytes`` is
            given.
        ImageTooLarge
            If ``max_memory`` is not enough.
        TargetUnreachable
            If no quality meets ``max_bytes``.
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
        """Decode a stream to an array.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file
        decoder, max_pixels, region, max_memory, best_effort : see `decode_timed`

        Returns
        -------
        uint8 array of shape (H, W, 3), or (H, W) for grey; with alpha (H, W, 4) or (H, W, 2). Of a
        model of other bands (H, W, bands)

        Raises
        ------
        TrellicError
            As for `decode_timed`.
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
        """Decode a stream, or a region of it, to a picture with its metadata.

        Parameters and errors are those of `decode_timed`. With ``best_effort``, a `TrellicWarning`
        says what is lost.
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
        """Decode a stream, and return the picture, the time of each stage, and what is lost.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        decoder : name of one of the model's picture decoders; or ``"NAME:x"`` with x in [0, 1],
            which mixes it with its base (1 is NAME alone, 0 is the base). A decoder that needs
            only the first context steps reads and checks only their segments. If the decoder has
            a scale, the picture and its alpha have ceil(width / scale) x ceil(height / scale)
            pixels
        max_pixels : refuse larger pictures before memory is taken
        region : (x, y, width, height) in pixels of the full size, inside the picture. Only this
            part is decoded, from the slices that it needs; other slices are not checked
        max_memory : bytes that the process may use (see `trellic.pipeline.memory`); None for no
            limit
        best_effort : decode the intact parts of a damaged or cut file. Lost latents become their
            means. Works only for whole pictures

        Raises
        ------
        StreamError
            If the bytes are damaged (with ``best_effort``: in the header or the hyper-latents),
            the picture is too large, or the model is not installed.
        UnknownDecoder
            If the model has no such decoder.
        BadParameter
            If ``region`` is not inside the picture, x is out of range, the decoder has no base to
            mix with, or it gives labels.
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
        streams : bytes of ``.tlc`` files, of pictures of any sizes
        out : "cuda" decodes all streams at once and leaves the pictures in the GPU's memory. They
            are arrays with ``__dlpack__`` and ``__cuda_array_interface__``, so
            ``torch.as_tensor(array, device="cuda")`` does not copy them. This needs
            ``device="cuda"`` or ``"tensorrt"`` and streams of this model, and leaves out alpha.
            With such a device, "host" also decodes together all streams that a batch on the GPU
            supports, and the others one by one
        decoder, max_pixels, region, max_memory, best_effort : see `decode_timed`;
            ``out="cuda"`` supports only ``decoder`` and ``max_pixels``

        Returns
        -------
        list of uint8 arrays, as from `decode`

        Raises
        ------
        BadParameter
            If an option is out of range, or is not supported with ``out="cuda"``.
        EngineError
            If ``out`` is "cuda" and the codec runs on the CPU.
        TrellicError
            As for `decode`.
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
        """Decode streams to the host: together on a GPU if it supports them, else one by one."""

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
        stream: Iterable[Piece] | Piece,
        *,
        decoder: str = DEFAULT_DECODER,
        max_pixels: int = MAX_PIXELS,
        max_memory: int | None = None,
    ) -> Iterator[Pixels]:
        """Decode a stream while it arrives, and yield a picture each time that it gets better.

        Parameters
        ----------
        stream : the bytes of a ``.tlc`` file, in order, in pieces of any length, or all in one. If
            several passes over the picture arrive in one piece, they give one picture
        decoder, max_pixels, max_memory : see `decode_timed`

        Yields
        ------
        uint8 arrays, as from `decode`; the last one equals `decode` of the whole file. If the
        stream ends early, a `TrellicWarning` says so

        Raises
        ------
        TrellicError
            As for `decode_timed`; `TruncatedStream` if not even the first pass arrived,
            `BadParameter` if something else than bytes did.
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
        """Return labels for what a picture shows. They come from its latents, without decoding.

        Parameters
        ----------
        data : bytes of a ``.tlc`` file, made by this model or by another installed one
        decoder : name of one of the model's decoders of kind "labels"
        max_pixels, max_memory : see `decode_timed`

        Returns
        -------
        list of (label, probability), the most probable first; the probabilities add up to 1

        Raises
        ------
        StreamError
            As for `decode_timed`.
        UnknownDecoder
            If the model has no such decoder.
        BadParameter
            If the decoder gives a picture.
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
        codec = self._codec_for(data, best_effort=options.best_effort)
        with self._within():
            decoded = codec._decoding.picture(data, options)
        return replace(decoded, seconds=time.perf_counter() - start)

    def _codec_for(self, data: bytes | memoryview, *, best_effort: bool = False) -> Codec:
        """Return the codec of a stream's model and adapter, loaded like this one."""
        header = bitstream.read_header(data)
        wanted, own = header.stream_id.hex(), self.bundle.manifest.stream_id
        if (wanted, header.adapter) == (own, self.bundle.adapter_id):
            return self
        adapter = adapters.of_stream(data, header, best_effort=best_effort)
        try:
            return self._other(wanted, adapter)
        except BadAdapter as error:
            adapters.do_without(f"an adapter that does not fit ({error})")
            return self._other(wanted, None)

    def _other(self, stream_id: str, adapter: Adapter | None) -> Codec:
        """Return the codec of a model and an adapter; codecs of adapters stay loaded for a while.

        Ids of adapters are short enough to be forged, so whole digests are compared.
        """
        own = stream_id == self.bundle.manifest.stream_id
        if own and adapter is self.bundle.adapter:
            return self
        key = stream_id, None if adapter is None else adapter.digest
        codec = self._others.get(key)
        if codec is None:
            path = self.bundle.path if own else bundle.find_stream(stream_id)
            codec = Codec(path, *self._asked, adapter)
            adapted = [known for known in list(self._others) if known[1] is not None]
            if adapter is not None and len(adapted) >= MOST_ADAPTERS:
                self._others.pop(adapted[0], None)
            self._others[key] = codec
        return codec

    # ---- on a GPU ----

    def _batches_on_gpu(self) -> bool:
        """Whether pictures of the host can be coded in batches on a GPU."""
        if self.device == "cpu" or "context_0" not in self.bundle.networks:
            return False
        if self.bundle.manifest.layout.bands != COLOURS:
            return False
        return importlib.util.find_spec("numba_cuda") is not None

    def on_gpu(self) -> GpuCodec:
        """Return this model on the codec's GPU, for the calling thread.

        Raises
        ------
        EngineError
            If the codec was loaded for the CPU, or the model is of other bands than red, green and
            blue.
        MissingExtra
            If numba-cuda is not installed.
        """
        if self.device == "cpu":
            raise EngineError(
                "arrays on a GPU with a codec that runs on the CPU",
                remedy="load it with device='cuda', on a machine with a GPU and trellic[gpu]",
            )
        if self.bundle.manifest.layout.bands != COLOURS:
            raise EngineError(
                f"a batch on a GPU of a model of {self.bundle.manifest.layout.bands} bands",
                remedy="encode and decode one by one",
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
