"""The measures of quality that a rate-distortion run can compute, each from 8-bit RGB pictures."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from benchmarks.codecs import Pixels, SpecError
from benchmarks.metrics import ms_ssim, psnr
from benchmarks.sliced_wasserstein import SMALLEST, sliced_wasserstein
from trellic.cli.measures import butteraugli, flip, no_butteraugli
from trellic.scored import ssimulacra2
from trellic_training.measures import colorvideo, similarity
from trellic_training.measures.colorvideo import cvvdp
from trellic_training.measures.similarity import fsim, haarpsi, vsi

# What the name "eye" stands for: all that judges what people see.
EYE = ("ms_ssim", "ssimulacra2", "cvvdp", "haarpsi", "fsim", "butteraugli", "flip")


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


def _package(name: str, distribution: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if importlib.util.find_spec(name):
            return None
        return f"the package {distribution}; remedy: pip install {distribution}"

    return missing


def _decibel(similarity: float) -> float:
    return -10 * math.log10(max(1 - similarity, 1e-12))


SCORES: Final[dict[str, Score]] = {
    "psnr": Score("RGB PSNR", "PSNR in dB (RGB)", psnr, float, lambda: None, 1),
    "ms_ssim": Score("MS-SSIM", "MS-SSIM in dB (RGB)", ms_ssim, _decibel, lambda: None, 161),
    "ssimulacra2": Score(
        "SSIMULACRA2", "SSIMULACRA2", ssimulacra2, float, _package("ssimulacra2", "ssimulacra2")
    ),
    "cvvdp": Score("CVVDP", "CVVDP in JOD (4K display)", cvvdp, float, colorvideo.missing, 16),
    "butteraugli": Score(
        "Butteraugli 3-norm",
        "Butteraugli 3-norm, negated",
        butteraugli,
        lambda x: -x,
        no_butteraugli,
    ),
    "flip": Score(
        "FLIP", "FLIP, negated", flip, lambda x: -x, _package("flip_evaluator", "flip-evaluator")
    ),
    "haarpsi": Score("HaarPSI", "HaarPSI in dB", haarpsi, _decibel, similarity.missing, 16),
    "fsim": Score("FSIM", "FSIM in dB (with colour)", fsim, _decibel, similarity.missing, 16),
    "vsi": Score("VSI", "VSI in dB", vsi, _decibel, similarity.missing, 16),
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

    The name ``eye`` stands for all of `EYE`.

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
    given = [name.strip() for name in text.split(",") if name.strip()]
    names = [name for one in given for name in (EYE if one == "eye" else (one,))]
    for name in names:
        if name not in SCORES:
            raise SpecError(f"unknown metric {name!r}; choose from {', '.join(SCORES)}")
        if (missing := SCORES[name].needs()) is not None:
            raise ScoreUnavailableError(f"metric {name} needs {missing}")
    return tuple(dict.fromkeys(["psnr", *names]))
