"""Train h_a of the model that ships alone, as it is and with attention to all positions.

::

    python -m benchmarks.hyper --photos DIR --minutes 6 --out DIR

Writes plain.zip and everywhere.zip to the folder --out: the shipped model with another h_a, and the
same stream id, tables and decoders. ``python -m benchmarks.rd`` codes pictures with them
(``trellic:model=plain.zip``). Both learn by the recipe photo-hyper, for the same processor time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from trellic.model.bundle import Bundle, find
from trellic_export.bundle import digests, members, write_bundle
from trellic_export.graphs import hyper_encoder_graph
from trellic_export.macs import macs_per_pixel
from trellic_training.cli.train import packed_photos, shipped_recipe
from trellic_training.models.photo import PhotoModel
from trellic_training.recipes.codec import Recipe, load_recipe
from trellic_training.stages.encoder_alone import EncoderAlone
from trellic_training.stages.end_to_end import train
from trellic_training.stages.stage import Clock

WEIGHTS = Path("training/checkpoints/photo.pt")
ARMS = {"plain": False, "everywhere": True}  # names of the bundles


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and write bundles."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    recipe = load_recipe(shipped_recipe(Path("photo-hyper")))
    packed = packed_photos(options.photos, options.out)
    shipped = Bundle(find("photo"))
    for name, everywhere in ARMS.items():
        settings = with_attention(recipe, everywhere=everywhere)
        model, steps = trained(settings, packed, options.weights, options.minutes)
        write_with(shipped, model, options.out / f"{name}.zip")
        Console().print(f"{name}.zip: {steps} steps in {options.minutes:g} minutes", markup=False)
    return 0


def with_attention(recipe: Recipe, *, everywhere: bool) -> Recipe:
    """Return a recipe whose h_a has attention to all positions, or has none."""
    model = recipe.model.model_copy(update={"nonlocal_hyper": everywhere})
    return recipe.model_copy(update={"model": model})


def trained(recipe: Recipe, packed: Path, weights: Path, minutes: float) -> tuple[PhotoModel, int]:
    """Return the averaged model after some processor time, and how many steps that were."""
    kept: list[EncoderAlone] = []

    def stage(settings: Recipe, clock: Clock) -> EncoderAlone:
        kept.append(EncoderAlone(settings, clock))
        return kept[0]

    with tempfile.TemporaryDirectory() as out:
        train(
            recipe,
            packed,
            Path(out),
            minutes,
            resume=weights,
            progress=False,
            stage=stage,
            now=time.process_time,
        )
    return kept[0].average.eval(), kept[0].warm


def write_with(shipped: Bundle, model: PhotoModel, out: Path) -> None:
    """Write a bundle with the h_a of another model; all else stays, byte for byte."""
    manifest, stride = shipped.manifest, model.config.stride
    before = manifest.hyper_encoder
    kmac = round(macs_per_pixel(model.h_a, stride) / 1000, 3)
    made = {"kmac_per_pixel": kmac, "halo": model.halos[1], "int8": None, "fp16": None}
    files = members(shipped, without={before.file, *before.variants.values()})
    files[before.file] = hyper_encoder_graph(model.h_a)
    hyper = before.model_copy(update=made)
    changed = {"hyper_encoder": hyper, "sha256": digests(files)}
    write_bundle(out, manifest.model_copy(update=changed), files)


def _parser() -> argparse.ArgumentParser:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hyper",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, metavar="DIR", help="training photos, or packed ones")
    add("--weights", type=Path, default=WEIGHTS, metavar="FILE", help=f"default {WEIGHTS}")
    add("--minutes", type=float, default=6.0, help="processor time of each (default 6)")
    add("--out", type=Path, required=True, metavar="DIR", help="where the bundles go")
    return parser


if __name__ == "__main__":
    sys.exit(main())
