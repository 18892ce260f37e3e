"""``trellic train DIR``: adapts the decoder of the shipped model to the user's pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from trellic.constants import DEFAULT_MODEL
from trellic.errors import BadParameter
from trellic.support.installed import clone, install_command
from trellic_training.cli.finetune import Start, fine_tune
from trellic_training.stages.interrupted import Interrupted

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"  # in a clone
SHIPPED, SHIPPED_DECODER = CHECKPOINTS / "photo.pt", CHECKPOINTS / "photo-quality.pt"
OTHER_DECODERS = ("fast", "preview")  # of the shipped model; an adapted model can use them too
RECIPE = "finetune-eye"  # trains the shipped model further


def adapt(pictures: Path, out: Path, minutes: float, resume: Path | None, threads: int) -> None:
    """Train the decoder of the shipped model further, on the pictures of a folder.

    Raises
    ------
    BadParameter
        When the weights of the shipped model are missing, because this is not a clone.
    Interrupted
        When a signal stopped the run, which is saved then.
    """
    if not SHIPPED.is_file():
        command = install_command("export") if clone() else "pip install -e '.[export]'"
        raise BadParameter(
            f"the weights that training starts from are not at {str(SHIPPED)!r}",
            expected="they are part of a clone of the repository, not of the wheel",
            remedy=f"install a clone as it is: {command}",
        )
    start = Start(SHIPPED, SHIPPED_DECODER)
    try:
        fine_tune(Path(RECIPE), start, pictures, out, minutes, resume, threads, shipped_tables)
    except Interrupted:
        _say_what_comes_next(pictures, out)
        raise
    _say_what_comes_next(pictures, out)


def shipped_tables(model: Any, settings: Any) -> Any:
    """Return the frequency tables of the shipped model, if it has the integers of these weights.

    They were fitted to what the same encoder and quantizers emit on photos, which saves minutes.
    """
    import numpy as np

    from trellic.integer.networks import to_arrays
    from trellic.model.bundle import Bundle, find
    from trellic_training.models.integers import integer_networks, level_tables, widened

    bundle = Bundle(find(DEFAULT_MODEL))
    levels = widened(level_tables(model), settings.widening)
    theirs, ours = bundle.levels.to_arrays(), levels.to_arrays()
    for arrays, networks in ((theirs, bundle.networks), (ours, integer_networks(model))):
        arrays.pop("levels.level_offset")  # which only the export finds
        for name, network in networks.items():
            arrays.update(to_arrays(name, network))
    same = theirs.keys() == ours.keys() and all(
        np.array_equal(array, ours[name]) for name, array in theirs.items()
    )
    choice = (settings.trellis_step, settings.skip_index)
    fits = choice == (bundle.tables.trellis_step, bundle.manifest.layout.skip_index)
    return bundle.tables if same and fits else None


def _say_what_comes_next(pictures: Path, out: Path) -> None:
    """Print the commands that make a model of the weights, and use it."""
    name = re.sub(r"[^a-z0-9._-]+", "-", out.resolve().name.lower()).strip("-._") or "own"
    name = f"my-{name}" if name == DEFAULT_MODEL else name
    packed = out / "photos" if (out / "photos").is_dir() else pictures
    export = ["trellic", "export", out / "weights.pt", f"{name}.zip", "--photos", packed]
    for decoder in OTHER_DECODERS:
        path = CHECKPOINTS / f"photo-{decoder}.pt"
        export += ["--decoder", f"{decoder}={path}"] if path.is_file() else []
    typer.echo("Next, make a model of it, install it, and use it:")
    typer.echo(shlex.join(map(str, export)))
    typer.echo(shlex.join(["trellic", "models", "add", f"{name}.zip"]))
    typer.echo(shlex.join(["trellic", "encode", "IN", "OUT", "--model", name]))
