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
off and go on.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks import _machine
from benchmarks.ablation.rows import CROPS, END, ROWS, SMALL, Row
from trellic_training.cli.train import packed_photos, shipped_recipe
from trellic_training.data.photos import PackedPhotos
from trellic_training.recipes.codec import Recipe, load_recipe
from trellic_training.stages.end_to_end import EndToEnd, train
from trellic_training.stages.stage import Clock
from trellic_training.stages.validation import QUALITIES, SIDE, coded, validation_crops

from .report import BASE, markdown
from .rounds import coded_again

RESULT = Path("benchmarks/results/ablation.json")


@dataclass(frozen=True)
class Setting:
    """What rows must share to be compared.

    Attributes
    ----------
    minutes : processor time of each
    weights : to start from, if not anew
    crops : validation photos; None for all
    small : the small model in the place of the recipe's
    """

    minutes: float
    weights: Path | None = None
    crops: int | None = None
    small: bool = False

    def recipe(self, row: Row) -> Recipe:
        """Return the recipe of a row."""
        return of_row(row, trained=self.weights is not None, small=self.small)

    def record(self) -> dict[str, Any]:
        """Return what the JSON says of it."""
        weights = self.weights
        start = None if weights is None else hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        base = self.recipe(Row("", BASE)).model_dump(mode="json")
        return {"minutes": self.minutes, "weights": start, "crops": self.crops, "recipe": base}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, write JSON, print the table."""
    options = _parser().parse_args(arguments)
    console = Console()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    packed = packed_photos(options.photos, options.pack, SIDE)
    setting = Setting(options.minutes, options.weights, options.crops, options.small)
    result = _earlier(options.out, setting.record())
    chosen = [r for r in ROWS if not options.rows or r.name in options.rows.split(",")]
    missing = [row for row in chosen if row.name not in result["rows"]]
    console.print(f"{len(missing)} rows of {options.minutes:g} minutes", markup=False)
    with ProcessPoolExecutor(options.jobs, get_context("fork")) as pool:
        running = {pool.submit(measure, row.name, packed, setting): row for row in missing}
        for done in as_completed(running):
            row = running[done]
            result["rows"][row.name] = done.result()
            console.print(f"{row.topic} {row.name}", markup=False)
            result["machine"] = _machine.describe(("torch", "lightning", "pytorch_optimizer"))
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    console.print(markdown(result), markup=False, highlight=False)
    return 0


def measure(name: str, packed: Path, setting: Setting) -> dict[str, Any]:
    """Train one row and code validation photos: steps, bpp and PSNR by quality, PSNR by round."""
    row = next(row for row in ROWS if row.name == name)
    kept: list[EndToEnd] = []

    def stage(recipe: Recipe, clock: Clock) -> EndToEnd:
        kept.append(row.stage(recipe, clock))
        return kept[0]

    with tempfile.TemporaryDirectory() as folder:
        now = time.process_time
        start: dict[str, Any] = {"stage": stage, "now": now, "resume": setting.weights}
        recipe = setting.recipe(row)
        train(recipe, packed, Path(folder), setting.minutes, progress=False, **start)
    crops = validation_crops(PackedPhotos(packed), setting.crops)
    model = kept[0].average.eval()
    points = [coded(model, crops, quality) for quality in QUALITIES]
    found = {name: [point[name] for point in points] for name in ("bpp", "psnr")}
    again = coded_again(model, crops)
    return {"topic": row.topic, "steps": kept[0].warm, **found, "rounds": again}


def of_row(row: Row, *, trained: bool = False, small: bool = False) -> Recipe:
    """Return the photo recipe with a row's changes; its end, for a model that is trained."""
    fields = load_recipe(shipped_recipe(Path("photo"))).model_dump(mode="json")
    model = fields["model"]
    fields |= END if trained else {"phases": CROPS}
    fields |= SMALL if small else {}
    fields |= row.recipe
    fields["model"] = row.changed(model | SMALL["model"] if small else model)
    return Recipe.model_validate(fields)


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
    add("--small", action="store_true", help="a small model, which says more of few minutes")
    add("--jobs", type=int, default=1, metavar="N", help="rows at once (default 1)")
    add("--out", type=Path, default=RESULT, metavar="JSON", help=f"default {RESULT}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
