"""The measures of ``trellic compare``; each needs its package or program."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from trellic.cli.metrics import ms_ssim, psnr
from trellic.errors import EngineError
from trellic.scored import MAX_SCORED, ssimulacra2

Pixels = npt.NDArray[np.uint8]
Compute = Callable[[Pixels, Pixels], float]

BUTTERAUGLI = "butteraugli_main"
# These need torch, which the runtime never imports: they are found by name.
ELSEWHERE = "trellic_training.measures."


@dataclass(frozen=True)
class Measure:
    """One measure of how close two pictures are.

    Attributes
    ----------
    label : for people, with the unit
    compute : from the original and the decoded picture, uint8 (H, W, 3)
    missing : says what is not installed, and the remedy; None if all is there
    digits : after the point
    rises : whether more is better
    smallest : pixels that each side needs
    most : pixels of the largest picture
    """

    label: str
    compute: Compute
    missing: Callable[[], str | None]
    digits: int = 2
    rises: bool = True
    smallest: int = 1
    most: int = 1 << 28

    def of(self, original: Pixels, decoded: Pixels) -> float:
        """Return the measure; nan if the picture is too small or too large for it."""
        sides = original.shape[:2]
        if min(sides) < self.smallest or math.prod(sides) > self.most:
            return math.nan
        return self.compute(_colour(original), _colour(decoded))

    def reached(self, value: float, wanted: float) -> bool:
        """Whether a value is at least as good as another one."""
        return value >= wanted if self.rises else value <= wanted

    def text(self, value: float) -> str:
        """Return a value for people."""
        if math.isfinite(value):
            return f"{value:.{self.digits}f}"
        return "\N{INFINITY}" if math.isinf(value) else "n/a"


def installed() -> tuple[dict[str, Measure], list[str]]:
    """Return the measures that this machine has, and a sentence for each of the others."""
    lacking = {name: measure.missing() for name, measure in MEASURES.items()}
    there = {name: MEASURES[name] for name, missing in lacking.items() if missing is None}
    return there, [
        f"{MEASURES[name].label} needs {missing}" for name, missing in lacking.items() if missing
    ]


def butteraugli(original: Pixels, decoded: Pixels) -> float:
    """Return Butteraugli's 3-norm, by libjxl's own program; 0 is lossless, 1 hard to see.

    Raises
    ------
    EngineError
        When the program's output has changed.
    """
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("original.png", "decoded.png")]
        for path, pixels in zip(paths, (original, decoded), strict=True):
            Image.fromarray(pixels).save(path, compress_level=1)
        done = subprocess.run(  # noqa: S603 - a program of a fixed name, files of ours
            [BUTTERAUGLI, *map(str, paths)], capture_output=True, text=True, check=False
        )
    found = re.search(r"3-norm:\s*([0-9.eE+-]+)", done.stdout)
    if done.returncode or found is None:
        raise EngineError(f"{BUTTERAUGLI} failed: {(done.stderr or done.stdout)[-200:]}")
    return float(found[1])


def flip(original: Pixels, decoded: Pixels) -> float:
    """Return the mean of FLIP: what flipping between two pictures shows, 0 (nothing) to 1.

    References
    ----------
    P. Andersson and others, "FLIP: a difference evaluator for alternating images", Proc. ACM on
    Computer Graphics and Interactive Techniques 3 (2020).
    """
    from flip_evaluator import evaluate

    pictures = (pixels.astype(np.float32) / 255 for pixels in (original, decoded))
    _, mean, _ = evaluate(*pictures, "LDR", applyMagma=False)
    return float(mean)


def no_butteraugli() -> str | None:
    """Say what Butteraugli lacks; None if nothing."""
    if shutil.which(BUTTERAUGLI):
        return None
    return f"the program {BUTTERAUGLI}; remedy: install libjxl's tools (Debian: libjxl-devtools)"


def _nothing() -> str | None:
    return None


def _package(name: str, distribution: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        if importlib.util.find_spec(name):
            return None
        return f"the package {distribution}; remedy: pip install {distribution}"

    return missing


def _elsewhere(module: str, name: str) -> tuple[Compute, Callable[[], str | None]]:
    """Return a measure of the training package, and a function that says what it lacks."""

    def compute(original: Pixels, decoded: Pixels) -> float:
        return float(getattr(importlib.import_module(ELSEWHERE + module), name)(original, decoded))

    def missing() -> str | None:
        found: str | None = importlib.import_module(ELSEWHERE + module).missing()
        return found

    return compute, missing


def _colour(pixels: Pixels) -> Pixels:
    """Return grey as three equal channels."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)


_SCORE = _package("ssimulacra2", "ssimulacra2")
MEASURES: Final[dict[str, Measure]] = {
    "psnr": Measure("PSNR, dB", psnr, _nothing),
    "ms-ssim": Measure("MS-SSIM", ms_ssim, _nothing, 4, smallest=161),
    "ssimulacra2": Measure(
        "SSIMULACRA 2", ssimulacra2, _SCORE, 1, smallest=8, most=MAX_SCORED
    ),
    "cvvdp": Measure("CVVDP, JOD", *_elsewhere("colorvideo", "cvvdp"), 3, smallest=16),
    "butteraugli": Measure(
        "Butteraugli 3-norm", butteraugli, no_butteraugli, 3, rises=False, smallest=8
    ),
    "flip": Measure(
        "FLIP", flip, _package("flip_evaluator", "flip-evaluator"), 4, rises=False, smallest=8
    ),
    "haarpsi": Measure("HaarPSI", *_elsewhere("similarity", "haarpsi"), 4, smallest=16),
    "fsim": Measure("FSIM", *_elsewhere("similarity", "fsim"), 4, smallest=16),
}  # fmt: skip
CHEAP: Final = ("psnr", "ms-ssim")  # take less time than the codecs
