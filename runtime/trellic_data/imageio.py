"""A plugin of imageio: importing this module lets ``imageio.v3`` read and write ``.tlc`` files.

::

import imageio.v3 as iio
import trellic_data.imageio  # registers .tlc
iio.imwrite("a.tlc", picture, quality=60)
iio.imread("a.tlc", decoder="fast", region=(0, 0, 64, 64))
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from imageio.config import FileExtension, extension_list, known_extensions, known_plugins
from imageio.config.plugins import PluginConfig
from imageio.core.request import InitializationError, IOMode, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3

from trellic import bitstream
from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL
from trellic.pillow import SUFFIX
from trellic.pipeline.region import Region
from trellic_data.codecs import codec_for
from trellic_data.views import Pixels

NAME = "trellic"


class TrellicPlugin(PluginV3):
    """Reads and writes ``.tlc`` files, which hold one picture.

    Parameters
    ----------
    request : of imageio

    Raises
    ------
    InitializationError
        When the file is not one that this plugin reads or writes.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.mode.io_mode == IOMode.read:
            self._data: bytes = request.get_file().read()
            if self._data[:3] != b"TLC":
                raise InitializationError("no .tlc file")
        elif request.extension not in (None, SUFFIX):
            raise InitializationError(f"writes {SUFFIX} alone")

    def read(
        self,
        *,
        index: int | None = 0,
        decoder: str = DEFAULT_DECODER,
        region: Region | None = None,
    ) -> Pixels:
        """Decode the picture.

        Parameters
        ----------
        index : 0, or None
        decoder, region : as of `trellic.decode`

        Raises
        ------
        ValueError
            When another index is asked for.
        TrellicError
            As of `trellic.decode`.
        """
        _only(index)
        return codec_for(threads=0).decode(self._data, decoder=decoder, region=region)

    def iter(self, **options: Any) -> Iterator[Pixels]:
        """Yield the one picture."""
        yield self.read(**options)

    def write(self, ndimage: Any, *, model: str = DEFAULT_MODEL, **options: Any) -> bytes | None:
        """Encode a picture.

        Parameters
        ----------
        ndimage : uint8 array as of `trellic.encode`
        model, options : as of `trellic.encode`

        Returns
        -------
        the file's bytes, if imageio writes to ``"<bytes>"``

        Raises
        ------
        TrellicError
            As of `trellic.encode`.
        """
        data = codec_for(model, threads=0).encode(np.asarray(ndimage), **options)
        self.request.get_file().write(data)
        asked = self.request._uri_type
        from imageio.core.request import URI_BYTES

        return data if asked == URI_BYTES else None

    def properties(self, index: int | None = 0) -> ImageProperties:
        """Return shape and dtype, without decoding; alpha counts."""
        _only(index)
        stream = bitstream.read(self._data)
        header, alpha = stream.header, stream.chunks.alpha is not None
        channels = (1 if header.grey else 3) + alpha
        shape: tuple[int, ...] = (header.height, header.width)
        shape += () if channels == 1 else (channels,)
        return ImageProperties(shape=shape, dtype=np.dtype(np.uint8), n_images=1)

    def metadata(self, index: int | None = 0, exclude_applied: bool = True) -> dict[str, Any]:
        """Return the content of the file's header, and metadata as bytes."""
        _only(index)
        stream = bitstream.read(self._data)
        found = {
            "quality": stream.header.quality,
            "trellis": stream.header.trellis,
            "stream_id": stream.header.stream_id.hex(),
        }
        chunks = {name: getattr(stream.chunks, name) for name in ("icc", "exif", "xmp")}
        return found | {name: value for name, value in chunks.items() if value}


def _only(index: int | None) -> None:
    if index not in (0, None, ...):
        raise ValueError(f"index {index!r}: a {SUFFIX} file holds one picture, expected 0")


def _register() -> None:
    module, name = TrellicPlugin.__module__, TrellicPlugin.__name__
    known_plugins[NAME] = PluginConfig(name=NAME, class_name=name, module_name=module)
    if SUFFIX not in known_extensions:
        extension = FileExtension(extension=SUFFIX, priority=[NAME], name="Trellic")
        extension_list.append(extension)
        known_extensions[SUFFIX] = [extension]


_register()
