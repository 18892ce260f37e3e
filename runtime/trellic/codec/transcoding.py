"""Streams to smaller streams."""

from __future__ import annotations

from trellic.codec.loaded import Loaded
from trellic.constants import MAX_PIXELS, Trellis
from trellic.pipeline.results import Encoded
from trellic.pipeline.transcode import TranscodeOptions


class Transcoding(Loaded):
    """The part of `Codec` that makes streams of streams."""

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
