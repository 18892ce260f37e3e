"""``trellic finetune --add-decoder``, which the runtime's command line calls.

It is here and not in the training package because it ends with an export. Packages of the extra
are imported when a run begins, so that ``--help`` works without them.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic.errors import BadParameter
from trellic.model.decoders import NAME_PATTERN
from trellic_export.target import Replace, prepare
from trellic_training.cli import train as shared
from trellic_training.cli.lock import only_run

if TYPE_CHECKING:
    from trellic.model.bundle import Bundle
    from trellic_training.models.decoders import Sizes
    from trellic_training.models.transforms import Chain
    from trellic_training.recipes.decoder import DecoderRecipe

app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"{epilog('add-decoder')}\n\n{needs('export', 'onnx')}",
    context_settings={"help_option_names": shared.HELP},
)
def add_decoder_command(
    context: typer.Context,
    recipe: shared.DecoderRecipe,
    add_decoder: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Which decoder of the recipe to train.", show_default=False
        ),
    ],
    bundle: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="Model or bundle to add it to.", show_default=False),
    ],
    photos: shared.Photos,
    out: Annotated[
        Path,
        typer.Option(
            metavar="NAME.zip",
            help="Bundle to write; weights and logs go to the same folder.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to start from: a whole model's (its g_s is used), or a decoder's.",
        ),
    ] = None,
    minutes: shared.Minutes = 60,
    resume: shared.Resume = None,
    threads: shared.Threads = 0,
    replace: Replace = False,
) -> None:
    """Train a decoder on the latents of a bundle, and write the bundle with the new decoder."""
    from trellic.model.bundle import Bundle, find
    from trellic_export import family
    from trellic_training.data.photos import PackedPhotos
    from trellic_training.models.decoder_weights import load_decoder, save_decoder
    from trellic_training.recipes.decoder import load_decoder_recipe
    from trellic_training.stages.decoder_training import train_decoder

    _check(out, add_decoder)
    folder = out.with_name(f"{out.stem}-{add_decoder}")
    kept = out.with_name(f"{folder.name}.pt")
    for target in (out, kept):
        prepare(target, replace)
    settings = load_decoder_recipe(shared.shipped_recipe(recipe), add_decoder)
    opened = Bundle(find(bundle))
    shared.use_threads(threads)
    context.with_resource(only_run(folder))
    shared.refuse_to_replace(folder, resume)
    packed = shared.packed_photos(photos, folder, settings.least_crop)
    labels = PackedPhotos(packed).labels if settings.labels else None
    network = _start(settings, opened, weights, labels)
    network, steps = train_decoder(
        settings, network, opened, packed, folder, minutes, resume=resume
    )
    facts = {"recipe": settings.model_dump(mode="json"), "steps": steps, "minutes": minutes}
    if weights is not None:
        facts["started_from"] = shared.named(weights)
    trained = family.decoder_by(settings, network, opened, facts, labels)
    save_decoder(trained, kept)
    manifest = family.add_decoder(opened, add_decoder, load_decoder(kept), out)
    typer.echo(f"{out}: decoders {', '.join(manifest.decoders)}; weights of this one in {kept}")


def _check(out: Path, name: str) -> None:
    if out.suffix != ".zip":
        raise BadParameter(f"bundle {str(out)!r}", expected="a name that ends in .zip")
    if not re.match(NAME_PATTERN, name):
        raise BadParameter(
            f"decoder name {name!r}", expected="small letters, digits, dots, dashes, underscores"
        )


def _start(
    recipe: DecoderRecipe, bundle: Bundle, weights: Path | None, labels: list[str] | None
) -> Chain:
    """Return the decoder that training starts from; each quality keeps its ``lmbda``."""
    import torch

    from trellic_training.data.files import reading
    from trellic_training.models.decoders import start_from
    from trellic_training.models.stretch import stretch_tables
    from trellic_training.recipes.lmbda import same_lmbda

    torch.manual_seed(recipe.seed)
    network = recipe.network.make(bundle.manifest.layout, len(labels or []))
    if weights is None and recipe.stay:
        raise BadParameter(
            f"the recipe keeps {recipe.stay:g} of the weights that training starts from",
            remedy="name them with --weights, or set stay to 0",
        )
    if weights is None:
        return network
    with reading(weights, "cannot be started from"):
        trained, facts, sizes = _trained(weights)
        if sizes == recipe.network:
            network.load_state_dict(trained.state_dict())
        else:
            start_from(network, trained)
        before = tuple(facts.get("recipe", {}).get("lmbda", recipe.lmbda))
        if before != recipe.lmbda:
            stretch_tables(network, partial(same_lmbda, recipe.lmbda, before))
    return network


def _trained(weights: Path) -> tuple[Chain, dict[str, Any], Sizes | None]:
    """Read a decoder, what the file says about its training, and its sizes if it has them."""
    from trellic_training.models.decoder_weights import load_decoder
    from trellic_training.models.weights import load_weights

    try:
        model, facts = load_weights(weights)
    except BadParameter:
        given = load_decoder(weights)
        return given.network, given.facts, given.sizes
    return model.g_s, facts, None


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic finetune --add-decoder`` does."""
    return shared.call(app, arguments, "trellic finetune")
