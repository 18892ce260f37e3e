"""``trellic train``, which the runtime's command line calls.

Packages of the extra are imported when a run begins, so that ``--help`` works without them.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic.constants import MAX_SEED, MAX_THREADS
from trellic.errors import BadParameter
from trellic_training.cli.lock import only_run
from trellic_training.stages.interrupted import LAST, Interrupted

CURVE_EVERY = 500  # steps
MAX_MINUTES = 525_600.0  # a year
SMALLER = "give the phases of the recipe a smaller batch or a smaller crop"  # to save memory
RECIPES = Path(__file__).parents[1] / "recipes"


def names_of_recipes(stage: str = "") -> str:
    """Return the names of the recipes that are shipped, or those of one stage."""
    names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
    others = () if stage else ("finetune", "decoders")
    return ", ".join(n for n in names if n.startswith(stage) and not n.startswith(others))


def _all_recipes() -> str:
    return ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def _minutes(value: float) -> float:
    if not 0.01 <= value <= MAX_MINUTES:  # false for nan, too
        raise typer.BadParameter(f"{value} is not in the range 0.01..{MAX_MINUTES:.0f}")
    return value


def _recipe(stage: str) -> Any:
    help_text = f"A recipe: a YAML file, or one of: {names_of_recipes(stage)}."
    return typer.Argument(metavar="RECIPE", help=help_text, show_default=False)


FinetuneRecipe = Annotated[Path, _recipe("finetune")]
DecoderRecipe = Annotated[Path, _recipe("decoders")]
Out = Annotated[
    Path,
    typer.Option(
        metavar="DIR", help="Folder for checkpoints, weights and logs.", show_default=False
    ),
]
Photos = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Folder of photos, or of packed photos.", show_default=False),
]
Minutes = Annotated[
    float, typer.Option(metavar="N", callback=_minutes, help="Minutes to train, a year at most.")
]
Resume = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Checkpoint (.ckpt) to continue from.")
]
Threads = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, max=MAX_THREADS, help="Threads of torch; 0 lets torch choose."
    ),
]
HELP = ["-h", "--help"]
app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"{epilog('train')}\n\n{needs('training', 'torch')}",
    context_settings={"help_option_names": HELP},
)
def train_command(
    context: typer.Context,
    recipe: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|RECIPE",
            help="A folder of your own pictures, to adapt the shipped model to them. "
            f"Or a recipe: a YAML file, or one of: {names_of_recipes()}.",
            show_default=False,
        ),
    ],
    photos: Annotated[
        Path | None,
        typer.Option(
            "--photos",
            "--data",
            metavar="DIR",
            help="With a recipe: folder of photos, of packed photos, or of MNIST's files.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for checkpoints, weights and logs (default: runs/NAME, after DIR or "
            "RECIPE).",
            show_default=False,
        ),
    ] = None,
    minutes: Minutes = 60,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checkpoint (.ckpt) or weights (.pt) to continue from."),
    ] = None,
    threads: Threads = 0,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=MAX_SEED,
            help="Another seed than the recipe's.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Adapt the shipped model to the pictures in DIR, or train a model by a RECIPE.

    Writes last.ckpt (to resume) and weights.pt (to export) to the folder --out.
    Appends bits and quality of validation photos to curve.csv while it trains.

    Ctrl-C and SIGTERM end a run after the current step, and save everything.
    --resume then continues where the run stopped.

    A recipe of the kind "universal" trains many small models and writes a report.
    The same command continues such a run, in the middle of a model too.

    A recipe of the kind "classifier" trains a classifier of small pictures, for its number of
    steps whatever --minutes says. Recipes of codecs and decoders can name it.
    """
    out = out or Path("runs") / (recipe.resolve().stem + ("" if seed is None else f"-seed-{seed}"))
    context.with_resource(only_run(out))
    refuse_to_replace(out, resume)
    if recipe.is_dir() and photos is None:
        if seed is not None:
            raise BadParameter("--seed with a folder of pictures", remedy="leave it out")
        from trellic_training.cli.adapt import adapt

        adapt(recipe, out, minutes, resume, threads)
        return
    path = shipped_recipe(recipe)
    if photos is None:
        raise typer.BadParameter("a recipe needs a folder of photos", param_hint="--photos")
    from trellic_training.data.photos import PackedPhotos
    from trellic_training.recipes.codec import kind_of, load_recipe
    from trellic_training.stages.encoder_alone import EncoderAlone
    from trellic_training.stages.end_to_end import EndToEnd, train
    from trellic_training.stages.keeping import WeightsFile
    from trellic_training.stages.learning_curve import LearningCurve

    use_threads(threads)
    kind = kind_of(path)
    if kind in ("universal", "classifier") and resume is not None:
        remedy = "leave it out"
        if kind == "universal":
            remedy += "; the run continues from the results in --out"
        raise BadParameter(f"--resume with a recipe of the kind {kind}", remedy=remedy)
    if kind == "universal":
        _train_universal(path, photos, out, minutes, seed)
        return
    if kind == "classifier":
        _train_classifier(path, photos, out, seed)
        return
    settings = seeded(load_recipe(path), seed)
    least, bands = min(phase.crop for phase in settings.phases), settings.model.bands
    packed = packed_photos(photos, out, least, bands)
    curve = LearningCurve(PackedPhotos(packed), out / "curve.csv", CURVE_EVERY)
    origin = {} if resume is None else {"started_from": named(resume)}
    kept = WeightsFile(out / "weights.pt", lambda run: run | origin)
    stage = EndToEnd if settings.train == "all" else EncoderAlone
    train(settings, packed, out, minutes, resume=resume, watchers=[curve, kept], stage=stage)
    typer.echo(f"{out / 'weights.pt'}: export it with trellic export")


