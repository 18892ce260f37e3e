"""Streams to pictures and labels."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt

from trellic import images
from trellic.codec.loaded import Loaded
from trellic.constants import DEFAULT_CLASSIFIER, DEFAULT_DECODER, MAX_PIXELS
from trellic.errors import BadParameter, TrellicWarning
from trellic.images import Picture
from trellic.pipeline.arriving import Piece, files_of
from trellic.pipeline.options import DecodeOptions
from trellic.pipeline.region import Region
from trellic.pipeline.results import Decoded

if TYPE_CHECKING:
    from trellic.gpu.dlpack import DeviceImage

Pixels = npt.NDArray[np.uint8]


def several_streams(streams: Iterable[bytes]) -> list[bytes]:
    """Make a list of the streams of a batch.

    Raises
    ------
    BadParameter
        If it is a single stream, whose bytes would be taken as streams, or not a batch at all.
    """
    one = isinstance(streams, (str, bytes, bytearray, memoryview))
    if one or not isinstance(streams, Iterable):
        raise BadParameter(
            f"an object of type {type(streams).__name__}",
            expected="several streams",
            remedy="put it into a list: [data]" if one else "",
        )
    return list(streams)


class Decoding(Loaded):
    """The part of `Codec` that decodes."""

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
            return self._decode_all(several_streams(streams), options)
        gpu = self.on_gpu()
        from trellic.gpu import batches

        with self._within():
            return batches.decode_there(gpu, several_streams(streams), options)

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
        improved = self._improves(data)
        codec = self if improved else self._codec_for(data, best_effort=options.best_effort)
        with self._within():
            decoded = codec._decoding.picture(data, options)
        return replace(decoded, seconds=time.perf_counter() - start)
