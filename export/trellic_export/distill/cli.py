"""``trellic distill``, which the runtime's command line calls.

Packages of the extra are imported when a run begins, so that ``--help`` works without them.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic.constants import DEFAULT_MODEL
from trellic_export.target import Replace, refuse_the_model_itself, target_of
from trellic_training.cli import train as shared

SUFFIX = ".zip"
app = typer.Typer(add_completion=False)


class Size(StrEnum):
    """Names of `trellic_export.distill.students.WIDTHS`."""

    HALF = "half"
    QUARTER = "quarter"


@app.command(
    epilog=f"{epilog('distill')}\n\n{needs('export', 'onnx')}",
    context_settings={"help_option_names": shared.HELP},
)
def distill_command(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURES...",
            help="Files or folders: pictures of the application, hundreds of them.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the slim model.", show_default=False)
    ],
    width: Annotated[
        Size, typer.Option(help="Channels, against the decoder fast of photo.")
    ] = Size.HALF,
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="Model to slim: installed, or a bundle.")
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.zip", help="File to write (default: NAME.zip).")
    ] = None,
    minutes: shared.Minutes = 60,
    threads: shared.Threads = 0,
    replace: Replace = False,
) -> None:
    """Make a slim model for one application: a small encoder and decoder of the same streams.

    Sets every fifth picture aside, and says how many bits the slim model needs on those.
    Compiling and checking take about two minutes more than --minutes.
    """
    from trellic.model.bundle import Bundle, find
    from trellic_export.adapters.pictures import read
    from trellic_export.distill import check, made
    from trellic_export.distill.settings import Settings
    from trellic_export.distill.students import WIDTHS, Students, details_of
    from trellic_export.distill.training import Distiller

    target = target_of("model", name, out, SUFFIX, replace)
    bundle, settings = Bundle(find(model)), Settings(minutes=minutes)
    refuse_the_model_itself("model", name, target, bundle)
    students = Students(WIDTHS[width], bundle.manifest.layout, details_of(bundle))
    distiller = Distiller(bundle, students, settings)
    own = read(pictures, settings.crop)
    shared.use_threads(threads)
    steps = distiller.train(own)
    facts = {
        "width": width.value,
        "minutes": minutes,
        "steps": steps,
        "pictures": len(own.training),
    }
    manifest = made.write(bundle, students, name, facts, target)
    old, new = bundle.manifest, manifest
    typer.echo(f"{target}: {target.stat().st_size} bytes, {steps} steps")
    typer.echo(
        f"encoder {new.encoder.kmac_per_pixel:g} instead of {old.encoder.kmac_per_pixel:g} kMAC a"
        f" pixel, decoder {new.decoders['quality'].graph.kmac_per_pixel:g} instead of"
        f" {old.decoders['quality'].graph.kmac_per_pixel:g}"
    )
    needed = check.percent_more(bundle.path, target, own.checking, distiller.measure)
    typer.echo(check.said(needed, min(len(own.checking), check.MOST), distiller.measure))
    typer.echo(f"install it with: trellic models add {target}")


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic distill`` does."""
    lost = "no model was written, unless its file is named above"  # it is checked once written
    return shared.call(app, arguments, "trellic distill", lost)
