"""Pictures to streams."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from trellic import images
from trellic.codec.loaded import Loaded
from trellic.constants import (
    DEFAULT_PATCHES,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    Patching,
    Search,
    Trellis,
)
from trellic.gpu.where import on_gpu
from trellic.images import Picture
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.results import Encoded

if TYPE_CHECKING:
    from trellic.images import ImageLike


class Encoding(Loaded):
    """The part of `Codec` that encodes."""

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
        picture: ImageLike,
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
        picture : a `Picture`, such as from `trellic.images.read`, or anything else that `encode`
            takes
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
        BadImage
            If it is not a picture, or its type of samples is not supported.
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
            return self._encoding.picture(self._picture_of(picture, None), options)

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

    def _picture_of(self, image: ImageLike, max_pixels: int | None = MAX_PIXELS) -> Picture:
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
