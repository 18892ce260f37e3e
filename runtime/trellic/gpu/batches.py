"""Decides which pictures and streams of a batch the GPU codes together, and which one by one.

Arrays in the GPU's memory and pictures of the host are treated alike. If a batch does not support
an option, that is an error for arrays in the GPU's memory; pictures of the host are then coded in
the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trellic import bitstream, images
from trellic.bitstream import Chunks
from trellic.bitstream.front import PATCHES
from trellic.errors import BadParameter, UnknownDecoder
from trellic.gpu.codec import GpuCodec
from trellic.gpu.dlpack import DeviceImage
from trellic.gpu.pictures import Part
from trellic.gpu.where import on_gpu
from trellic.images import Picture
from trellic.pipeline.encoder import prepared
from trellic.pipeline.options import DecodeOptions, EncodeOptions

Pixels = npt.NDArray[np.uint8]
MOST_PIXELS = 1 << 25  # coded together: sixteen of 1080p; networks take some hundred bytes each


def encode(
    gpu: GpuCodec,
    batch: Sequence[Any],
    options: EncodeOptions,
    ordinary: Callable[[Any], bytes],
) -> list[bytes]:
    """Encode pictures of any sizes, on the host or the GPU.

    Parameters
    ----------
    batch : as of `trellic.Codec.encode_batch`
    ordinary : encodes one picture of the host, with the same options

    Raises
    ------
    BadParameter
        When an array is in the GPU's memory and batches do not support an option.
    """
    there = [on_gpu(one) for one in batch]
    wrong = _not_for_arrays(options)
    if wrong and any(there):
        raise BadParameter(
            f"{wrong} for arrays on the GPU",
            expected="only quality, trellis and strip",
            remedy=f"leave {wrong} out, or encode arrays on the host",
        )
    if wrong:
        return [ordinary(one) for one in batch]
    ready = [
        (one, Chunks()) if lies_there else _from_host(one, options)
        for one, lies_there in zip(batch, there, strict=True)
    ]
    return gpu.encode_parts(
        Part(
            [one for one, _ in ready[part]],
            [options.quality16] * len(ready[part]),
            [options.trellis] * len(ready[part]),
            [chunks for _, chunks in ready[part]],
        )
        for part in _parts([_pixels(one) for one, _ in ready])
    )


def decode(
    gpu: GpuCodec,
    streams: Sequence[bytes | memoryview],
    options: DecodeOptions,
    ordinary: Callable[[bytes | memoryview], Pixels],
) -> list[Pixels]:
    """Decode files to arrays on the host in order, those together that the GPU supports.

    Parameters
    ----------
    streams : bytes of ``.tlc`` files, of any models
    ordinary : decodes one file, with the same options
    """
    name = _decoder_name(gpu, options)
    found: dict[int, Pixels] = {}
    if name is not None:
        wanted = gpu.bundle.manifest.stream_id
        contents = [bitstream.read_contents(data) for data in streams]
        headers = [one.header for one in contents]
        own = [
            i
            for i, header in enumerate(headers)
            if header.stream_id.hex() == wanted
            and header.adapter == gpu.bundle.adapter_id
            and header.dither is None
            and not header.still
            and header.layering is None
            and PATCHES not in contents[i].chunks
        ]
        for part in _parts([headers[i].width * headers[i].height for i in own]):
            read = [bitstream.read(streams[i], options.max_pixels) for i in own[part]]
            arrays = gpu.decode_streams(read, name)
            for i, stream, array in zip(own[part], read, arrays, strict=True):
                pixels = gpu.device.fetch(array)
                found[i] = images.to_array(Picture(pixels, **vars(stream.chunks)))
    return [found[i] if i in found else ordinary(data) for i, data in enumerate(streams)]


def decode_there(
    gpu: GpuCodec, streams: Sequence[bytes], options: DecodeOptions
) -> list[DeviceImage]:
    """Decode files to arrays in the GPU's memory.

    Raises
    ------
    BadParameter
        When an option is not supported for pictures that stay there.
    """
    asked = {
        "region": options.region is not None,
        "max_memory": options.max_memory is not None,
        "best_effort": options.best_effort,
    }
    wrong = ", ".join(name for name, given in asked.items() if given)
    if wrong:
        raise BadParameter(
            f"{wrong} with out='cuda'",
            expected="only decoder and max_pixels",
            remedy=f"leave {wrong} out, or decode with out='host'",
        )
    return gpu.decode_batch(streams, options.decoder, options.max_pixels)


def _not_for_arrays(options: EncodeOptions) -> str:
    """Name the options that a batch does not support."""
    asked = {
        "bpp": options.bpp is not None,
        "max_bytes": options.max_bytes is not None,
        "search='round'": options.search == "round",
        "max_memory": options.max_memory is not None,
        "dither": options.dither is not None,
        "steady": options.steady,
        "refine": options.refine,
        "progressive": options.progressive,
        "patches": options.patches != "off",
    }
    return ", ".join(name for name, given in asked.items() if given)


def _from_host(image: Any, options: EncodeOptions) -> tuple[Pixels, Chunks]:
    picture, chunks = prepared(images.from_any(image), strip=options.strip)
    return picture.pixels, chunks


def _pixels(array: Any) -> int:
    """Pixels of an array, if it is a picture; others are refused when they are coded."""
    shape = tuple(getattr(array, "shape", ()))
    return int(np.prod(shape[:2])) if len(shape) > 1 else 0


def _parts(pixels: Sequence[int]) -> Iterator[slice]:
    """Split a batch into parts of at most `MOST_PIXELS`; a larger picture is a part alone."""
    first = total = 0
    for i, count in enumerate(pixels):
        if i > first and total + count > MOST_PIXELS:
            yield slice(first, i)
            first, total = i, 0
        total += count
    if first < len(pixels):
        yield slice(first, len(pixels))


def _decoder_name(gpu: GpuCodec, options: DecodeOptions) -> str | None:
    """Return the decoder for a batch; None if streams must be decoded in the ordinary way."""
    if options.region is not None or options.max_memory is not None or options.best_effort:
        return None
    try:
        return gpu.decoder_name(options.decoder)
    except (BadParameter, UnknownDecoder):  # or it is of another stream's model
        return None
