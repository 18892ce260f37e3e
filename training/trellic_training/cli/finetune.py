"""``trellic finetune``: what the command line of the runtime hands over to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer

from trellic_training.cli.train import CURVE_EVERY, call, named, packed_photos, shipped_recipe
from trellic_training.data.photos import PackedPhotos
from trellic_training.models.weights import load_weights
from trellic_training.recipes.codec import load_quantized_recipe
from trellic_training.stages.keeping import WeightsFile
from trellic_training.stages.learning_curve import LearningCurve
from trellic_training.stages.quantized import finetune

FIRST = "first-stage.pt"
app = typer.Typer(add_completion=False, help="Retrain a codec on really quantized latents.")


@app.command()
def finetune_command(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, or the name of a shipped one")],
    weights: Annotated[Path, typer.Option(help="weights.pt of trellic train")],
    photos: Annotated[Path, typer.Option(help="folder of photos, or of packed photos")],
    out: Annotated[Path, typer.Option(help="folder for checkpoints, weights and logs")],
    minutes: Annotated[float, typer.Option(min=0.01, help="time budget")] = 60,
    resume: Annotated[Path | None, typer.Option(help="checkpoint (.ckpt) to go on from")] = None,
    threads: Annotated[int, typer.Option(min=0, help="0: as torch chooses")] = 0,
) -> None:
    """Fine-tune; leaves ``last.ckpt`` (to resume) and ``weights.pt`` (to export).

    The weights that it starts from are kept beside them, as ``first-stage.pt``, and named by their
    SHA-256 in the facts of ``weights.pt``.

    With --add-decoder NAME --bundle BUNDLE a decoder is trained for a bundle instead: see
    trellic finetune --add-decoder NAME --help.
    """
    settings = load_quantized_recipe(shipped_recipe(recipe))
    model, facts = load_weights(weights)
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    packed = packed_photos(photos, out, min(phase.crop for phase in settings.phases))
    origin = {"started_from": named(weights)}
    if "finetuning" not in facts:
        keep(weights, out / FIRST)
    kept = WeightsFile(out / "weights.pt", lambda run: facts | {"finetuning": run | origin})
    curve = LearningCurve(PackedPhotos(packed), out / "curve.csv", CURVE_EVERY)
    finetune(settings, model, packed, out, minutes, resume=resume, watchers=[curve, kept])
    typer.echo(f"{out / 'weights.pt'}: export it with trellic export")


def keep(weights: Path, copy: Path) -> None:
    """Copy first-stage weights, byte for byte: what comes after them can be made again."""
    if weights.resolve() != copy.resolve():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, copy)


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic finetune`` does."""
    return call(app, arguments, "trellic finetune")
