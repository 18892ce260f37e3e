"""Tables of aerial pictures: against JPEG 2000, an h_a that learned alone, training in stages.

From runs of `benchmarks.rd`. Each picture is compared at the bits per pixel of the anchor's own
points, with lines in log bits between the measured points of the other codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bdrate import bd_rate
from benchmarks.bootstrap import mean_interval
from benchmarks.runs import Measured, load
from benchmarks.speed_tables import table

AERIAL: Final = "rd-remote-sensing.json"
JPEG2000: Final = "jp2"
HYPER: Final = {"aerial": AERIAL, "gb82": "rd-hyper-gb82.json"}
ARMS: Final = {"plain": "h_a as it is", "everywhere": "with attention to all positions"}
STAGES: Final = "rd-aerial-stages.json"
STAGED: Final = {
    "tables": "nothing but the tables, fitted to the same eight pictures",
    "aerial-false": "in three stages",
    "aerial-true": "in three stages, with attention to all positions",
}
SCORES: Final = {"psnr": "PSNR", "ms_ssim": "MS-SSIM", "ssimulacra2": "SSIMULACRA 2"}
NONE: Final = "-"  # fewer than three quarters of the pictures reach the rate
OLDER: Final = "rd-aerial_mixed.json"  # when the model photo was what photo-psnr is now
OURS: Final = {AERIAL: "photo", OLDER: "photo-psnr"}


def decibels_more(ours: Measured, anchor: Measured, image: str, bpp: float) -> float | None:
    """Return how much more PSNR a picture has than the anchor's, at one rate of the anchor.

    Parameters
    ----------
    bpp : the anchor's own setting, a rate that its file has about

    Returns
    -------
    dB, or None where the measured points do not reach the rate
    """
    (theirs,) = (p for p in anchor.points if p.image == image and p.quality == bpp)
    own = sorted((p.bpp, p.psnr) for p in ours.points if p.image == image)
    rates = [rate for rate, _ in own]
    if not rates[0] <= theirs.bpp <= rates[-1]:
        return None
    at = np.interp(np.log(theirs.bpp), np.log(rates), [psnr for _, psnr in own])
    return float(at - theirs.psnr)


def against_jpeg2000(results: Path) -> str:
    """Return the table: a row for each rate of JPEG 2000, means over pictures in dB."""
    codecs = {name: {c.spec: c for c in load(results / name)[1]} for name in OURS}
    anchor, rows = codecs[AERIAL][JPEG2000], []
    for bpp in sorted({point.quality for point in anchor.points}):
        cells = [f"{bpp:g}"]
        theirs = [point.psnr for point in anchor.points if point.quality == bpp]
        cells.append(f"{np.mean(theirs):.1f}")
        for file in OURS:
            ours = codecs[file]["trellic"]
            found = [decibels_more(ours, anchor, name, bpp) for name in anchor.images()]
            cells.append(_cell([value for value in found if value is not None], len(found)))
        if cells[2:] != [NONE] * len(OURS):
            rows.append(cells)
    return table(("bits a pixel", "JPEG 2000, dB", *OURS.values()), rows)


def _cell(gains: list[float], pictures: int) -> str:
    interval = mean_interval(gains)
    if interval is None or 4 * len(gains) < 3 * pictures:
        return NONE
    some = "" if len(gains) == pictures else f", {len(gains)} pictures"
    return f"{np.mean(gains):+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f}{some})"


def learned_alone(results: Path) -> str:
    """Return the table of both h_a against the shipped one: bytes at equal PSNR in files."""
    rows = []
    for name, file in HYPER.items():
        codecs = {codec.spec: codec for codec in load(results / file)[1]}
        before = codecs["trellic"]
        for arm, text in ARMS.items():
            after = codecs[f"trellic:model={arm}.zip"]
            pairs = [(after.curve(image), before.curve(image)) for image in after.images()]
            found = [bd.percent for bd in (bd_rate(*pair) for pair in pairs) if bd is not None]
            low, high = mean_interval(found) or (0.0, 0.0)
            mean = f"{np.mean(found):+.1f} % ({low:+.1f} to {high:+.1f})"
            rows.append([f"{name} ({len(found)})", text, mean])
    return table(("pictures", "trained", "bytes at equal PSNR"), rows)


def in_stages(results: Path) -> str:
    """Return the table of models that learned aerial pictures: bytes at equal score in files."""
    found = {
        (one["codec"], one["anchor"], one["score"]): one
        for one in json.loads((results / STAGES).read_text(encoding="utf-8"))["bd_rates"]
    }
    rows = []
    for arm, text in STAGED.items():
        ours = [found[f"trellic:model={arm}.zip", "trellic", score] for score in SCORES]
        cells = [
            f"{o['per_image']:+.1f} % ({o['ci95'][0]:+.1f} to {o['ci95'][1]:+.1f})" for o in ours
        ]
        rows.append([text, *cells])
    return table(("trained", *SCORES.values()), rows)


TABLES: Final[Mapping[str, Callable[[Path], str]]] = {
    "aerial-jpeg2000": against_jpeg2000,
    "hyper-alone": learned_alone,
    "aerial-stages": in_stages,
}
