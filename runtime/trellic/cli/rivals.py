"""The other codecs of ``trellic compare``: those that are installed, at documented settings."""

from __future__ import annotations

import importlib.metadata
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Encode = Callable[[Pixels, int, bytes | None], bytes]
Aim = Callable[[bytes, Callable[[], Pixels]], bool]  # of a file, and what decodes it

_QUALITIES = range(1, 101)


@dataclass(frozen=True)
class Rival:
    """A codec to compare with.

    Attributes
    ----------
    name, settings : for people
    encode : from uint8 pixels (H, W, 3) or (H, W), a quality of 1 to 100 and an ICC profile, or
        None, to a file
    decode : from a file to the pixels
    mime_type : what a browser calls the files; empty where browsers do not show them
    """

    name: str
    settings: str
    encode: Encode
    decode: Callable[[bytes], Pixels]
    mime_type: str


@dataclass(frozen=True)
class Match:
    """A file of a rival: without profile, its picture, and the seconds that each took."""

    quality: int
    data: bytes
    pixels: Pixels
    encode_seconds: float
    decode_seconds: float


def match(rival: Rival, pixels: Pixels, aim: Aim) -> Match:
    """Find the rival's lowest quality whose file meets the aim; its best if none does.

    So the rival never has fewer bytes, or a lower score, unless its range of qualities ends.

    Parameters
    ----------
    pixels : uint8 (H, W, 3) or (H, W)
    aim : whether a file is good enough; true from some quality on
    """
    low, high = _QUALITIES[0], _QUALITIES[-1]
    while low < high:
        middle = (low + high) // 2
        data = rival.encode(pixels, middle, None)
        if aim(data, partial(_decoded, rival, data, pixels.ndim)):
            high = middle
        else:
            low = middle + 1
    start = time.perf_counter()
    data = rival.encode(pixels, high, None)
    encoded = time.perf_counter()
    rival.decode(data)
    decoded = time.perf_counter()
    shown = _decoded(rival, data, pixels.ndim)
    return Match(high, data, shown, encoded - start, decoded - encoded)


def _decoded(rival: Rival, data: bytes, dimensions: int) -> Pixels:
    """Decode a file; three equal channels of a grey picture become one again."""
    shown = rival.decode(data)
    return np.ascontiguousarray(shown[..., 1]) if shown.ndim > dimensions else shown


def installed() -> list[Rival]:
    """Return the rivals that this machine has, from the oldest to the newest."""
    return [*_jpeg(), *_mozjpeg(), *_webp(), *_avif(), *_jpeg_xl()]


def _jpeg() -> Iterator[Rival]:
    options = {"progressive": True, "optimize": True}
    yield Rival("JPEG", "libjpeg, 4:2:0, progressive", *_pillow("JPEG", options), "image/jpeg")


def _webp() -> Iterator[Rival]:
    from PIL import features

    if features.check("webp"):
        webp = _pillow("WEBP", {"method": 6})
        yield Rival("WebP", "libwebp, method 6 (always 4:2:0)", *webp, "image/webp")


def _avif() -> Iterator[Rival]:
    from PIL import features

    if "avif" in features.get_supported():
        options = {"speed": 6, "subsampling": "4:4:4"}
        yield Rival("AVIF", "libavif, 4:4:4, speed 6", *_pillow("AVIF", options), "image/avif")


def _mozjpeg() -> Iterator[Rival]:
    """Mozjpeg in the library of the wheel pyvips-binary."""
    try:
        files = importlib.metadata.files("pyvips-binary") or []
        libraries = [file for file in files if "libvips" in file.name]
        if not any(b"mozjpeg version" in library.read_binary() for library in libraries):
            return
        import pyvips
    except (ImportError, OSError, importlib.metadata.PackageNotFoundError):
        return

    def encode(pixels: Pixels, quality: int, icc: bytes | None) -> bytes:
        image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels))
        if icc:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
        options: dict[str, Any] = {"keep": "icc" if icc else "none"}
        data: bytes = image.jpegsave_buffer(
            Q=quality,
            quant_table=3,
            interlace=True,
            optimize_coding=True,
            trellis_quant=True,
            overshoot_deringing=True,
            optimize_scans=True,
            **options,
        )
        return data

    decode = _pillow("JPEG", {})[1]
    settings = "4:2:0, progressive, trellis quantization"
    yield Rival("JPEG (mozjpeg)", settings, encode, decode, "image/jpeg")


def _jpeg_xl() -> Iterator[Rival]:
    try:
        import imagecodecs
    except ImportError:
        return
    if not imagecodecs.JPEGXL.available:
        return

    def encode(pixels: Pixels, quality: int, icc: bytes | None) -> bytes:
        worst, best = 25.0, 0.1  # of libjxl's quality, which is a Butteraugli distance
        distance = worst * (best / worst) ** ((quality - 1) / 99)
        return bytes(imagecodecs.jpegxl_encode(pixels, distance=distance, effort=7))

    def decode(data: bytes) -> Pixels:
        pixels: Pixels = np.asarray(imagecodecs.jpegxl_decode(data))
        return pixels

    yield Rival("JPEG XL", "libjxl, effort 7; shown decoded", encode, decode, "")


def _pillow(format_name: str, options: dict[str, Any]) -> tuple[Encode, Callable[[bytes], Pixels]]:
    def encode(pixels: Pixels, quality: int, icc: bytes | None) -> bytes:
        from PIL import Image

        buffer = io.BytesIO()
        extra = {"icc_profile": icc} if icc else {}
        Image.fromarray(pixels).save(buffer, format_name, quality=quality, **options, **extra)
        return buffer.getvalue()

    def decode(data: bytes) -> Pixels:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("L" if image.mode == "L" else "RGB"))

    return encode, decode
