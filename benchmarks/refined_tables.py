"""Tables of other encoders and encoder options beside plain files, from runs of `benchmarks.rd`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.runs import Measured, Point, load
from benchmarks.speed_tables import table

PLAIN: Final = "trellic"
REFINED: Final = "trellic:refine=1"
STEADY: Final = "trellic:steady=1"
ENCODER: Final = "trellic:model=encoder.zip"
OPTIONS: Final = {name: f"rd-refined-{name}.json" for name in ("kodak", "gb82")}
ENCODERS: Final = {name: f"rd-encoder-{name}.json" for name in ("validation", "gb82")}
SCORES: Final = ("psnr", "ssimulacra2")


def more_bytes(plain: Measured, other: Point, score: str) -> float | None:
    """Percent more bytes than a plain file of the same picture and score would have.

    Between measured plain files by lines in log bytes; None beyond them.
    """
    own = sorted((p for p in plain.points if p.image == other.image), key=lambda p: p.quality)
    scores = [p.score(score) or 0.0 for p in own]
    wanted = other.score(score)
    if wanted is None or not scores[0] <= wanted <= scores[-1]:
        return None
    least = np.exp(np.interp(wanted, scores, np.log([p.bytes for p in own])))
    return float(100 * (other.bytes / least - 1))


def _rows(results: Path, files: Mapping[str, str], spec: str) -> list[list[str]]:
    rows = []
    for name, file in files.items():
        codecs = {codec.spec: codec for codec in load(results / file)[1]}
        plain, other = codecs[PLAIN], codecs[spec]
        for quality in sorted({point.quality for point in other.points}):
            made = [point for point in other.points if point.quality == quality]
            at_same = [p for p in plain.points if p.quality == quality]
            size = np.mean([p.bpp for p in made]) / np.mean([p.bpp for p in at_same]) - 1
            cells = [f"{name} ({len(made)})", f"{quality:.0f}", _percent(100 * size)]
            for score, digits in zip(SCORES, (2, 1), strict=True):
                gains = [_mean(made, score) - _mean(at_same, score)]
                cells.append(f"{gains[0]:+.{digits}f}")
            for score in SCORES:
                found = [more_bytes(plain, point, score) for point in made]
                kept = [value for value in found if value is not None]
                cells.append(_percent(float(np.mean(kept))) if len(kept) == len(made) else "-")
            rows.append(cells)
    return rows


def _mean(points: list[Point], score: str) -> float:
    return float(np.mean([point.score(score) or 0.0 for point in points]))


def _percent(value: float) -> str:
    return f"{value:+.1f} %"


def _table(files: Mapping[str, str], spec: str) -> Callable[[Path], str]:
    head = ("photos", "quality", "bytes", "PSNR, dB", "SSIMULACRA 2")
    head += ("bytes at equal PSNR", "bytes at equal SSIMULACRA 2")
    return lambda results: table(head, _rows(results, files, spec))


TABLES: Final[Mapping[str, Callable[[Path], str]]] = {
    "refined": _table(OPTIONS, REFINED),
    "steady": _table(OPTIONS, STEADY),
    "encoder": _table(ENCODERS, ENCODER),
}
