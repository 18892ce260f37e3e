"""Trellic: a learned image codec.

`encode` turns a picture into the bytes of a ``.tlc`` file, and `decode` turns them into an array.
`Codec` keeps a model loaded, for many pictures.

>>> import numpy as np, trellic
>>> data = trellic.encode(np.zeros((48, 64, 3), np.uint8), quality=60)
>>> trellic.decode(data).shape
(48, 64, 3)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_PATCHES,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
    Patching,
    Search,
    Trellis,
)
from trellic.errors import BadParameter, TrellicError, TrellicWarning
from trellic.support.bounds import Limits, limited
from trellic.support.quiet import silence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    from trellic.codec import Codec
    from trellic.images import ImageLike
    from trellic.pipeline.arriving import Piece
    from trellic.pipeline.region import Region

silence()  # before anything can load onnxruntime
__version__ = "0.1.0"
__all__ = [
    "Codec",
    "Limits",
    "TrellicError",
    "TrellicWarning",
    "__version__",
    "cut",
    "decode",
    "decode_progressive",
    "encode",
    "limited",
    "transcode",
]


def encode(
    image: ImageLike,
    *,
    model: str = DEFAULT_MODEL,
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
    """Encode a picture.

    Parameters
    ----------
    image : uint8 array of shape (H, W) for grey, (H, W, 2) for grey with alpha, (H, W, 3) for RGB
        or (H, W, 4) for RGB with alpha; any object with ``__array__``; or a PIL image
    model : name of an installed model, or path of a bundle
    quality : in [1, 100], used in steps of 1/16; the default is 75
    bpp : find the best quality with at most so many bits per pixel, instead of ``quality``
    max_bytes : find the best quality with at most so many bytes, instead of ``quality``
    trellis, search, strip, max_memory, dither, progressive, patches, steady, refine : see
        `Codec.encode_picture`

    Returns
    -------
    bytes of a ``.tlc`` file

    Raises
    ------
    TrellicError
        As for `Codec.encode`.

    Examples
    --------
    >>> import numpy as np, trellic
    >>> len(trellic.encode(np.zeros((48, 64, 3), np.uint8), max_bytes=500)) <= 500
    True
    """
    return _codec(model).encode(
        image,
        quality=quality,
        bpp=bpp,
        max_bytes=max_bytes,
        trellis=trellis,
        search=search,
        strip=strip,
        max_memory=max_memory,
        dither=dither,
        progressive=progressive,
        patches=patches,
        steady=steady,
        refine=refine,
    )


def decode(
    data: bytes | memoryview,
    *,
    decoder: str = DEFAULT_DECODER,
    max_pixels: int = MAX_PIXELS,
    region: Region | None = None,
    max_memory: int | None = None,
    best_effort: bool = False,
) -> npt.NDArray[np.uint8]:
    """Decode a file that was encoded with any installed model.

    Parameters
    ----------
    data : bytes of a ``.tlc`` file
    decoder : name of one of the model's decoders, such as "quality", "fast" or "preview"
    max_pixels : refuse larger pictures before memory is taken
    region : (x, y, width, height) of the only part to decode, in pixels
    max_memory, best_effort : see `Codec.decode_timed`

    Returns
    -------
    uint8 array of shape (H, W, 3), or (H, W) for grey; with alpha (H, W, 4) or (H, W, 2)

    Raises
    ------
    TrellicError
        As for `Codec.decode_timed`.
    """
    return _codec(DEFAULT_MODEL).decode(
        data,
        decoder=decoder,
        max_pixels=max_pixels,
        region=region,
        max_memory=max_memory,
        best_effort=best_effort,
    )


def decode_progressive(
    stream: Iterable[Piece] | Piece,
    *,
    decoder: str = DEFAULT_DECODER,
    max_pixels: int = MAX_PIXELS,
    max_memory: int | None = None,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Decode a file while it arrives; see `Codec.decode_progressive`."""
    return _codec(DEFAULT_MODEL).decode_progressive(
        stream, decoder=decoder, max_pixels=max_pixels, max_memory=max_memory
    )


def cut(data: bytes, *, max_bytes: int | None = None, layers: int | None = None) -> bytes:
    """Shorten a ``.tlc`` file without decoding it; needs no model.

    Parameters
    ----------
    data : bytes of a file, whole or cut off anywhere
    max_bytes : largest size of the result
    layers : number of layers to keep, for a progressive file. One that has fewer is kept whole,
        with a `TrellicWarning`

    Returns
    -------
    bytes of a valid file, with as many passes over the picture as fit

    Raises
    ------
    BadParameter
        If neither ``max_bytes`` nor ``layers`` is given, or one is no whole number; if not even the
        first pass fits; or if the file is dithered.
    StreamError
        If the data is damaged.
    """
    from trellic import bitstream

    if max_bytes is None and layers is None:
        raise BadParameter("no target", expected="max_bytes or layers")
    return bitstream.cut(data, max_bytes=max_bytes, layers=layers).data


def transcode(
    data: bytes | memoryview,
    *,
    quality: float | None = None,
    max_bytes: int | None = None,
    trellis: Trellis | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int | None = None,
) -> bytes:
    """Make a ``.tlc`` file smaller without decoding it to a picture.

    Parameters
    ----------
    data : bytes of a ``.tlc`` file of any installed model
    quality, max_bytes, trellis, max_pixels, max_memory : see `Codec.transcode_timed`

    Returns
    -------
    bytes of a ``.tlc`` file of the same model

    Raises
    ------
    TrellicError
        As for `Codec.transcode_timed`.
    """
    return _codec(DEFAULT_MODEL).transcode(
        data,
        quality=quality,
        max_bytes=max_bytes,
        trellis=trellis,
        max_pixels=max_pixels,
        max_memory=max_memory,
    )


@cache
def _codec(model: str) -> Codec:
    from trellic.codec import Codec

    return Codec.load(model)


def __getattr__(name: str) -> Any:
    """Import `Codec` only when it is used, so that ``import trellic`` is fast."""
    if name == "Codec":
        from trellic.codec import Codec

        return Codec
    raise AttributeError(f"module 'trellic' has no attribute {name!r}")
