"""Pillow plugin: importing this module lets Pillow open and save ``.tlc`` files.

Examples
--------
>>> import io
>>> import trellic.pillow  # registers .tlc, for mimetypes too
>>> from PIL import Image
>>> file = io.BytesIO()
>>> Image.new("RGB", (64, 48), "teal").save(file, "TLC", quality=60)
>>> image = Image.open(file)
>>> image.decoder = "quality"
>>> image.size, image.mode
((64, 48), 'RGB')

Opening reads and checks the file. The pixels are decoded when they are first needed, with the
decoder that the attribute ``decoder`` names at that time.

Saving takes every option of `trellic.encode`, such as ``quality``, ``max_bytes`` or
``progressive``, with ``model`` as a name or path; ``device``; and ``exif``, ``icc_profile``,
``xmp`` and ``dpi`` instead of those that the image carries; None leaves them out.

Pillow empties an existing file before it asks for the new content, so a save that fails loses it.
To replace a file safely, write the bytes of `trellic.encode` yourself.
"""

from __future__ import annotations

import mimetypes
from dataclasses import fields
from functools import cache
from typing import IO, TYPE_CHECKING, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from trellic import bitstream, images
from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, Device
from trellic.errors import StreamError, TrellicError
from trellic.images.exif import PREFIX, dpi_of
from trellic.images.picture import warn
from trellic.model import bundle
from trellic.model.choice import cheapest, choose
from trellic.pipeline.options import EncodeOptions
from trellic.pipeline.region import to_rectangle

if TYPE_CHECKING:
    from trellic.codec import Codec

FORMAT = "TLC"
SUFFIX = ".tlc"
MIME_TYPE = "image/x-trellic"
_SIGNATURE = b"TLC"
_METADATA = {"icc_profile": "icc", "exif": "exif", "xmp": "xmp"}  # Pillow's name: ours
_GIVEN = ("exif", "icc_profile", "xmp", "dpi")
_ENCODER_OPTIONS = tuple(field.name for field in fields(EncodeOptions))


class TlcImageFile(ImageFile.ImageFile):
    """A ``.tlc`` file as Pillow sees it.

    Attributes
    ----------
    decoder : str
        Name of the decoder that the pixels will be made with (``NAME`` or ``NAME:x``); set it
        before they are loaded. With one that makes smaller pictures the size changes with it.
    """

    format = FORMAT
    format_description = "Trellic learned image codec"
    _decoder = DEFAULT_DECODER
    _data = b""  # the file, until it is decoded

    def _open(self) -> None:
        """Read the file and check it, but decode nothing."""
        self._data = self.fp.read() if self.fp is not None else b""
        try:
            stream = bitstream.read(self._data)
        except StreamError as error:  # not SyntaxError, whose text Pillow would drop
            raise UnidentifiedImageError(str(error)) from error
        header, chunks = stream.header, stream.chunks
        self._size = (header.width, header.height)
        self._stream_id = header.stream_id.hex()
        self._mode = ("L" if header.grey else "RGB") + ("A" if chunks.alpha is not None else "")
        self.info["quality"] = header.quality
        for name, ours in _METADATA.items():
            if value := getattr(chunks, ours):
                self.info[name] = PREFIX + value if name == "exif" else value
        if chunks.exif and (dpi := dpi_of(chunks.exif)):
            self.info["dpi"] = dpi

    @property
    def decoder(self) -> str:
        """Name of the decoder."""
        return self._decoder

    @decoder.setter
    def decoder(self, name: str) -> None:
        self._decoder = name
        if self._data:  # not decoded yet; Pillow's methods read the size before they load
            header = bitstream.read_header(self._data)
            part = to_rectangle(None, header.width, header.height).coarser(self._scale(name))
            self._size = part.shape[::-1]

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the cheapest decoder whose picture is at least this large, for `thumbnail`.

        Parameters
        ----------
        mode : ignored, because a stream has one mode
        size : width and height in pixels

        Returns
        -------
        mode, and the box of the picture in pixels of the new size; None if nothing changed
        """
        if not self._data or size is None or self._decoder != DEFAULT_DECODER:
            return None
        reduction = min(self.width / max(size[0], 1), self.height / max(size[1], 1))
        try:
            manifest = bundle.read_manifest(bundle.find_stream(self._stream_id))
        except TrellicError:
            return None  # loading says what is wrong
        name = cheapest(manifest.decoders, reduction)
        if name is None:
            return None
        self.decoder = name
        return self.mode, (0, 0, float(self.width), float(self.height))

    def _scale(self, name: str) -> int:
        try:
            manifest = bundle.read_manifest(bundle.find_stream(self._stream_id))
            return choose(manifest.decoders, name, manifest.name).scale
        except TrellicError:
            return 1  # loading says what is wrong

    def load(self) -> Any:
        """Decode the pixels, unless they are there already.

        Raises
        ------
        OSError
            If the stream cannot be decoded: unknown model or decoder, damaged data.
        """
        if self._data:
            try:
                codec = _codec(str(bundle.find_stream(self._stream_id)), "auto")
                picture = codec.decode_picture(self._data, decoder=self.decoder)
                self.im = images.to_pil(picture).im
            except TrellicError as error:
                raise OSError(str(error)) from error
            self._size = (picture.width, picture.height)
            self._data = b""
            if self.fp is not None and self._exclusive_fp:
                self.fp.close()
            self.fp = None
        return super().load()


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(_SIGNATURE)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    """Encode an image into an open file."""
    options: dict[str, Any] = getattr(image, "encoderinfo", {})
    if options.get("append_images"):
        warn("a .tlc file holds one picture: the appended images are left out")
    given = {name: options[name] for name in _GIVEN if name in options}
    picture = images.from_pil(image, given=given)
    model = bundle.find(str(options.get("model", DEFAULT_MODEL)))
    codec = _codec(str(model), options.get("device", "auto"))
    arguments = {name: options[name] for name in _ENCODER_OPTIONS if name in options}
    fp.write(codec.encode_picture(picture, **arguments).data)


@cache
def _codec(model: str, device: Device) -> Codec:
    from trellic.codec import Codec

    return Codec.load(model, device)


Image.register_open(FORMAT, TlcImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save)  # the first frame, with a warning
Image.register_extension(FORMAT, SUFFIX)
Image.register_mime(FORMAT, MIME_TYPE)
mimetypes.add_type(MIME_TYPE, SUFFIX)
