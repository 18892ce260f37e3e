"""JPEG by jpegli at 4:4:4: adaptive quantization for the eye, progressive."""

import ajpegli
import numpy as np

from benchmarks.codecs import Pixels


class Jpegli:
    """jpegli (Google) through ajpegli, at its own defaults but 4:4:4, decoded by jpegli to 8 bit.

    Quality is the Butteraugli distance; smaller is better.
    """

    ladder = (25, 20, 15, 11.5, 9, 7, 5.5, 4.3, 3.4, 2.7, 2.1, 1.6, 1.2, 0.8, 0.5)

    def __init__(self) -> None:
        self.settings: dict[str, str | int | float] = {
            "subsampling": "4:4:4",
            "progressive": 2,
            "adaptive_quantization": 1,
            "quality_is": "distance",
        }
        self.versions = {"ajpegli": ajpegli.__version__, "jpegli": ajpegli.jpegli_commit()[:12]}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at a distance of 0.1 to 25."""
        data = ajpegli.encode(
            np.ascontiguousarray(pixels), distance=float(quality), subsampling="444", progressive=2
        )
        return bytes(data)

    def decode(self, data: bytes) -> Pixels:
        """Decode to 8-bit RGB."""
        return np.asarray(ajpegli.decode(data), dtype=np.uint8)
