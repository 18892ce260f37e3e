"""``trellic`` as a serializer of zarr v3: uint8 chunks become pictures, with loss.

::

zarr.create_array(store, shape=(1000, 512, 768, 3), chunks=(8, 512, 768, 3), dtype="uint8",
serializer=TrellicCodec(quality=60), compressors=None)
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import parse_named_configuration

from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, DEFAULT_QUALITY, DEFAULT_TRELLIS
from trellic.errors import BadImage
from trellic_data.codecs import check_encoding, check_model, codec_for
from trellic_data.stacks import pack, picture_dimensions, shaped, unpack, written_dimensions

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

NAME = "trellic"


@dataclass(frozen=True)
class TrellicCodec(ArrayBytesCodec):
    """Chunks (H, W), (H, W, 3) or (N, H, W, 3) of uint8, encoded with loss.

    A chunk of one picture is a ``.tlc`` file, which other programs can also read.

    Parameters
    ----------
    quality, trellis, model : of encoding, as of `trellic.encode`
    decoder : of decoding, to the full size
    stored : whether this is the codec of an array that exists. It may then have options that
        nothing can be encoded with

    Raises
    ------
    BadParameter, UnknownModel, UnknownDecoder
        When nothing could be written with these options, or nothing read again.
    """

    is_fixed_size = False

    quality: float = DEFAULT_QUALITY
    trellis: int = DEFAULT_TRELLIS
    model: str = DEFAULT_MODEL
    decoder: str = DEFAULT_DECODER
    stored: bool = field(default=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.stored:
            check_encoding(self.quality, self.trellis)
            check_model(self.model, self.decoder)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make it of the metadata of an array, whose options are not checked before a write."""
        _, configuration = parse_named_configuration(data, NAME, require_configuration=False)
        return cls(**(configuration or {}), stored=True)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Return its metadata."""
        names = ("quality", "trellis", "model", "decoder")
        return {"name": NAME, "configuration": {name: getattr(self, name) for name in names}}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse arrays whose chunks are not pictures, before anything is written.

        Arrays that exist are checked, too, when they are opened. Alpha may be read there.

        Raises
        ------
        BadImage
        """
        if dtype.to_native_dtype() != "uint8":
            raise BadImage(f"an array of dtype {dtype.to_native_dtype()}", expected="uint8")
        check_shape = picture_dimensions if self.stored else written_dimensions
        check_shape(getattr(chunk_grid, "chunk_shape", shape))

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        """Raise, because the size of a file is not known before it is made.

        Raises
        ------
        NotImplementedError
        """
        raise NotImplementedError

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        codec = codec_for(self.model)
        pictures = unpack(codec, chunk_bytes.to_bytes(), decoder=self.decoder)
        array = shaped(pictures, chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(array)  # type: ignore[arg-type]

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        codec, chunk = codec_for(self.model), chunk_array.as_numpy_array()
        options = {"quality": self.quality, "trellis": self.trellis, "decoder": self.decoder}
        data = pack(codec, chunk, **options)  # type: ignore[arg-type]
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)
