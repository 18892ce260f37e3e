"""JPEG by mozjpeg at 4:4:4: progressive, trellis quantization, optimized scans."""

import importlib.metadata
import re

import numpy as np
import pyvips  # type: ignore[import-untyped]

from benchmarks.codecs import CodecUnavailableError, Pixels, SpecError
from benchmarks.codecs.pillow import decode

TABLES = {"default": 3, "psnr": 1}  # mozjpeg's quantization tables: N. Robidoux's, flat


class MozJpeg:
    """mozjpeg through libvips (the ``pyvips-binary`` wheel carries it), decoded by libjpeg-turbo.

    The settings are those of mozjpeg's own ``cjpeg -sample 1x1``, except that libvips leaves the
    trellis of the DC coefficients off.

    Parameters
    ----------
    tune
        ``default``: mozjpeg's default quantization table, made for the eye; ``psnr``: the flat
        table of ``cjpeg -tune-psnr``.
    """

    ladder = (3, 6, 10, 15, 20, 27, 35, 45, 55, 65, 75, 83, 90, 95, 98)

    def __init__(self, tune: str = "default") -> None:
        if tune not in TABLES:
            raise SpecError(f"jpeg: tune is {tune!r}, choose from {', '.join(TABLES)}")
        self.settings: dict[str, str | int | float] = {
            "tune": tune,
            "quant_table": TABLES[tune],
            "subsampling": "4:4:4",
            "progressive": 1,
            "trellis_quant": 1,
            "overshoot_deringing": 1,
            "optimize_scans": 1,
        }
        self.versions = {
            "mozjpeg": mozjpeg_version(),
            "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
        }

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Encode at quality 1 to 100."""
        data: bytes = pyvips.Image.new_from_array(np.ascontiguousarray(pixels)).jpegsave_buffer(
            Q=round(quality),
            quant_table=self.settings["quant_table"],
            subsample_mode="off",
            interlace=True,
            optimize_coding=True,
            trellis_quant=True,
            overshoot_deringing=True,
            optimize_scans=True,
            keep="none",
        )
        return data

    def decode(self, data: bytes) -> Pixels:
        """Decode with libjpeg-turbo, as Pillow does."""
        return decode(data)


def mozjpeg_version() -> str:
    """Return the version that the libvips wheel names in its library.

    Raises
    ------
    CodecUnavailableError
        libvips was built with another JPEG library, which would silently drop the trellis.
    """
    try:
        files = importlib.metadata.files("pyvips-binary") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if "libvips" in file.name and (
            match := re.search(rb"mozjpeg version ([0-9.]+)", file.read_binary())
        ):
            return match[1].decode()
    raise CodecUnavailableError(
        "codec jpeg needs a libvips with mozjpeg: pip install 'pyvips[binary]'"
    )
