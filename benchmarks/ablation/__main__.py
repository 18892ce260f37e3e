"""What each choice of the recipe is worth, at equal decoder cost and equal training time.

::

    python -m benchmarks.ablation --photos DIR --minutes 10 [--rows NAME,NAME] [--weights FILE]

Every row trains the photo recipe from its start (or from trained weights, where what a row adds
begins as nothing) with one thing changed, for as many minutes of
processor time on one thread, so that a busy machine does not matter. Validation photos of the
training set, 256x256 from their middle, are coded with the averaged weights at six qualities;
bits are the model's own estimate, with plain rounding. BD-rate is against the unchanged recipe
(negative: fewer bits). The row with another seed tells how much of a difference is chance. Rows
that the JSON already has for the same minutes, recipe and start are kept, so a run may be broken
off and go on; several runs may add rows to one file.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import _machine
from benchmarks.ablation.rows import BASE, CROPS, END, ROWS, Row
from benchmarks.bdrate import Curve, bd_rate
from benchmarks.speed_tables import table
from trellic_training.cli.train import packed_photos, shipped_recipe
from trellic_training.data.photos import PackedPhotos
from trellic_training.recipes.codec import Recipe, load_recipe
from trellic_training.stages.end_to_end import EndToEnd, train
from trellic_training.stages.stage import Clock
from trellic_training.stages.validation import QUALITIES, SIDE, validation_crops

from .rounds import coded_again, coded_once

RESULT = Path("benchmarks/results/ablation.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, write JSON, print the table."""
    options = _parser().parse_args(arguments)
    console = Console()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    chosen = [r for r in ROWS if not options.rows or r.name in options.rows.split(",")]
    packed = packed_photos(options.photos, options.pack, SIDE)
    setting = _setting(options.minutes, options.weights, options.crops)
    result = _earlier(options.out, setting)
    for row in chosen:
        if row.name not in result["rows"]:
            console.print(f"{row.topic} {row.name}: {options.minutes:g} minutes", markup=False)
            found = measure(row, packed, options.minutes, options.weights, options.crops)
            result = _earlier(options.out, setting)  # another run may have added rows
            result["rows"][row.name] = found
            result["machine"] = _machine.describe(("torch", "lightning", "pytorch_optimizer"))
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(markdown(result), markup=False, highlight=False)
    return 0


def measure(
    row: Row, packed: Path, minutes: float, weights: Path | None, count: int | None = None
) -> dict[str, Any]:
    """Train one row and code validation photos: steps, bpp and PSNR by quality, PSNR by round."""
    recipe = of_row(row, trained=weights is not None)
    kept: list[EndToEnd] = []

    def stage(recipe: Recipe, clock: Clock) -> EndToEnd:
        kept.append(row.stage(recipe, clock))
        return kept[0]

    with tempfile.TemporaryDirectory() as folder:
        now = time.process_time
        settings: dict[str, Any] = {"stage": stage, "now": now, "resume": weights}
        train(recipe, packed, Path(folder), minutes, progress=False, **settings)
    crops = validation_crops(PackedPhotos(packed), count)
    model = kept[0].average.eval()
    points = [coded_once(model, crops, quality) for quality in QUALITIES]
    bpp, psnr = ([point[i] for point in points] for i in range(2))
    again = coded_again(model, crops)
    return {"topic": row.topic, "steps": kept[0].warm, "bpp": bpp, "psnr": psnr, "rounds": again}


def of_row(row: Row, *, trained: bool = False) -> Recipe:
    """Return the photo recipe with a row's changes; its end, for a model that is trained."""
    fields = load_recipe(shipped_recipe(Path("photo"))).model_dump(mode="json")
    fields |= END if trained else {"phases": CROPS}
    fields |= row.recipe
    fields["model"] = {**fields["model"], **row.model}
    return Recipe.model_validate(fields)


def markdown(result: dict[str, Any]) -> str:
    """Return the table of the rows that are there."""
    rows = result["rows"]
    if BASE not in rows:
        return "The unchanged recipe is missing: no BD-rates."
    anchor = _curve(rows[BASE])
    lines = []
    for name, row in rows.items():
        found = bd_rate(_curve(row), anchor)
        rate = f"{found.percent:+.1f} %" if found else "-"
        lines.append([row["topic"] or "-", name, f"{row['steps']:,}", rate])
    return table(("topic", "changed", "steps", "BD-rate"), lines)


def _curve(row: dict[str, Any]) -> Curve:
    return Curve(np.array(row["bpp"]), np.array(row["psnr"]))


def _setting(minutes: float, weights: Path | None, count: int | None) -> dict[str, Any]:
    """What rows must share to be compared."""
    start = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    base = of_row(Row("", BASE), trained=weights is not None)
    recipe = {"recipe": base.model_dump(mode="json")}
    return {"minutes": minutes, "weights": start, "crops": count, **recipe}


def _earlier(path: Path, setting: dict[str, Any]) -> dict[str, Any]:
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if setting.items() <= found.items():
            return found
    return {"benchmark": "ablation", **setting, "machine": {}, "rows": {}}


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, metavar="DIR", help="training photos, or packed ones")
    add("--pack", type=Path, default=Path(".data"), metavar="DIR", help="where to pack them")
    add("--minutes", type=float, default=10.0, help="processor time of each row (default 10)")
    add("--rows", metavar="NAME,NAME", help="only these (default: all)")
    add("--weights", type=Path, metavar="FILE", help="start from these weights (photo.pt)")
    add("--crops", type=int, metavar="N", help="validation photos (default: all)")
    add("--out", type=Path, default=RESULT, metavar="JSON", help=f"default {RESULT}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
