"""What fine-tuning on quantized latents is worth, and what is only more training.

::

    python -m benchmarks.finetuning --weights FIRST.pt --photos PACKED --images KODAK --minutes 60

From the same first-stage weights, for the same number of steps and three seeds, several arms are
trained: the first stage goes on (whole network, or its decoder alone), and the decoder with
rounding, RDOQ, 8 and 32 states in the loop; once with the entropy networks, as the paper does.
The loss is that of the weights' own recipe. Each arm is evaluated on each quantizer's latents in
real bytes, with tables fitted alike: to the same crops, by as many rounds. BD-rates are against the
start with the same quantizer, with 95 % intervals over pictures and seeds.

It works in chunks: a call trains and measures for ``--minutes``, and the next one goes on. The JSON
holds what is finished, and a call with the same JSON does not do that again. Arms that are trained
in part are in ``--work``. Borzechowski et al. (ICIP 2024) report 1 to 2 %.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks import _machine
from benchmarks.finetuning.arms import ARMS, Setting, advance
from benchmarks.finetuning.evaluate import (
    QUANTIZERS,
    Coder,
    Pixels,
    always,
    encoder_digest,
    evaluate,
    kept_in,
    whole_cells,
)
from benchmarks.finetuning.report import markdown, plateau, summary
from benchmarks.measure import find_images, read_pixels
from benchmarks.scores import parse
from trellic.errors import TrellicError
from trellic_training.cli.train import packed_photos
from trellic_training.data.files import sha256_of
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.photo import PhotoModel
from trellic_training.models.weights import load_weights

RESULT = Path("benchmarks/results/finetuning.json")
QUALITIES = (8.0, 22.0, 40.0, 58.0, 76.0, 92.0)


class Bench:
    """One setting in its folder: what is trained, measured and left."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.deadline = time.monotonic() + 60 * options.minutes
        self.start, facts = load_weights(options.weights)
        self.start.float().eval()
        recipe = facts.get("recipe", {})
        lmbda = tuple(recipe.get("lmbda", (0.0006, 0.3)))
        setting = options.steps, options.crop, options.batch, lmbda, options.fit_crops
        loss = recipe.get("distortion", {}), recipe.get("cutouts", 0.0)
        self.setting = Setting(*setting, *loss)
        self.photos = packed_photos(options.photos, options.work, options.crop)
        rng = np.random.default_rng(0)
        self.fit = PackedPhotos(self.photos).crops(rng, options.fit_crops, options.crop)
        stride = self.start.config.hyper_stride
        self.images: dict[str, dict[str, Pixels]] = {
            folder.resolve().name: {
                path.stem: whole_cells(read_pixels(path), stride)
                for path in find_images(folder)[: options.limit]
            }
            for folder in options.images
        }
        self.result = self._earlier()

    def _earlier(self) -> dict[str, Any]:
        """Read what earlier calls left; a JSON is of one setting."""
        own = {
            "weights_sha256": sha256_of(self.options.weights),
            "setting": json.loads(json.dumps(asdict(self.setting))),
            "qualities": list(self.options.quality),
            "quantizers": list(self.options.quantizers),
            "metrics": list(self.options.metrics),
            "images": {folder: list(images) for folder, images in self.images.items()},
        }
        path = self.options.out
        if not path.is_file():
            return {**own, "runs": {}}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {name: found.get(name) for name in own} != own:
            raise SystemExit(f"error: {path} is of another setting; name a new file by --out")
        return {**own, "runs": found["runs"]}

    def run(self) -> bool:
        """Train and measure what is missing; returns whether everything is there."""
        if not self._measured("start", self.start):
            return False
        for seed in self.options.seeds:
            for name in self.options.arms:
                unit = f"{name}-{seed}"
                if unit in self.result["runs"]:
                    continue
                folder = self.options.work / unit
                self.console.print(f"{unit}: training", markup=False)
                paths = self.options.weights, self.photos, folder, self.deadline
                model = advance(ARMS[name], seed, self.setting, *paths)
                if model is None or not self._measured(unit, model):
                    return False
        return True

    def _measured(self, unit: str, model: PhotoModel) -> bool:
        """Measure a model with all quantizers, and write that down; False if the time is up."""
        if unit in self.result["runs"]:
            return True
        shared = encoder_digest(model) == encoder_digest(self.start)
        found: dict[str, dict[str, Any]] = {folder: {} for folder in self.images}
        for quantizer in self.options.quantizers:
            if time.monotonic() >= self.deadline:
                return False
            self.console.print(f"{unit}: quantizer {quantizer}", markup=False)
            coder = Coder(model, quantizer, self.fit)
            for folder, images in self.images.items():
                place = self.options.work / "latents" / folder / quantizer
                kept = kept_in(place) if shared else always
                ladder = self.options.quality, kept, self.options.metrics
                found[folder][quantizer] = evaluate(coder, images, *ladder)
        self.result["runs"][unit] = found
        self.write()
        return True

    def write(self) -> list[dict[str, Any]]:
        """Write what is known, and return its rows; only seeds count whose arms are complete."""
        options = self.options
        runs, folders = self.result["runs"], list(self.images)
        done = [s for s in options.seeds if all(f"{arm}-{s}" in runs for arm in options.arms)]
        known = runs, done, folders, options.quantizers, options.metrics
        rows = summary(*known) if done else []
        head = {
            "benchmark": "finetuning",
            "machine": _machine.describe(("numpy", "torch", "lightning")),
            "paper": "Borzechowski et al., ICIP 2024: 1 to 2 % on Kodak, up to 2.2 % on TecNick",
            "seeds": done,
            **{name: value for name, value in self.result.items() if name != "runs"},
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        part = options.out.with_suffix(".part")
        part.write_text(json.dumps({**head, "rows": rows, "runs": runs}) + "\n", encoding="utf-8")
        part.replace(options.out)
        return rows

    def report(self) -> None:
        """Write and print what is known."""
        options, rows = self.options, self.write()
        if rows:
            self.console.print(markdown(rows, options.quantizers), markup=False, highlight=False)
            self.console.print(plateau(rows), markup=False, highlight=False)
        self.console.print(f"wrote {options.out}", markup=False, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Go on for a time, then report; exit code 3 if something is still missing."""
    options = _parser().parse_args(arguments)
    console = Console()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    try:
        bench = Bench(options, console)
        complete = bench.run()
    except (TrellicError, FileNotFoundError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, highlight=False)
        return 2
    bench.report()
    if not complete:
        console.print("the time is used up: run the same command again to go on")
    return 0 if complete else 3


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetuning",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", type=Path, required=True, help="first-stage weights (first-stage.pt)")
    add("--photos", type=Path, required=True, metavar="DIR", help="photos to train on")
    add("--images", type=Path, action="append", required=True, metavar="DIR", help="test photos")
    add("--work", type=Path, default=Path("runs/finetuning"), metavar="DIR", help="checkpoints")
    add("--minutes", type=float, default=60, help="of this call (default 60)")
    add("--steps", type=int, default=3000, help="of each arm (default 3000)")
    add("--seeds", type=_numbers, default=[1, 2, 3], help="default 1,2,3")
    add("--arms", type=_names(ARMS), default=list(ARMS), help=f"of {', '.join(ARMS)}")
    add("--quantizers", type=_names(QUANTIZERS), default=list(QUANTIZERS), help="evaluated")
    add("--metrics", type=parse, default=("psnr",), help="e.g. psnr,ssimulacra2 (default psnr)")
    add("--quality", type=_decimals, default=list(QUALITIES), help="the ladder")
    add("--crop", type=int, default=256, help="pixels a side (default 256)")
    add("--batch", type=int, default=6, help="crops a step (default 6)")
    add("--fit-crops", type=int, default=48, help="that tables are fitted to (default 48)")
    add("--limit", type=int, metavar="N", help="only the first N photos of each folder")
    add("--threads", type=int, default=0, help="0: as torch chooses")
    add("--out", type=Path, default=RESULT, metavar="JSON")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _decimals(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _names(known: Sequence[str] | dict[str, Any]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"{unknown.pop()!r} is none of {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
