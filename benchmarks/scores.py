"""The measures of quality that a rate-distortion run can compute, each from 8-bit RGB pictures."""

import importlib
import importlib.util
import io
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.codecs import Pixels, SpecError
from benchmarks.metrics import ms_ssim, psnr
from benchmarks.sliced_wasserstein import SMALLEST, sliced_wasserstein

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
    smallest: int = 8
    """Pixels that a picture's sides need at least."""

    def defined(self, pixels: Pixels) -> bool:
        """Return whether a picture is large enough."""
        return min(pixels.shape[:2]) >= self.smallest

    def gain(self, value: float, other: float) -> float:
        """Return by how much a value is better than another, in the score's own unit."""
        rises = self.scale(1.0) > self.scale(0.0)
        return value - other if rises else other - value


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


def haarpsi(original: Pixels, decoded: Pixels) -> float:
    """Return HaarPSI: in [0, 1], 1 for equal pictures.

    References
    ----------
    R. Reisenhofer, S. Bosse, G. Kutyniok, T. Wiegand, "A Haar wavelet-based perceptual similarity
    index for image quality assessment", Signal Processing: Image Communication 61 (2018).
    """
    value = _piq("haarpsi").haarpsi(_tensor(original), _tensor(decoded), data_range=255)
    return min(float(value), 1.0)  # float32 can end just above


def vsi(original: Pixels, decoded: Pixels) -> float:
    """Return VSI, which weights a picture's places by how salient they are: in [0, 1].

    References
    ----------
    L. Zhang, Y. Shen, H. Li, "VSI: a visual saliency-induced index for perceptual image quality
    assessment", IEEE Transactions on Image Processing 23 (2014).
    """
    value = _piq("vsi").vsi(_tensor(original), _tensor(decoded), data_range=255)
    return min(float(value), 1.0)  # float32 can end just above


def _piq(name: str) -> Any:
    """Return a module of the package piq without running the package's own start.

    That imports torchvision for scores with downloaded weights, which are not wanted here; and
    torchvision does not load beside a CPU build of torch from the same registry.
    """
    if "piq" not in sys.modules and (spec := importlib.util.find_spec("piq")) is not None:
        sys.modules["piq"] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"piq.{name}")


def _tensor(pixels: Pixels) -> Any:
    """Return a picture as piq takes it, float32 (1, 3, H, W)."""
    import torch

    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0)[None])
    return torch.from_numpy(planes).float()


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


def _piq_package() -> str | None:
    if all(importlib.util.find_spec(name) for name in ("torch", "piq")):
        return None
    return "the packages torch and piq; remedy: pip install torch, then pip install --no-deps piq"


def _program() -> str | None:
    if shutil.which(BUTTERAUGLI):
        return None
    return f"the program {BUTTERAUGLI}; remedy: install libjxl's tools (Debian: libjxl-devtools)"


def _decibel(similarity: float) -> float:
    return -10 * math.log10(max(1 - similarity, 1e-12))


SCORES: Final[dict[str, Score]] = {
    "psnr": Score("RGB PSNR", "PSNR in dB (RGB)", psnr, float, lambda: None, 1),
    "ms_ssim": Score("MS-SSIM", "MS-SSIM in dB (RGB)", ms_ssim, _decibel, lambda: None, 161),
    "ssimulacra2": Score("SSIMULACRA2", "SSIMULACRA2", ssimulacra2, float, _package),
    "butteraugli": Score(
        "Butteraugli 3-norm", "Butteraugli 3-norm, negated", butteraugli, lambda x: -x, _program
    ),
    "haarpsi": Score("HaarPSI", "HaarPSI in dB", haarpsi, _decibel, _piq_package, 16),
    "vsi": Score("VSI", "VSI in dB", vsi, _decibel, _piq_package, 16),
    "sliced_wasserstein": Score(
        "Sliced Wasserstein",
        "Sliced Wasserstein distance of patches, negated",
        sliced_wasserstein,
        lambda x: -x,
        lambda: None,
        SMALLEST,
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
