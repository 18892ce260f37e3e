"""AVIF at 4:4:4 by libaom."""

import re

from PIL import _avif, features

from benchmarks.codecs import Pixels, SpecError
from benchmarks.codecs.pillow import decode, encode

TUNES = ("default", "psnr", "ssim", "iq", "ssimulacra2")


class Avif:
    """libaom through Pillow's libavif, 8 bit, decoded by dav1d.

    Parameters
    ----------
    speed
        libavif's speed, 0 (slowest) to 10.
    tune
        ``default`` leaves it to libavif, which since 1.4 tunes for the eye (``iq``);
        ``ssimulacra2`` is tuned for that score, ``psnr`` needs fewer bits at equal PSNR.
    threads
        Of the encoder; the decoder takes as many as the process may use.
    """

    ladder = (2, 8, 14, 20, 26, 32, 38, 44, 50, 56, 63, 70, 77, 84, 90, 95)

    def __init__(self, speed: str = "6", tune: str = "default", threads: str = "1") -> None:
        if tune not in TUNES or not (speed.isdecimal() and threads.isdecimal()):
            raise SpecError(
                f"avif: got speed={speed}, tune={tune}, threads={threads}; "
                f"tunes are {', '.join(TUNES)}"
            )
        self.settings: dict[str, str | int | float] = {
            "speed": int(speed),
            "tune": tune,
            "subsampling": "4:4:4",
            "bit_depth": 8,
        }
        self._threads = int(threads)
        self._advanced = None if tune == "default" else {"tune": tune}
        codecs = str(_avif.codec_versions())
        self.versions = {
            "libavif": features.version("avif") or "unknown",
            **{name: _version(codecs, name) for name in ("aom", "dav1d")},
        }

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at quality 0 to 100."""
        return encode(
            pixels,
            "AVIF",
            quality=round(quality),
            speed=self.settings["speed"],
            subsampling="4:4:4",
            codec="aom",
            max_threads=self._threads,
            advanced=self._advanced,
        )

    def decode(self, data: bytes) -> Pixels:
        """Decode with libavif's default decoder."""
        return decode(data)


def _version(codecs: str, name: str) -> str:
    """Find a codec in libavif's list, such as ``dav1d [dec]:1.5.3, aom [enc]:3.14.1``."""
    match = re.search(rf"{name}[^:,]*:\s*([^,\s]+)", codecs)
    return match[1] if match else "unknown"
