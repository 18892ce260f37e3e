"""The table of pictures that are no photos: one row for each folder that was measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.bdrate import bd_rate
from benchmarks.labels import label
from benchmarks.runs import Measured, compare, load
from benchmarks.speed_tables import table

OURS = "trellic"
ANCHORS = ("avif", "avif:tune=psnr", "webp", "jpeg", "jxl")
DOMAINS: Final = {
    "aerial_mixed": "aerial",
    "medical_bccd": "microscopy of blood",
    "game3d_godot": "rendered games",
    "frames_of_one_game": "frames of one game",
    "screen-content": "screens",
}


def domains(results: Path) -> str:
    """Draw BD-rates of our codec by PSNR, means over pictures, and the worst picture of each."""
    head = ("pictures", "number", *(f"vs {label(name)}" for name in ANCHORS), "worst, vs AVIF")
    rows = []
    for name, what in DOMAINS.items():
        path = results / f"rd-{name}.json"
        if path.is_file():
            rows.append(_row(what, {codec.spec: codec for codec in load(path)[1]}))
    return table(head, rows)


def _row(what: str, codecs: Mapping[str, Measured]) -> list[str]:
    ours = codecs[OURS]
    cells = [what, str(len(ours.images()))]
    for name in ANCHORS:
        found = compare(ours, codecs[name], None).per_image
        cells.append("-" if found is None else f"{found:+.0f}")
    return [*cells, _worst(ours, codecs[ANCHORS[0]])]


def _worst(ours: Measured, anchor: Measured) -> str:
    rates = {}
    for image in ours.images():
        found = bd_rate(ours.curve(image), anchor.curve(image))
        if found is not None:
            rates[image] = found.percent
    if not rates:
        return "-"
    image = max(rates, key=lambda name: rates[name])
    return f"{rates[image]:+.0f} ({Path(image).stem.rpartition('__')[2]})"
