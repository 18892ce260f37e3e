"""``trellic`` as a lossy codec of numcodecs, for zarr v2 and other users of numcodecs.

Examples
--------
>>> import numcodecs, numpy as np
>>> codec = numcodecs.get_codec({"id": "trellic", "quality": 50})
>>> chunk = np.zeros((32, 48, 3), np.uint8)
>>> codec.decode(codec.encode(chunk)).shape
(32, 48, 3)
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy

from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, DEFAULT_QUALITY, DEFAULT_TRELLIS
from trellic_data.codecs import check_encoding, codec_for
from trellic_data.stacks import pack, unpack


class Trellic(Codec):  # type: ignore[misc]
    """Chunks (H, W), (H, W, 3) or (N, H, W, 3) of uint8, encoded with loss.

    Parameters
    ----------
    quality, trellis, model : of encoding, as of `trellic.encode`
    decoder : of decoding

    Raises
    ------
    BadParameter
        When quality or trellis is out of range. Model and decoder are checked when a chunk is
        encoded, because they may not be installed where an array is only looked at.
    """

    codec_id: ClassVar[str] = "trellic"

    def __init__(
        self,
        quality: float = DEFAULT_QUALITY,
        trellis: int = DEFAULT_TRELLIS,
        model: str = DEFAULT_MODEL,
        decoder: str = DEFAULT_DECODER,
    ) -> None:
        check_encoding(quality, trellis)
        self.quality, self.trellis, self.model, self.decoder = quality, trellis, model, decoder

    def encode(self, buf: Any) -> bytes:
        """Encode a chunk, an array that has its shape.

        Raises
        ------
        BadImage
            When dtype or shape is not that of pictures.
        BadParameter
            When the decoder does not make pictures of the full size.
        UnknownModel
        """
        options = {"quality": self.quality, "trellis": self.trellis, "decoder": self.decoder}
        return pack(codec_for(self.model), np.asarray(buf), **options)  # type: ignore[arg-type]

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk, to an array (H, W), (H, W, 3) or (N, H, W, 3).

        Raises
        ------
        TrellicError
            When the bytes are damaged.
        """
        pictures = unpack(codec_for(self.model), ensure_bytes(buf), decoder=self.decoder)
        chunk = pictures[0] if len(pictures) == 1 else np.stack(pictures)
        return chunk if out is None else ndarray_copy(chunk, out)
