"""Trellic: a learned image codec that people can deploy.

>>> import numpy as np, trellic
>>> data = trellic.encode(np.zeros((48, 64, 3), np.uint8), quality=60)
>>> trellic.decode(data).shape
(48, 64, 3)
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from trellic.errors import TrellicError, TrellicWarning
from trellic.support.quiet import silence

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from trellic.codec import Codec

silence()  # before anything can load onnxruntime
__version__ = "0.1.0"
__all__ = ["Codec", "TrellicError", "TrellicWarning", "__version__", "decode", "encode"]


def encode(image: npt.ArrayLike | Image, *, model: str = "photo", **options: Any) -> bytes:
    """Encode a picture with a model; options as of `Codec.encode_picture`.

    Parameters
    ----------
    image : uint8 array (H, W, 3), (H, W) or (H, W, 4), or a PIL image
    model : name of an installed bundle, or path of one

    Returns
    -------
    bytes of a ``.tlc`` file
    """
    return _codec(model).encode(image, **options)


def decode(data: bytes, **options: Any) -> npt.NDArray[np.uint8]:
    """Decode a stream of any installed model; options as of `Codec.decode_picture`.

    Returns
    -------
    uint8 array (H, W, 3), (H, W) for grey pictures, or with alpha as last channel
    """
    return _codec("photo").decode(data, **options)


@cache
def _codec(model: str) -> Codec:
    from trellic.codec import Codec

    return Codec.load(model)


def __getattr__(name: str) -> Any:
    """Import `Codec` only when it is asked for: ``import trellic`` stays cheap."""
    if name == "Codec":
        from trellic.codec import Codec

        return Codec
    raise AttributeError(f"module 'trellic' has no attribute {name!r}")
