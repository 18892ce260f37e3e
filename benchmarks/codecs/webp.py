"""WebP (lossy), method 6."""

from PIL import features

from benchmarks.codecs import Pixels
from benchmarks.codecs.pillow import decode, encode


class WebP:
    """libwebp through Pillow. Lossy WebP is always 4:2:0, which caps its PSNR near 40 dB."""

    ladder = (0, 5, 10, 17, 25, 33, 42, 50, 60, 68, 76, 82, 87, 91, 94, 97, 99)

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {"method": 6, "subsampling": "4:2:0"}
        self.versions = {"libwebp": features.version("webp") or "unknown"}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at quality 0 to 100."""
        return encode(pixels, "WEBP", quality=quality, method=6)

    def decode(self, data: bytes) -> Pixels:
        """Decode with libwebp (its default, "fancy" chroma upsampling)."""
        return decode(data)
