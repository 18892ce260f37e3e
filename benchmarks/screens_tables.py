"""The tables of docs/screens.md, from a run of `benchmarks.rd` with and without patches."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bdrate import bd_rate
from benchmarks.runs import Measured, load
from benchmarks.speed_tables import table

FILE: Final = "rd-screens.json"
GAMES: Final = "rd-games.json"
OFF, AUTO, ANCHOR = "trellic:patches=off", "trellic:patches=auto", "avif"
WANTED: Final = (70, 80, 90)  # SSIMULACRA 2
LIMIT = 10  # percent that a picture may be worse than AVIF


def screens(results: Path, file: str = FILE) -> str:
    """Draw BD-rates against AVIF for each picture, before and after, and their means."""
    codecs = _codecs(results, file)
    head = "picture", *(f"{how}, by {what}" for what in ("SSIMULACRA 2", "PSNR") for how in HOW)
    rates = {
        name: [
            _rate(codecs[spec], codecs[ANCHOR], name, score)
            for score in ("ssimulacra2", "psnr")
            for spec in HOW.values()
        ]
        for name in _common(codecs)
    }
    rows = [[_short(name), *map(_percent, row)] for name, row in rates.items()]
    columns = [
        [rate for rate in column if rate is not None]
        for column in zip(*rates.values(), strict=True)
    ]
    rows.append(["**mean**", *(_percent(float(np.mean(column))) for column in columns)])
    rows.append(["**worst**", *(_percent(max(column)) for column in columns)])
    return table(head, rows)


def games(results: Path) -> str:
    """Draw the same for rendered games."""
    return screens(results, GAMES)


def equal_scores(results: Path) -> str:
    """Draw the bytes that each picture needs for some scores, against AVIF's."""
    codecs = _codecs(results)
    head = "picture", *(f"{how}, at {score}" for score in WANTED for how in HOW)
    rows = []
    for name in _common(codecs):
        cells = []
        for score in WANTED:
            least = needed(codecs[ANCHOR], name, score)
            for spec in HOW.values():
                own = needed(codecs[spec], name, score)
                known = own is not None and least is not None
                cells.append(_percent(100 * (own / least - 1)) if known else "-")
        rows.append([_short(name), *cells])
    return table(head, rows)


def needed(codec: Measured, image: str, score: float) -> float | None:
    """Bytes for a score, by lines in log bytes between measured files that none beats.

    None where no measured file reaches the score, or where the smallest one exceeds it: then fewer
    bytes might do, unless it is as good as without loss.
    """
    best: list[tuple[float, float]] = []
    for point in sorted(codec.points, key=lambda p: p.bytes):
        found = point.ssimulacra2 if point.image == image else None
        if found is not None and (not best or found > best[-1][0]):
            best.append((found, float(np.log(point.bytes))))
    scores, logs = zip(*best, strict=True)
    if not scores[0] <= score <= scores[-1]:
        return None
    return float(np.exp(np.interp(score, scores, logs)))


def still_quality(results: Path) -> str:
    """Draw the mean score of drawn screens in AV1, over libavif's quality."""
    found = json.loads((results / "still-quality.json").read_text())
    rows = found["qualities"]
    head = "libavif's quality", *(str(row["quality"]) for row in rows)
    return table(head, [["SSIMULACRA 2", *(f"{row['ssimulacra2']:.1f}" for row in rows)]])


HOW: Final = {"off": OFF, "auto": AUTO}
TABLES: Final[Mapping[str, Callable[[Path], str]]] = {
    "screens": screens,
    "screens-equal": equal_scores,
    "games": games,
    "still-quality": still_quality,
}


def _codecs(results: Path, file: str = FILE) -> dict[str, Measured]:
    return {codec.spec: codec for codec in load(results / file)[1]}


def _common(codecs: Mapping[str, Measured]) -> list[str]:
    """Pictures that all three have been measured on."""
    return sorted(set.intersection(*(set(codecs[s].images()) for s in (OFF, AUTO, ANCHOR))))


def _rate(codec: Measured, anchor: Measured, image: str, score: str) -> float | None:
    found = bd_rate(codec.curve(image, score), anchor.curve(image, score))
    return None if found is None else found.percent


def _short(name: str) -> str:
    return Path(name).stem.rpartition("__")[2]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.0f} %"
