"""What re-using the encoder of `photo` costs a decoder for perception, beside training end to end.

::

    python -m benchmarks.universal_photo --photos DIR --images DIR

From the shipped weights of `photo`, the whole network is trained for the mixture of measures of its
recipe, and once more with a critic's verdict beside it (`Perception`). Then decoders for each of
the two targets are trained on the frozen encoder of the other, and a control on the frozen encoder
of its own. All take equally many steps, and all decoders start from the same g_s. Each model codes
the pictures at qualities at which it spends equal bits, with plain rounding; bits are the model's
own estimate.

What is finished lies in ``--work``, and is not made again. The JSON has what is finished.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks import _machine, scores
from benchmarks.bootstrap import mean_interval
from benchmarks.codecs import Pixels
from benchmarks.measure import describe_image, find_images, read_pixels, spread
from benchmarks.reuse import Trained
from benchmarks.runs import lines
from benchmarks.speed_tables import table
from benchmarks.universal_colour.measure import coded, qualities_at
from benchmarks.universal_colour.plan import Run
from trellic.errors import TrellicError
from trellic_training.cli.train import packed_photos, shipped_recipe, use_threads
from trellic_training.data.files import sha256_of
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import load_weights
from trellic_training.recipes.codec import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "universal-photo.json"
SHIPPED = Path("training") / "checkpoints" / "photo.pt"
MIXTURE, PERCEPTION = "mixture", "perception"
RUNS = (
    Run(MIXTURE),
    Run(PERCEPTION),
    Run(PERCEPTION, MIXTURE),
    Run(MIXTURE, PERCEPTION),
    Run(MIXTURE, MIXTURE),
)
RATES = (0.2, 0.4, 0.8)  # bit/pixel
GRID = (1.0, 10.0, 20.0, 35.0, 50.0, 65.0, 80.0, 92.0)  # qualities at which bits are looked up
LOOKED_UP = 8  # pictures
CROP, BATCH, LEARNING_RATE = 192, 4, 2e-4
DIGITS = {"psnr": 2, "ssimulacra2": 1, "flip": 3, "sliced_wasserstein": 1}  # shown
METRICS = tuple(DIGITS)
Float64 = npt.NDArray[np.float64]
Row = dict[str, Any]


def recipe_of(target: str, lambda_p: float, steps: int) -> Recipe:
    """Return the recipe of `photo`, `photo-eye`, with or without perception, for so many steps."""
    changed: Row = {
        "name": target,
        "learning_rate": LEARNING_RATE,
        "warmup_steps": max(1, steps // 20),
        "decay_from": 0.5,
        "perception": {"lambda_p": lambda_p} if target == PERCEPTION else None,
        "phases": [{"until": 1.0, "crop": CROP, "batch": BATCH}],
    }
    base = load_recipe(shipped_recipe(Path("photo-eye")))
    return Recipe.model_validate(base.model_dump() | changed)


@dataclass(frozen=True)
class Work(Trained):
    """The folder of finished models.

    Attributes
    ----------
    lambda_p : weight of the critic's verdict, in bits per pixel
    """

    lambda_p: float

    def model(self, run: Run) -> Path:
        """Return the file of a model, trained first if there is none of the same settings."""
        recipe = recipe_of(run.target, self.lambda_p, self.steps)
        start = self.shipped if run.encoder is None else self.model(Run(run.encoder))
        facts = {"steps": self.steps, "start": sha256_of(start)}
        setting = {"recipe": recipe.model_dump(mode="json"), **facts}
        return self.kept(run.name, recipe, start, setting, alone=run.encoder is not None)


def rows_of(model: PhotoModel, pictures: Sequence[Pixels]) -> list[Row]:
    """Return a row for each rate: quality, mean bits, and each measure of each picture."""
    few = spread(pictures, LOOKED_UP)
    rows = []
    qualities = qualities_at(RATES, GRID, lambda quality: _mean_bpp(model, few, quality))
    for rate, quality in zip(RATES, qualities, strict=True):
        bpp, found = [], []
        for picture in track(pictures, f"{rate:g} bit/pixel", transient=True):
            made = coded(model, picture[None], quality)
            bpp.append(made.bpp)
            found.append([scores.SCORES[name].compute(picture, made.pixels[0]) for name in METRICS])
        measures = dict(zip(METRICS, map(list, zip(*found, strict=True)), strict=True))
        rows.append({"rate": rate, "quality": quality, "bpp": float(np.mean(bpp)), **measures})
    return rows


def _mean_bpp(model: PhotoModel, pictures: Sequence[Pixels], quality: float) -> float:
    return float(np.mean([coded(model, picture[None], quality).bpp for picture in pictures]))


def markdown(record: Mapping[str, Any]) -> str:
    """Draw the models at each rate, decoders on encoders that stay against those end to end."""
    head = ["bit/pixel", "encoder trained for", "decoder trained for"]
    head += [scores.SCORES[name].label for name in METRICS]
    head += ["extra MSE", "extra sliced W"]
    rows = sorted(record["models"], key=lambda row: float(row["rate"]))
    whole = {(row["target"], row["rate"]): row for row in rows if row["encoder"] is None}
    cells = []
    for row in rows:
        means = (f"{np.mean(row[name]):.{digits}f}" for name, digits in DIGITS.items())
        twin = None if row["encoder"] is None else whole[row["target"], row["rate"]]
        encoder = "the same, end to end" if twin is None else row["encoder"]
        extra = [_more(of, row, twin) if twin else "" for of in (_errors, _patches)]
        cells.append((f"{row['bpp']:.2f}", encoder, row["target"], *means, *extra))
    return table(head, cells)


def _errors(row: Row) -> Float64:
    return np.asarray(10.0 ** (-np.array(row["psnr"]) / 10))


def _patches(row: Row) -> Float64:
    return np.array(row["sliced_wasserstein"], np.float64)


def _more(values: Callable[[Row], Float64], row: Row, twin: Row) -> str:
    """Return the mean share that pictures have more than by the twin, with its 95 % interval."""
    more = list(100 * (values(row) / values(twin) - 1))
    low, high = mean_interval(more) or (np.nan, np.nan)
    return f"{np.mean(more):+.1f} % ({low:+.1f} to {high:+.1f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    use_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    try:
        paths = [path for folder in options.images for path in find_images(folder)]
        pictures = [read_pixels(path) for path in paths]
        photos = packed_photos(options.photos, options.work, CROP)
        work = Work(options.work, photos, options.weights, options.steps, options.lambda_p)
        models: list[Row] = []
        for run in RUNS:
            console.print(f"model {run.name}")
            model = load_weights(work.model(run))[0].float().eval()
            head = {"target": run.target, "encoder": run.encoder}
            models += [head | row for row in rows_of(model, pictures)]
            record = {
                "benchmark": "universal_photo",
                "machine": _machine.describe(("numpy", "torch", "lightning")),
                "steps": options.steps,
                "lambda_p": options.lambda_p,
                "started_from": sha256_of(options.weights),
                "images": [describe_image(path) for path in paths],
                "models": models,
            }
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(lines(record) + "\n", encoding="utf-8")
    except (TrellicError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(markdown(record))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.universal_photo", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, metavar="DIR", help="photos to train on")
    add("--images", type=Path, nargs="+", required=True, metavar="DIR", help="pictures to code")
    add("--weights", type=Path, default=SHIPPED, help="of photo, to start from")
    add("--steps", type=int, default=1000, help="of each model")
    add("--lambda-p", type=float, default=0.3, help="weight of perception")
    add("--work", type=Path, default=Path("runs/universal-photo"), help="what is finished")
    add("--out", type=Path, default=RESULT)
    add("--threads", type=int, default=0, help="of torch; 0 lets torch choose")
    return parser


if __name__ == "__main__":
    sys.exit(main())
