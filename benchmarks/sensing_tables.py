"""The table of aerial pictures: PSNR at equal bits, against JPEG 2000.

From a run of `benchmarks.rd`. Each picture is compared at the bits per pixel of the anchor's own
points, with lines in log bits between the measured points of the other codec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.bootstrap import mean_interval
from benchmarks.runs import Measured, load
from benchmarks.speed_tables import table

AERIAL: Final = "rd-remote-sensing.json"
JPEG2000: Final = "jp2"
OURS: Final = {"trellic": "photo", "trellic:model=photo-psnr": "photo-psnr"}


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
    codecs = {codec.spec: codec for codec in load(results / AERIAL)[1]}
    anchor, rows = codecs[JPEG2000], []
    for bpp in sorted({point.quality for point in anchor.points}):
        cells = [f"{bpp:g}"]
        theirs = [point.psnr for point in anchor.points if point.quality == bpp]
        cells.append(f"{np.mean(theirs):.1f}")
        for spec in OURS:
            found = [decibels_more(codecs[spec], anchor, name, bpp) for name in anchor.images()]
            kept = [value for value in found if value is not None]
            if len(kept) < len(found):
                cells.append(f"- ({len(kept)} of {len(found)} pictures)")
                continue
            low, high = mean_interval(kept)
            cells.append(f"{np.mean(kept):+.2f} ({low:+.2f} to {high:+.2f})")
        rows.append(cells)
    return table(("bits a pixel", "JPEG 2000, dB", *OURS.values()), rows)


TABLES: Final[Mapping[str, Callable[[Path], str]]] = {"aerial-jpeg2000": against_jpeg2000}
