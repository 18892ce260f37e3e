"""HEIC (HEVC intra) at 4:4:4 by x265."""

import io
import re

import numpy as np
import pillow_heif
from PIL import Image

from benchmarks.codecs import CodecUnavailableError, Pixels, SpecError

TUNES = ("ssim", "psnr", "grain")


class Heic:
    """x265 through pillow-heif, 8 bit, decoded by libde265.

    Parameters
    ----------
    preset
        x265's preset; libheif's default is ``slow``.
    tune
        ``ssim`` is libheif's default; ``psnr`` needs fewer bits at equal PSNR.
    """

    ladder = (2, 8, 14, 20, 25, 30, 35, 40, 45, 50, 55, 60, 66, 73)

    def __init__(self, preset: str = "slow", tune: str = "ssim") -> None:
        if tune not in TUNES:
            raise SpecError(f"heic: tune is {tune!r}, choose from {', '.join(TUNES)}")
        self.settings: dict[str, str | int | float] = {
            "preset": preset,
            "tune": tune,
            "subsampling": "4:4:4",
            "bit_depth": 8,
        }
        self._parameters = {"preset": preset, "tune": tune}
        info = pillow_heif.libheif_info()
        if not re.search("x265", str(info.get("encoders", ""))):
            raise CodecUnavailableError("codec heic needs a pillow-heif with the x265 encoder")
        self.versions = {
            "libheif": str(info["libheif"]),
            "x265": _version(str(info["encoders"])),
            "libde265": _version(str(info["decoders"])),
        }

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at quality 0 to 100."""
        buffer = io.BytesIO()
        picture = pillow_heif.from_pillow(Image.fromarray(pixels))
        picture.save(buffer, quality=round(quality), chroma="444", enc_params=self._parameters)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Decode with libheif's default decoder."""
        return np.asarray(pillow_heif.read_heif(data).to_pillow().convert("RGB"))


def _version(text: str) -> str:
    """Find the first version number, such as in ``x265 HEVC encoder (4.3+1-e9b8812)``."""
    match = re.search(r"(?:\(|version )([0-9][^)'\s]*)", text)
    return match[1] if match else "unknown"