def _train_classifier(recipe: Path, photos: Path, out: Path, seed: int | None) -> None:
    from trellic_training.models.picture_classifier import save_classifier
    from trellic_training.recipes.classifier import load_classifier_recipe
    from trellic_training.stages.classifier import train_classifier

    settings = seeded(load_classifier_recipe(recipe), seed)
    packed = packed_photos(photos, out, 1)
    out.mkdir(parents=True, exist_ok=True)  # fails now and not after the training
    made = train_classifier(settings, packed)
    path = out / "classifier.pt"
    save_classifier(made, path)
    typer.echo(
        f"{path}: right for {made.facts['accuracy']:.1%} of the pictures that were set aside; "
        "recipes can name it under classification"
    )


def _train_universal(recipe: Path, data: Path, out: Path, minutes: float, seed: int | None) -> None:
    from trellic_training.universal.run import run_universal
    from trellic_training.universal.settings import load_universal_recipe

    typer.echo(run_universal(seeded(load_universal_recipe(recipe), seed), data, out, minutes))


def seeded(settings: Any, seed: int | None) -> Any:
    """Return a recipe with another seed, or as it is if none is given."""
    return settings if seed is None else settings.model_copy(update={"seed": seed})


def refuse_to_replace(out: Path, start: Path | None) -> None:
    """Refuse a new run in the folder of an earlier one, whose weights it would replace.

    Parameters
    ----------
    start : file that the run starts from; one of the same folder continues the earlier run

    Raises
    ------
    BadParameter
        When the folder has a checkpoint, and the run does not start from that folder.
    """
    last = out / LAST
    if last.is_file() and (start is None or start.resolve().parent != out.resolve()):
        raise BadParameter(
            f"{str(out)!r} has the weights of an earlier run, which a new one would replace",
            remedy=f"continue that run with --resume {last}, or write to another place with --out",
        )


def use_threads(threads: int) -> None:
    """Set torch up for a run."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


def named(path: Path) -> dict[str, str]:
    """Return name and digest of a file that a run starts from, as facts have them."""
    from trellic_training.data.files import sha256_of

    return {"file": path.name, "sha256": sha256_of(path)}


def shipped_recipe(recipe: Path) -> Path:
    """Path of a recipe: a file, or the name of a shipped one."""
    own = RECIPES / f"{recipe.name}.yaml"
    path = recipe if recipe.is_file() else own
    if not path.is_file():
        raise BadParameter(
            f"no file or folder {str(recipe)!r}, and no shipped recipe of that name",
            remedy=f"shipped recipes: {_all_recipes()}",
        )
    return path


def packed_photos(photos: Path, out: Path, crop: int | None = None, bands: int = 3) -> Path:
    """Pack a folder of photos into ``out``, unless it is packed; those of at least one crop."""
    from trellic_training.data.packing import pack_once
    from trellic_training.data.photos import MIN_SIDE, PackedPhotos

    if (photos / "photos.json").is_file():
        return photos
    packed = out / "photos"
    pack_once(photos, packed, min_side=min(crop or MIN_SIDE, MIN_SIDE), bands=bands)
    found = PackedPhotos(packed)
    typer.echo(f"{len(found.training)} photos to train on, {len(found.validation)} set aside")
    return packed


def _out_of_memory(error: Exception) -> bool:
    """Whether NumPy, or torch on a GPU or a CPU, got too little memory."""
    named = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return named or isinstance(error, MemoryError)


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic train`` does."""
    return call(app, arguments, "trellic train", remedy=SMALLER)


def call(
    command: typer.Typer,
    arguments: list[str],
    name: str,
    lost: str = "nothing was saved after the last checkpoint",
    remedy: str = "",
) -> int:
    """Run a command; returns its exit code, which after a signal is that of shells.

    Parameters
    ----------
    lost : what a user who stops it by Ctrl-C should know
    remedy : what to do when the memory is not enough

    Raises
    ------
    BadParameter
        When the memory is not enough.
    """
    try:
        code = command(arguments, prog_name=name, standalone_mode=False) or 0
    except Interrupted as stop:
        typer.echo(str(stop), err=True)
        return 128 + stop.signum
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        raise BadParameter("not enough memory", remedy=remedy) from error
    if code == 128 + signal.SIGINT:  # typer's answer to Ctrl-C
        typer.echo(f"stopped at once: {lost}", err=True)
    return int(code)
