"""JPEG 2000 by OpenJPEG: irreversible 9/7 wavelet, 4:4:4."""

import imagecodecs
import numpy as np

from benchmarks.codecs import Pixels


class Jpeg2000:
    """OpenJPEG through imagecodecs, one thread; quality is the PSNR asked of each component."""

    ladder = (24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44)

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {
            "transform": "9/7, ICT",
            "container": "jp2",
            "quality_is": "PSNR",
        }
        self.versions = {"openjpeg": imagecodecs.jpeg2k_version().split()[-1]}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode for a PSNR in dB."""
        data = imagecodecs.jpeg2k_encode(
            pixels, level=quality, reversible=False, mct=True, codecformat="jp2", numthreads=1
        )
        return bytes(data)

    def decode(self, data: bytes) -> Pixels:
        """Decode to 8-bit RGB."""
        return np.asarray(imagecodecs.jpeg2k_decode(data, numthreads=1), dtype=np.uint8)
