"""``trellic finetune``, which the runtime's command line calls.

Packages of the extra are imported when a run begins, so that ``--help`` works without them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic_training.cli import train as shared
from trellic_training.cli.lock import only_run
from trellic_training.stages.interrupted import Interrupted

FIRST = "first-stage.pt"
Tables = Callable[[Any, Any], Any]  # of a model and a recipe: frequency tables, or None


class Start(NamedTuple):
    """Files that training starts from: a model's weights, and a decoder in place of its g_s."""

    weights: Path
    decoder: Path | None = None


app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"{epilog('finetune')}\n\n{needs('training', 'torch')}",
    context_settings={"help_option_names": shared.HELP},
)
def finetune_command(
    context: typer.Context,
    recipe: shared.FinetuneRecipe,
    weights: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Weights to start from: weights.pt of trellic train.",
            show_default=False,
        ),
    ],
    photos: shared.Photos,
    out: shared.Out,
    decoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Decoder that training starts from, in place of the g_s of --weights.",
            show_default=False,
        ),
    ] = None,
    minutes: shared.Minutes = 60,
    resume: shared.Resume = None,
    threads: shared.Threads = 0,
) -> None:
    """Fine-tune trained weights on quantized latents, as files have them.

    Writes last.ckpt (to resume) and weights.pt (to export) to the folder --out.
    Copies the weights that it starts from to first-stage.pt.

    With --add-decoder NAME it trains a new decoder for a bundle instead:
    see trellic finetune --add-decoder NAME --help.
    """
    context.with_resource(only_run(out))
    # Tuned weights may be tuned again in their folder; the first stage's would begin anew.
    shared.refuse_to_replace(out, resume or (None if weights.name == FIRST else weights))
    fine_tune(recipe, Start(weights, decoder), photos, out, minutes, resume, threads)


def fine_tune(
    recipe: Path,
    start: Start,
    photos: Path,
    out: Path,
    minutes: float,
    resume: Path | None,
    threads: int,
    tables_of: Tables = lambda model, settings: None,
) -> None:
    """Do what ``trellic finetune`` does; ``tables_of`` may know tables that need no fitting."""
    from lightning.pytorch.callbacks import LambdaCallback

    from trellic_training.data.photos import PackedPhotos
    from trellic_training.models.decoder_weights import state_of_synthesis
    from trellic_training.models.weights import load_weights
    from trellic_training.recipes.codec import load_quantized_recipe
    from trellic_training.stages.keeping import WeightsFile
    from trellic_training.stages.learning_curve import LearningCurve
    from trellic_training.stages.quantized import finetune

    settings = load_quantized_recipe(shared.shipped_recipe(recipe))
    model, facts = load_weights(start.weights)
    if start.decoder is not None:
        model.g_s.load_state_dict(state_of_synthesis(start.decoder, model))
    shared.use_threads(threads)
    least, bands = min(phase.crop for phase in settings.phases), model.config.bands
    packed = shared.packed_photos(photos, out, least, bands)
    origin = {"started_from": shared.named(start.decoder or start.weights)}
    kept = WeightsFile(out / "weights.pt", lambda run: facts | {"finetuning": run | origin})
    curve = LearningCurve(PackedPhotos(packed), out / "curve.csv", shared.CURVE_EVERY)
    stopped = None
    tables = tables_of(model, settings)
    watchers = [curve, kept]
    if "finetuning" not in facts:  # once the run has begun: --resume may be refused
        first = LambdaCallback(on_train_start=lambda *_: keep(start.weights, out / FIRST))
        watchers.append(first)
    try:
        finetune(
            settings, model, packed, out, minutes, resume=resume, tables=tables, watchers=watchers
        )
    except Interrupted as stop:
        stopped = stop
    typer.echo(curve.gained())
    typer.echo(f"{out / 'weights.pt'}: export it with trellic export")
    if stopped:
        raise stopped


def keep(weights: Path, copy: Path) -> None:
    """Copy first-stage weights byte for byte, so that later stages can be repeated."""
    if weights.resolve() != copy.resolve():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, copy)


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic finetune`` does."""
    return shared.call(app, arguments, "trellic finetune", remedy=shared.SMALLER)
