"""``trellic batch``."""

from __future__ import annotations

import enum
import json as to_json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from trellic.cli.options import Patches, Patching
from trellic.cli.topics import epilog
from trellic.constants import DEFAULT_DECODER, DEFAULT_MODEL, DEFAULT_QUALITY, DEFAULT_TRELLIS
from trellic.errors import MissingExtra
from trellic_data.batch.items import find
from trellic_data.batch.work import Task

if TYPE_CHECKING:
    from trellic_data.batch.run import Report

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Kind(enum.Enum):
    """The task of a run."""

    ENCODE = "encode"
    DECODE = "decode"


class Into(enum.StrEnum):
    """The kind of files that results go to."""

    files = "files"
    tar = "tar"
    parquet = "parquet"


@app.command(epilog=epilog("batch"))
def batch(
    kind: Annotated[
        Kind, typer.Argument(metavar="encode|decode", help="What to do.", show_default=False)
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC", help="Folder, .tar or .parquet to read: a local path or an fsspec URL."
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(metavar="DST", help="Folder to write to: a local path or an fsspec URL."),
    ],
    quality: Annotated[
        float,
        typer.Option(
            "-q", "--quality", metavar="1..100", min=1, max=100, help="Quality, in steps of 1/16."
        ),
    ] = DEFAULT_QUALITY,
    trellis: Annotated[
        int, typer.Option(metavar="N", help="Number of trellis states; 0 turns the trellis off.")
    ] = DEFAULT_TRELLIS,
    patches: Patches = Patching.off,
    model: Annotated[
        str,
        typer.Option(metavar="NAME|PATH", help="Name of an installed model, or path of a bundle."),
    ] = DEFAULT_MODEL,
    decoder: Annotated[
        str, typer.Option(metavar="NAME", help="Decoder to decode with.")
    ] = DEFAULT_DECODER,
    suffix: Annotated[
        str, typer.Option("--format", metavar="SUFFIX", help="Suffix of decoded files.")
    ] = ".png",
    column: Annotated[
        str, typer.Option(metavar="NAME", help="Column of parquet files that holds the bytes.")
    ] = "image",
    actors: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Actors to run at once; 0: one per CPU of the cluster."
        ),
    ] = 0,
    threads: Annotated[int, typer.Option(metavar="N", min=1, help="Threads of each actor.")] = 1,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Items that an actor gets at a time, and items of a shard; 0 chooses a number.",
        ),
    ] = 0,
    into: Annotated[
        Into,
        typer.Option(
            metavar="files|tar|parquet", help="Write one file per result, or one shard per batch."
        ),
    ] = Into.files,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of a Ray cluster; by default one on this machine."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Encode or decode many files on a Ray cluster; run it again to continue an unfinished run."""
    try:
        import ray

        from trellic_data.batch.run import run
    except ImportError as error:
        raise MissingExtra.of("ray", "ray", "trellic batch") from error
    items = find(source, kind.value, column)
    task = Task(kind.value, target, model, quality, trellis, decoder, suffix, threads, into.value)
    task = replace(task, patches=patches.value)
    ray.init(address=address, log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    actors = actors or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(kind.value, total=len(items))

        def show(report: Report) -> None:
            bar.update(line, completed=report.before + report.done + report.failed)

        report = run(items, task, actors=actors, batch=batch_size, progress=show)
    _print(report, asdict(report), json)
    raise typer.Exit(int(report.failed > 0))


def _print(report: Report, fields: dict[str, Any], json: bool) -> None:
    if json:
        print(to_json.dumps(fields))
        return
    for one in report.bad:
        typer.echo(f"error: {one['name']}: {one['error']}", err=True)
    print(
        f"{report.done} done, {report.before} before, {report.failed} failed: "
        f"{report.bytes_in} bytes to {report.bytes_out} in {report.seconds:.1f} s"
    )


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return int(app(list(arguments), prog_name="trellic batch", standalone_mode=False) or 0)
