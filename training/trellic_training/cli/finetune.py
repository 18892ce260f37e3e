"""``trellic finetune``: what the command line of the runtime hands over to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from trellic_training.cli.train import packed_photos, shipped_recipe
from trellic_training.models.weights import average_of, load_weights, save_weights
from trellic_training.recipes.codec import load_quantized_recipe
from trellic_training.stages.quantized import finetune

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

    With --add-decoder NAME --bundle BUNDLE a decoder is trained for a bundle instead: see
    trellic finetune --add-decoder NAME --help.
    """
    settings = load_quantized_recipe(shipped_recipe(recipe))
    model, facts = load_weights(weights)
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    packed = packed_photos(photos, out, min(phase.crop for phase in settings.phases))
    checkpoint = finetune(settings, model, packed, out, minutes, resume=resume)
    tuned, steps = average_of(checkpoint, model.config)
    own = {"recipe": settings.model_dump(mode="json"), "steps": steps, "minutes": minutes}
    save_weights(tuned, facts | {"finetuning": own}, out / "weights.pt")
    typer.echo(f"{out / 'weights.pt'}: export it with trellic export")


def main(arguments: list[str]) -> int | None:
    """Run with arguments, as ``trellic finetune`` does."""
    app(arguments, prog_name="trellic finetune", standalone_mode=False)
    return 0
