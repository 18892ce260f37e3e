"""JPEG XL (lossy, VarDCT) by libjxl."""

import imagecodecs
import numpy as np

from benchmarks.codecs import Pixels, SpecError


class JpegXl:
    """libjxl through imagecodecs, bare codestream; quality is the Butteraugli distance.

    Parameters
    ----------
    effort
        libjxl's effort, 1 to 10.
    threads
        Of encoder and decoder.
    """

    ladder = (20, 15, 11.5, 9, 7, 5.5, 4.3, 3.4, 2.7, 2.1, 1.6, 1.2, 0.8, 0.5, 0.3)

    def __init__(self, effort: str = "7", threads: str = "1") -> None:
        if not (effort.isdecimal() and threads.isdecimal()):
            raise SpecError(f"jxl: got effort={effort}, threads={threads}; expected numbers")
        self._threads = int(threads)
        self.settings: dict[str, str | int | float] = {
            "effort": int(effort),
            "colour": "XYB",
            "quality_is": "distance",
        }
        self.versions = {"libjxl": imagecodecs.jpegxl_version().split()[-1]}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at a distance of 0.1 to 25; smaller is better."""
        effort = int(self.settings["effort"])
        data = imagecodecs.jpegxl_encode(
            pixels,
            distance=quality,
            effort=effort,
            usecontainer=False,
            numthreads=self._threads,
        )
        return bytes(data)

    def decode(self, data: bytes) -> Pixels:
        """Decode to 8-bit sRGB."""
        return np.asarray(imagecodecs.jpegxl_decode(data, numthreads=self._threads), dtype=np.uint8)
