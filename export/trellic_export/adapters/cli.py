"""``trellic adapt``, which the runtime's command line calls.

Packages of the extra are imported when a run begins, so that ``--help`` works without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic.constants import DEFAULT_MODEL
from trellic.errors import BadParameter
from trellic.model.adapter import SUFFIX
from trellic.support.files import write_atomically
from trellic_export.target import Replace, refuse_the_model_itself, target_of
from trellic_training.cli import train as shared

app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"{epilog('adapt')}\n\n{needs('export', 'onnx')}",
    context_settings={"help_option_names": shared.HELP},
)
def adapt_command(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURES...",
            help="Files or folders: 5 pictures or more of one kind, better 25.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the adapter.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="Installed model, or a bundle.")
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.tla", help="File to write (default: NAME.tla).")
    ] = None,
    minutes: shared.Minutes = 10,
    threads: shared.Threads = 0,
    replace: Replace = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Write the adapter even if it gains nothing.")
    ] = False,
) -> None:
    """Adapt a model to pictures of one kind: a small file that changes its decoders.

    Sets every fifth picture aside, and says what the adapter gains on those.
    Compiling and checking take about two minutes more than --minutes.
    """
    from trellic.model.bundle import Bundle, find
    from trellic_export.adapters import check
    from trellic_export.adapters.pictures import read
    from trellic_export.adapters.settings import Settings
    from trellic_export.adapters.training import Trainer, parameters

    target = target_of("adapter", name, out, SUFFIX, replace)
    bundle, settings = Bundle(find(model)), Settings(minutes=minutes)
    refuse_the_model_itself("adapter", name, target, bundle)
    shared.use_threads(threads)
    trainer = Trainer(bundle, settings)
    own = read(pictures, settings.crop)
    steps = trainer.train(own)
    adapter = trainer.adapter(name)
    gained = check.gain(bundle, adapter, own.checking, trainer.measure)
    said = check.said(gained, len(own.checking), trainer.measure)
    if not gained < 0 and not anyway:
        raise BadParameter(
            f"nothing is gained after {steps} steps ({said}); no adapter is written",
            remedy="give more pictures or more --minutes; --anyway writes it nevertheless",
        )
    data = adapter.to_bytes()
    write_atomically(target, data)
    share = 100 * adapter.parameters / parameters(bundle)
    typer.echo(
        f"{target}: {len(data)} bytes, {adapter.parameters} parameters"
        f" ({share:.1f} % of the model's), {steps} steps"
    )
    typer.echo(said)
    typer.echo(f"install it with: trellic models add {target}")


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic adapt`` does."""
    return shared.call(app, arguments, "trellic adapt", "no adapter was written")
