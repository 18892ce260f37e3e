"""JPEG 2000 by OpenJPEG: irreversible 9/7 wavelet, 4:4:4."""

from PIL import features

from benchmarks.codecs import Pixels
from benchmarks.codecs.pillow import decode, encode


class Jpeg2000:
    """OpenJPEG through Pillow, optimized for MSE at a given rate; quality is bit/pixel."""

    ladder = (0.06, 0.1, 0.15, 0.22, 0.32, 0.45, 0.65, 0.9, 1.3, 1.8, 2.6, 3.8)

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {
            "transform": "9/7, ICT",
            "container": "jp2",
            "quality_is": "bit/pixel",
        }
        self.versions = {"openjpeg": features.version("jpg_2000") or "unknown"}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode to a rate in bit/pixel."""
        ratio = 24 / quality  # OpenJPEG takes the compression ratio against 24 bit/pixel
        return encode(
            pixels,
            "JPEG2000",
            quality_mode="rates",
            quality_layers=[ratio],
            irreversible=True,
            mct=1,
        )

    def decode(self, data: bytes) -> Pixels:
        """Decode to 8-bit RGB."""
        return decode(data)
