"""``trellic train``: what the command line of the runtime hands over to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from trellic.errors import BadParameter
from trellic_training.data.files import sha256_of
from trellic_training.data.photos import MIN_SIDE, PackedPhotos, pack
from trellic_training.recipes.codec import kind_of, load_recipe
from trellic_training.stages.end_to_end import train
from trellic_training.stages.keeping import WeightsFile
from trellic_training.stages.learning_curve import LearningCurve
from trellic_training.stages.stopping import Interrupted

CURVE_EVERY = 500  # steps
RECIPES = Path(__file__).parents[1] / "recipes"
app = typer.Typer(add_completion=False, help="Train a codec from a recipe.")


@app.command()
def train_command(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, or the name of a shipped one")],
    photos: Annotated[
        Path,
        typer.Option(
            "--photos", "--data", help="folder of photos, packed photos, or MNIST's files"
        ),
    ],
    out: Annotated[Path, typer.Option(help="folder for checkpoints, weights and logs")],
    minutes: Annotated[float, typer.Option(min=0.01, help="time budget")] = 60,
    resume: Annotated[Path | None, typer.Option(help="checkpoint (.ckpt) or weights (.pt)")] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: as torch chooses")] = 0,
) -> None:
    """Train end to end; leaves ``last.ckpt`` (to resume) and ``weights.pt`` (to export).

    Bits and quality of validation photos over time go to ``curve.csv``. Ctrl-C and SIGTERM end a
    run after its next step, with everything saved; --resume then goes on where its schedule was.

    A recipe of the kind "universal" trains many small models instead, and leaves a report.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    path = shipped_recipe(recipe)
    if kind_of(path) == "universal":
        _train_universal(path, photos, out, minutes, resume)
        return
    settings = load_recipe(path)
    packed = packed_photos(photos, out, min(phase.crop for phase in settings.phases))
    curve = LearningCurve(PackedPhotos(packed), out / "curve.csv", CURVE_EVERY)
    origin = {} if resume is None else {"started_from": named(resume)}
    kept = WeightsFile(out / "weights.pt", lambda run: run | origin)
    train(settings, packed, out, minutes, resume=resume, watchers=[curve, kept])
    typer.echo(f"{out / 'weights.pt'}: export it with trellic export")


def _train_universal(
    recipe: Path, data: Path, out: Path, minutes: float, resume: Path | None
) -> None:
    from trellic_training.universal.run import run_universal
    from trellic_training.universal.settings import load_universal_recipe

    if resume is not None:
        raise BadParameter(
            "--resume with a recipe of the kind universal",
            remedy="leave it out: what --out holds is kept, and the run goes on from there",
        )
    typer.echo(run_universal(load_universal_recipe(recipe), data, out, minutes))


def named(path: Path) -> dict[str, str]:
    """Return what facts say of a file that a run starts from."""
    return {"file": path.name, "sha256": sha256_of(path)}


def shipped_recipe(recipe: Path) -> Path:
    """Path of a recipe: a file, or the name of a shipped one."""
    own = RECIPES / f"{recipe.name}.yaml"
    path = recipe if recipe.is_file() else own
    if not path.is_file():
        raise BadParameter(f"no recipe {str(recipe)!r}", remedy=f"shipped: {_names()}")
    return path


def _names() -> str:
    return ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))


def packed_photos(photos: Path, out: Path, crop: int = MIN_SIDE) -> Path:
    """Pack a folder of photos, unless it is packed already; those of at least one crop."""
    if (photos / "photos.json").is_file():
        return photos
    packed = out / "photos"
    if not (packed / "photos.json").is_file():
        pack(photos, packed, min_side=min(crop, MIN_SIDE))
    count = len(PackedPhotos(packed).training)
    typer.echo(f"{count} photos to train on")
    return packed


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic train`` does."""
    return call(app, arguments, "trellic train")


def call(command: typer.Typer, arguments: list[str], name: str) -> int:
    """Run a command; returns its exit code, which tells of a signal as shells do."""
    try:
        command(arguments, prog_name=name, standalone_mode=False)
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        return 128 + stop.signum
    return 0
