"""Tables of what fine-tuning and training for the eye gave, from real files.

They stand in docs/fine-tuning.md and in docs/experiments (eye.md, drawn-screens.md), and come from
quantizers-kodak.json, rd-validation-*.json, rd-drawn-*.json and finetuning.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks import rd_tables
from benchmarks.finetuning.arms import ARMS
from benchmarks.quantizers import label
from benchmarks.runs import Measured
from benchmarks.scores import SCORES
from benchmarks.speed_tables import table

EYE_SCORES: Final = ("psnr", "ms_ssim", "ssimulacra2", "cvvdp", "haarpsi", "fsim")
RUNS: Final = {
    "photo": "`photo-psnr`",
    "eye": "first run",
    "first-stage": "second run, first stage",
    "fine-tuned": "second run, fine-tuned: `photo`",
}
"""Names of rd-validation-NAME.json, and what the rows are called."""
DRAWN: Final = {"first": "as they ship", "mixed": "859 steps", "mixed2": "507 more"}
DRAWN_ON: Final = {"validation": "photos", "screens": "screens"}
"""Names of rd-drawn-RUN-IMAGES.json, and what rows and columns are called."""
PAPER: Final = (
    ("*Borzechowski et al. 2024, Kodak*", "", "", "*-1 to -2*"),
    ("*the same, TecNick*", "", "", "*up to -2.2*"),
)


def quantizers(results: Path) -> str:
    """Draw each quantizer before and after fine-tuning, against plain rounding before."""
    path = results / "quantizers-kodak.json"
    found = json.loads(path.read_text(encoding="utf-8"))["bd_rates"]
    head = ("quantizer", "before, against rounding", "after, against rounding before")
    rows = [(label(row["quantizer"]), *_percents(row)) for row in found]
    return table((*head, "fine-tuning alone"), [*rows, *PAPER])


def _percents(row: Mapping[str, Any]) -> list[str]:
    return [f"{row[kind]['percent']:+.1f}" for kind in ("before", "after", "gain")]


def runs(results: Path) -> dict[str, Measured]:
    """Return our codec of each run on the validation photos, and AVIF."""
    found = {}
    for name in RUNS:
        _, codecs = rd_tables.load(results / f"rd-validation-{name}.json")
        for codec in codecs:
            found["avif" if codec.spec == "avif" else name] = codec
    return found


def against(results: Path, pairs: Mapping[str, tuple[str, str]]) -> str:
    """Draw BD-rates on the validation photos: a row for each pair of tested run and anchor."""
    codecs, how = runs(results), rd_tables.How("avif")
    rows = []
    for name, (tested, anchor) in pairs.items():
        cells = [rd_tables.percent(codecs[tested], codecs[anchor], s, how) for s in EYE_SCORES]
        rows.append([name, *("-" if cell is None else f"{cell:+.1f}" for cell in cells)])
    return table(["", *(SCORES[score].label for score in EYE_SCORES)], rows)


def tuned(results: Path) -> str:
    """Draw the fine-tuned decoder against the first stage's, and both against AVIF."""
    pairs = {
        "fine-tuning alone": ("fine-tuned", "first-stage"),
        "first stage, against AVIF": ("first-stage", "avif"),
        "fine-tuned, against AVIF": ("fine-tuned", "avif"),
    }
    return against(results, pairs)


def eye_runs(*names: str) -> Callable[[Path], str]:
    """Return what draws runs of training for the eye against AVIF."""
    pairs = {RUNS[name]: (name, "avif") for name in names}
    return lambda results: against(results, pairs)


def drawn(results: Path) -> str:
    """Draw what a quarter of drawn screens in training does, against AVIF, on the mean curves."""
    places = [(images, score) for images in DRAWN_ON for score in ("psnr", "ssimulacra2")]
    rows = []
    for run, name in DRAWN.items():
        percent = {}
        for images in DRAWN_ON:
            path = results / f"rd-drawn-{run}-{images}.json"
            for row in json.loads(path.read_text(encoding="utf-8"))["bd_rates"]:
                percent[images, row["score"]] = row["mean_curve"]["percent"]
        rows.append([name, *(f"{percent[place]:+.1f}" for place in places)])
    head = [f"{DRAWN_ON[images]}, {SCORES[score].label}" for images, score in places]
    return table(["weights", *head], rows)


def control(results: Path) -> str:
    """Draw what each arm of the control gains, on latents of 8 states and on rounded ones."""
    found = json.loads((results / "finetuning.json").read_text(encoding="utf-8"))
    places = [(folder, metric) for folder in found["images"] for metric in found["metrics"]]
    parts = []
    for quantizer, name in (("8", "8 states"), ("round", "plain rounding")):
        cells = {
            (row["arm"], row["folder"], row["metric"]): f"{row['percent']:+.1f}"
            + " ({:+.1f} to {:+.1f})".format(*row["interval"])
            for row in found["rows"]
            if row["quantizer"] == quantizer
        }
        trained = [arm for arm in ARMS if any(arm == key[0] for key in cells)]
        rows = [[f"`{arm}`", *(cells[arm, *place] for place in places)] for arm in trained]
        head = [f"{folder}, {SCORES[metric].label}" for folder, metric in places]
        parts.append(f"Latents of {name}:\n\n" + table(("trained", *head), rows))
    seeds, machine = len(found["seeds"]), found["machine"]
    parts.append(f"*Seeds: {seeds}; {machine['date'][:10]}, {machine['processor']}.*")
    return "\n\n".join(parts)


TABLES: Final[dict[str, Callable[[Path], str]]] = {
    "quantizers": quantizers,
    "tuned-eye": tuned,
    "control": control,
    "eye-first": eye_runs("photo", "eye"),
    "eye-runs": eye_runs(*RUNS),
    "drawn-screens": drawn,
}
