"""The commands and their options; what they do is in the module of each command."""

from __future__ import annotations

from typing import Annotated

import typer

from trellic.cli import options as opt
from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
)

app = typer.Typer(
    help="Learned image codec: pictures to small .tlc files and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
models_app = typer.Typer(help="List the installed models, or add one.")
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        import trellic

        typer.echo(f"trellic {trellic.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Run before every command."""


@app.command()
def encode(
    inputs: opt.Inputs,
    output: opt.Output,
    quality: opt.Quality = None,
    bpp: opt.Bpp = None,
    max_bytes: opt.MaxBytes = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    dither: opt.Dither = None,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave out metadata; colours are converted to sRGB.")
    ] = False,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
    max_memory: opt.MaxMemory = None,
    limits: opt.Profiles = None,
    deadline: opt.Deadline = None,
    json: opt.Json = False,
) -> None:
    """Compress pictures: one IN to the file OUT, several into the folder OUT."""
    if sum(target is not None for target in (quality, bpp, max_bytes)) > 1:
        raise typer.BadParameter("give only one of --quality, --bpp and --max-bytes")
    if dither is not None and trellis:
        raise typer.BadParameter("--dither needs --trellis 0")
    from trellic.cli import encode as command
    from trellic.cli.engines import Engines

    target = command.Target(quality, bpp, max_bytes, trellis, strip, max_memory, dither)
    engines = Engines(device.value, precision.value)
    bounds = opt.limits_of(limits, deadline)
    command.run(inputs, output, target, model, engines, max_pixels, bounds, json)


@app.command()
def decode(
    context: typer.Context,
    paths: opt.Paths,
    decoder: opt.Decoder = DEFAULT_DECODER,
    region: opt.Region = None,
    best_effort: Annotated[
        bool,
        typer.Option("--best-effort", help="Of a damaged file, decode what is whole."),
    ] = False,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
    max_memory: opt.MaxMemory = None,
    limits: opt.Profiles = None,
    deadline: opt.Deadline = None,
    json: opt.Json = False,
) -> None:
    """Decompress .tlc files: one IN to the picture OUT, several into the folder OUT as PNG.

    With a decoder that gives labels, print those of every IN.
    """
    from trellic.cli import decode, labels
    from trellic.cli.decoders import expect
    from trellic.cli.engines import Engines

    setting = decode.Setting(decoder, max_pixels, region, max_memory, best_effort or None)
    expected, bounds = expect(decoder), opt.limits_of(limits, deadline)
    if expected.labels and len(paths) > 1 and decode.is_picture(paths[-1]):
        context.fail(f"Decoder {decoder!r} gives labels: there is no OUT, leave out {paths[-1]!r}.")
    if expected.labels:
        labels.run(paths, setting, device.value, bounds, json)
    elif len(paths) < 2:
        hint = "" if expected.known else f" No installed model has the decoder {decoder!r}."
        context.fail(f"Missing argument 'OUT'.{hint}")
    else:
        engines = Engines(device.value, precision.value)
        decode.run(paths[:-1], paths[-1], setting, engines, bounds, json, expected)


@app.command()
def info(
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False)],
    json: opt.Json = False,
) -> None:
    """Show what a .tlc file holds, after checking that it is whole; needs no model."""
    from trellic.cli import info as command

    command.run(file, json)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, json: opt.Json = False) -> None:
    """List the installed models: decoders, MACs a pixel, size, licence, ids."""
    if context.invoked_subcommand is None:
        from trellic.cli import models as command

        command.run(json)


@models_app.command("add")
def models_add(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A bundle.", show_default=False)],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Even if it takes the place of an installed model."),
    ] = False,
) -> None:
    """Check a bundle and install it for this user."""
    from trellic.cli import models as command

    command.add(path, replace)


@app.command()
def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IN]...", help="Pictures; a synthetic one by default."),
    ] = None,
    quality: opt.Quality = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    decoder: opt.Decoder = DEFAULT_DECODER,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    repeat: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each picture.")] = 5,
    json: opt.Json = False,
) -> None:
    """Measure throughput and latency on this machine, stage by stage."""
    from trellic.cli import bench as command
    from trellic.cli.engines import Engines

    setting = command.Setting(
        DEFAULT_QUALITY if quality is None else quality, trellis, decoder, repeat
    )
    command.run(inputs or [], setting, model, Engines(device.value, precision.value), json)


@app.command()
def compare(
    photo: Annotated[
        str, typer.Argument(metavar="PHOTO", show_default=False, help="The picture to show.")
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.html", help="The page (default PHOTO.compare.html)."),
    ] = None,
    quality: opt.Quality = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    decoder: opt.Decoder = DEFAULT_DECODER,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
) -> None:
    """Write a page that compares a photo with what codecs make of it at equal bytes."""
    from trellic.cli import compare as command

    setting = command.Setting(
        DEFAULT_QUALITY if quality is None else quality, trellis, decoder, max_pixels
    )
    command.run(photo, out, setting, model, device.value)


_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Train a model by a recipe (extra: training)."""
    from trellic.cli.extras import dispatch

    dispatch("train", "trellic_training.cli.train", "training", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def finetune(context: typer.Context) -> None:
    """Retrain a model, or with --add-decoder a decoder, on quantized latents (extra: training)."""
    from trellic.cli.extras import dispatch

    if any(argument.partition("=")[0] == "--add-decoder" for argument in context.args):
        dispatch("finetune", "trellic_export.family_cli", "export", context.args)
    dispatch("finetune", "trellic_training.cli.finetune", "training", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def export(context: typer.Context) -> None:
    """Make a bundle of a training checkpoint (extra: export)."""
    from trellic.cli.extras import dispatch

    dispatch("export", "trellic_export.cli", "export", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Serve encoding, decoding and pictures by URL over HTTP (extra: serve)."""
    from trellic.cli.extras import dispatch

    dispatch("serve", "trellic_serve.cli", "serve", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def batch(context: typer.Context) -> None:
    """Encode or decode folders, tar shards and parquet files on a Ray cluster (extra: ray)."""
    from trellic.cli.extras import dispatch

    dispatch("batch", "trellic_data.batch.cli", "ray", context.args)
