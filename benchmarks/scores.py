"""The measures of quality that a rate-distortion run can compute, each from 8-bit RGB pictures."""

import io
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.codecs import Pixels, SpecError
from benchmarks.metrics import ms_ssim, psnr

BUTTERAUGLI = "butteraugli_main"


class ScoreUnavailableError(RuntimeError):
    """A score's package or program is missing."""


@dataclass(frozen=True)
class Score:
    """One measure of quality."""

    label: str
    axis: str
    """Of a plot: what `scale` returns, with its unit."""
    compute: Callable[[Pixels, Pixels], float]
    """From the original and the decoded picture."""
    scale: Callable[[float], float]
    """Turns a value into one that grows with quality about as PSNR does, for curves."""
    needs: Callable[[], str | None]
    """Says what is missing on this machine; None if nothing is."""


def ssimulacra2(original: Pixels, decoded: Pixels) -> float:
    """Return SSIMULACRA2 (the package of that name): 100 is lossless, 90 cannot be told apart."""
    from ssimulacra2 import compute_ssimulacra2

    return float(compute_ssimulacra2(_bmp(original), _bmp(decoded)))


def butteraugli(original: Pixels, decoded: Pixels) -> float:
    """Return Butteraugli's 3-norm, by libjxl's own program; 0 is lossless, 1 hard to see.

    Raises
    ------
    ScoreUnavailableError
        The program prints something else than it used to.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("original.png", "decoded.png")]
        for path, pixels in zip(paths, (original, decoded), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
        done = subprocess.run(
            [BUTTERAUGLI, *map(str, paths)], capture_output=True, text=True, check=False
        )
    found = re.search(r"3-norm:\s*([0-9.eE+-]+)", done.stdout)
    if done.returncode or found is None:
        raise ScoreUnavailableError(f"{BUTTERAUGLI} failed: {(done.stderr or done.stdout)[-200:]}")
    return float(found[1])


def _bmp(pixels: Pixels) -> io.BytesIO:
    """Return an uncompressed file in memory: the package reads files only."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    buffer.seek(0)
    return buffer


def _package() -> str | None:
    try:
        import ssimulacra2  # noqa: F401
    except ImportError:
        return "the package ssimulacra2; remedy: pip install ssimulacra2"
    return None


def _program() -> str | None:
    if shutil.which(BUTTERAUGLI):
        return None
    return f"the program {BUTTERAUGLI}; remedy: install libjxl's tools (Debian: libjxl-devtools)"


def _decibel(similarity: float) -> float:
    return -10 * math.log10(max(1 - similarity, 1e-12))


SCORES: Final[dict[str, Score]] = {
    "psnr": Score("RGB PSNR", "PSNR in dB (RGB)", psnr, float, lambda: None),
    "ms_ssim": Score("MS-SSIM", "MS-SSIM in dB (RGB)", ms_ssim, _decibel, lambda: None),
    "ssimulacra2": Score("SSIMULACRA2", "SSIMULACRA2", ssimulacra2, float, _package),
    "butteraugli": Score(
        "Butteraugli 3-norm", "Butteraugli 3-norm, negated", butteraugli, lambda x: -x, _program
    ),
}


def parse(text: str) -> tuple[str, ...]:
    """Read names separated by commas; PSNR is always among them, and first.

    Raises
    ------
    SpecError
        A name is unknown.
    ScoreUnavailableError
        What a score needs is not installed; the message says how to get it.

    Examples
    --------
    >>> parse("ms_ssim")
    ('psnr', 'ms_ssim')
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SCORES:
            raise SpecError(f"unknown metric {name!r}; choose from {', '.join(SCORES)}")
        if (missing := SCORES[name].needs()) is not None:
            raise ScoreUnavailableError(f"metric {name} needs {missing}")
    return tuple(dict.fromkeys(["psnr", *names]))
