"""The commands and their options; the module of each command does the work."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from trellic.cli import options as opt
from trellic.cli.topics import epilog
from trellic.constants import (
    DEFAULT_DECODER,
    DEFAULT_MODEL,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    MAX_PIXELS,
)
from trellic.errors import BadParameter

app = typer.Typer(
    help="Learned image codec: turns pictures into small .tlc files, and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _NamesOrCommand(typer.core.TyperGroup):
    """``models NAME...`` is ``models show NAME...``."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        first = next((word for word in arguments if not word.startswith("-")), None)
        if first is not None and first not in self.commands:
            arguments = ["show", *arguments]
        return super().parse_args(context, arguments)


models_app = typer.Typer(
    cls=_NamesOrCommand,
    help="List the installed models and adapters, or only named models; add or remove one.",
    epilog=epilog("models"),
    subcommand_metavar="[NAME]... | add PATH | remove NAME",
)
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


@app.command(epilog=epilog("encode"))
def encode(
    context: typer.Context,
    paths: opt.Paths,
    quality: opt.Quality = None,
    bpp: opt.Bpp = None,
    max_bytes: opt.MaxBytes = None,
    ssimulacra2: opt.Ssimulacra2 = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    dither: opt.Dither = None,
    progressive: opt.Progressive = False,
    steady: opt.Steady = False,
    refine: opt.Refine = False,
    patches: opt.Patches = opt.Patching.off,
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="FILE.tlc",
            help="The file that IN was decoded from. Keeps its quality, and does not lose again "
            "what is unchanged.",
        ),
    ] = None,
    model: opt.Model = DEFAULT_MODEL,
    adapter: opt.Adapter = None,
    embed_adapter: opt.EmbedAdapter = False,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave out metadata; convert colours to sRGB.")
    ] = False,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
    max_memory: opt.MaxMemory = None,
    limits: opt.Profiles = None,
    deadline: opt.Deadline = None,
    recursive: opt.Recursive = False,
    skip_existing: opt.SkipExisting = False,
    keep_suffix: opt.KeepSuffix = False,
    preserve: opt.Preserve = False,
    jobs: opt.Jobs = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Compress pictures to .tlc files: one IN to the file OUT, several into the folder OUT."""
    inputs, output = _in_and_out(context, paths)
    if sum(target is not None for target in (quality, bpp, max_bytes, ssimulacra2)) > 1:
        raise typer.BadParameter("give only one of --quality, --bpp, --max-bytes and --ssimulacra2")
    _check_together(trellis=trellis, dither=dither, progressive=progressive, steady=steady)
    given = (quality, bpp, max_bytes, ssimulacra2, dither)
    patched = patches is not opt.Patching.off
    other = strip or progressive or steady or refine or patched or trellis != DEFAULT_TRELLIS
    other = other or any(value is not None for value in given)
    if like is not None and (other or len(inputs) > 1):
        raise typer.BadParameter(
            "--like needs a single IN, and uses the quality and trellis of its file; "
            "leave out options that set them"
        )
    if embed_adapter and adapter is None:
        raise typer.BadParameter("--embed-adapter needs --adapter")
    if adapter is not None and like is not None:
        raise typer.BadParameter("--like takes the adapter of its file: leave out --adapter")
    from trellic.cli import encode as command
    from trellic.cli.engines import Engines
    from trellic.cli.work import Batch

    target = command.Target(
        quality,
        bpp,
        max_bytes,
        trellis,
        strip,
        max_memory,
        dither,
        ssimulacra2,
        progressive or None,
        like,
        patches.value if patched else None,
        steady or None,
        refine or None,
    )
    engines = Engines(device.value, precision.value, adapter, embed_adapter)
    bounds = command.Bounds(max_pixels, opt.limits_of(limits, deadline))
    batch = Batch(recursive, skip_existing, preserve, dry_run, jobs, keep_suffix)
    command.run(inputs, output, target, model, engines, bounds, batch, json)


def _in_and_out(context: typer.Context, paths: list[str], hint: str = "") -> tuple[list[str], str]:
    """Split paths into those to read and the one to write; a missing one is bad usage."""
    if len(paths) < 2:
        context.fail(f"Missing argument 'OUT'.{hint}")
    return paths[:-1], paths[-1]


def _check_together(**options: Any) -> None:
    """Refuse options that exclude each other, as the library does."""
    from trellic.pipeline.exclusions import check_together

    try:
        check_together(**options)
    except BadParameter as error:
        raise typer.BadParameter(str(error)) from error


@app.command(epilog=epilog("decode"))
def decode(
    context: typer.Context,
    paths: opt.DecodePaths,
    model: opt.DecodeModel = None,
    adapter: opt.DecodeAdapter = None,
    decoder: opt.Decoder = None,
    region: opt.Region = None,
    length: opt.Length = None,
    layers: opt.Layers = None,
    size: opt.Size = None,
    scale: opt.Scale = None,
    form: opt.Format = None,
    background: opt.Background = None,
    best_effort: Annotated[
        bool,
        typer.Option("--best-effort", help="Decode the intact parts of damaged files."),
    ] = False,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
    max_memory: opt.MaxMemory = None,
    limits: opt.Profiles = None,
    deadline: opt.Deadline = None,
    recursive: opt.Recursive = False,
    skip_existing: opt.SkipExisting = False,
    preserve: opt.Preserve = False,
    jobs: opt.Jobs = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Decompress .tlc files: one IN to the picture OUT, several into the folder OUT as PNG.

    With a decoder that gives labels, print the labels of every IN.
    """
    if size is not None and scale is not None:
        raise typer.BadParameter("give only one of --size and --scale")
    from trellic.cli import decode, labels
    from trellic.cli.engines import Engines
    from trellic.cli.work import Batch

    engines = Engines(device.value, precision.value, adapter)
    setting = decode.Setting(decoder, max_pixels, region, max_memory, best_effort or None)
    part = decode.Length(length, layers)
    installed, fit = decode.models(model, engines), opt.fit_of(size, scale)
    result = decode.Result(installed, form, fit, part, background)
    expected = installed.expect(decoder or DEFAULT_DECODER)
    bounds = opt.limits_of(limits, deadline)
    if expected.labels and len(paths) > 1 and decode.is_picture(paths[-1]):
        context.fail(f"Decoder {decoder!r} gives labels, not a picture: leave out {paths[-1]!r}.")
    if expected.labels:
        labels.run(paths, setting, result, engines, bounds, json)
    else:
        hint = "" if expected.known else f" No installed model has the decoder {decoder!r}."
        inputs, output = _in_and_out(context, paths, hint)
        batch = Batch(recursive, skip_existing, preserve, dry_run, jobs)
        decode.run(inputs, output, setting, result, engines, bounds, batch, json)


@app.command(epilog=epilog("cut"))
def cut(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN", show_default=False, help="File to shorten. - reads from a pipe."
        ),
    ],
    output: Annotated[
        str,
        typer.Argument(
            metavar="OUT", show_default=False, help="File to write. - writes to a pipe."
        ),
    ],
    max_bytes: opt.MaxBytes = None,
    layers: opt.Layers = None,
    json: opt.Json = False,
) -> None:
    """Shorten a .tlc file without decoding it; needs no model."""
    if max_bytes is None and layers is None:
        raise typer.BadParameter("give --max-bytes or --layers")
    from trellic.cli import cut as command

    command.run(source, output, max_bytes, layers, json)


@app.command(epilog=epilog("transcode"))
def transcode(
    context: typer.Context,
    paths: opt.Paths,
    quality: opt.NewQuality = None,
    max_bytes: opt.MaxBytes = None,
    trellis: opt.KeptTrellis = None,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
    max_memory: opt.MaxMemory = None,
    limits: opt.Profiles = None,
    deadline: opt.Deadline = None,
    recursive: opt.Recursive = False,
    skip_existing: opt.SkipExisting = False,
    preserve: opt.Preserve = False,
    jobs: opt.Jobs = None,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
) -> None:
    """Make .tlc files smaller, faster than by decoding and encoding again."""
    inputs, output = _in_and_out(context, paths)
    if (quality is None) == (max_bytes is None):
        raise typer.BadParameter("give one of --quality and --max-bytes")
    from trellic.cli import transcode as command
    from trellic.cli.engines import Engines
    from trellic.cli.work import Batch

    target = command.Target(quality, max_bytes, trellis, max_pixels, max_memory)
    engines = Engines(device.value, precision.value)
    bounds = opt.limits_of(limits, deadline)
    batch = Batch(recursive, skip_existing, preserve, dry_run, jobs)
    command.run(inputs, output, target, engines, bounds, batch, json)


@app.command(epilog=epilog("info"))
def info(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", show_default=False, help="Files to show. - reads from a pipe."
        ),
    ],
    json: opt.Json = False,
) -> None:
    """Check .tlc files and show what they hold; needs no model."""
    from trellic.cli import info as command

    command.run(files, json)


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, json: opt.Json = False) -> None:
    """List the installed models: decoders, MACs per pixel, size, licence, ids."""
    if context.invoked_subcommand is None:
        models_show([], json)


@models_app.command("show", hidden=True)
def models_show(
    names: Annotated[list[str], typer.Argument(metavar="NAME|PATH...", show_default=False)],
    json: opt.Json = False,
) -> None:
    """List some models: installed ones by name, or bundles."""
    from trellic.cli import models as command

    command.run(names, json)


@models_app.command("add")
def models_add(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A bundle or an adapter.", show_default=False)
    ],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Allow it to replace an installed one."),
    ] = False,
) -> None:
    """Check a bundle or an adapter and install it for this user."""
    from trellic.cli import models as command

    command.add(path, replace)


@models_app.command("remove")
def models_remove(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
) -> None:
    """Remove an adapter or a model that was added for this user."""
    from trellic.cli import models as command

    command.remove(name)


@app.command(epilog=epilog("bench"))
def bench(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IN]...", help="Pictures; by default a synthetic one."),
    ] = None,
    quality: opt.Quality = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    decoder: opt.Decoder = None,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
    repeat: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Number of runs for each picture.")
    ] = 5,
    json: opt.Json = False,
) -> None:
    """Measure throughput and latency on this machine, stage by stage."""
    from trellic.cli import bench as command
    from trellic.cli.engines import Engines

    setting = command.Setting(
        DEFAULT_QUALITY if quality is None else quality,
        trellis,
        decoder or DEFAULT_DECODER,
        repeat,
    )
    command.run(inputs or [], setting, model, Engines(device.value, precision.value), json)


@app.command(epilog=epilog("compare"))
def compare(
    photos: Annotated[
        list[str],
        typer.Argument(metavar="PHOTO...", show_default=False, help="The pictures to show."),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.html", help="The page (default PHOTO.compare.html)."),
    ] = None,
    equal: Annotated[
        str,
        typer.Option(
            "--equal",
            metavar="WHAT",
            help="What all codecs have in common: bytes, or one of the measures "
            "psnr, ms-ssim, ssimulacra2, cvvdp, butteraugli, flip, haarpsi and fsim.",
        ),
    ] = "bytes",
    quality: opt.Quality = None,
    trellis: opt.Trellis = DEFAULT_TRELLIS,
    decoder: opt.Decoder = None,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    max_pixels: opt.MaxPixels = MAX_PIXELS,
) -> None:
    """Write a web page that compares photos in several codecs, at equal bytes or equal score."""
    from trellic.cli import compare as command

    setting = command.Setting(
        DEFAULT_QUALITY if quality is None else quality,
        trellis,
        decoder or DEFAULT_DECODER,
        max_pixels,
        equal,
    )
    command.run(photos, out, setting, model, device.value)


@app.command("warm-up", epilog=epilog("warm-up"))
def warm_up(
    decoder: opt.Decoder = None,
    model: opt.Model = DEFAULT_MODEL,
    device: opt.DeviceOption = opt.Device.auto,
    precision: opt.PrecisionOption = opt.Precision.fp32,
) -> None:
    """Compile all kernels now, so that later runs start at once; useful in a Dockerfile."""
    from trellic.cli import warm
    from trellic.cli.engines import Engines

    warm.run(model, decoder or DEFAULT_DECODER, Engines(device.value, precision.value))


@app.command("install-desktop", epilog=epilog("install-desktop"))
def install_desktop(
    undo: Annotated[bool, typer.Option("--undo", help="Remove what was written.")] = False,
    dry_run: opt.DryRun = False,
) -> None:
    """Teach your desktop about .tlc files: their type, thumbnails, and a rule for file(1)."""
    from trellic.cli import desktop

    desktop.run(undo=undo, dry_run=dry_run)


@app.command("help", epilog=epilog("help"))
def manual(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="[TOPIC|COMMAND]", show_default=False)
    ] = None,
) -> None:
    """Explain a topic (such as quality) or a command."""
    from trellic.cli import manual

    manual.run(context, name)


_PASS_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


@app.command(context_settings=_PASS_ON, add_help_option=False)
def train(context: typer.Context) -> None:
    """Adapt the model to a folder of photos, or train one by a recipe (extra: training)."""
    from trellic.cli.extras import dispatch

    dispatch("train", "trellic_training.cli.train", "training", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def finetune(context: typer.Context) -> None:
    """Fine-tune a trained model, or train a new decoder for one (extra: training)."""
    from trellic.cli.extras import dispatch

    if any(argument.partition("=")[0] == "--add-decoder" for argument in context.args):
        dispatch("finetune", "trellic_export.family_cli", "export", context.args)
    dispatch("finetune", "trellic_training.cli.finetune", "training", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def adapt(context: typer.Context) -> None:
    """Make an adapter: adapt a model to pictures of one kind, in minutes (extra: export)."""
    from trellic.cli.extras import dispatch

    dispatch("adapt", "trellic_export.adapters.cli", "export", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def distill(context: typer.Context) -> None:
    """Make a slim model for pictures of one application, with the same streams (extra: export)."""
    from trellic.cli.extras import dispatch

    dispatch("distill", "trellic_export.distill.cli", "export", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def export(context: typer.Context) -> None:
    """Turn trained weights into a model that encodes and decodes (extra: export)."""
    from trellic.cli.extras import dispatch

    dispatch("export", "trellic_export.cli", "export", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def serve(context: typer.Context) -> None:
    """Run an HTTP service that encodes, decodes and delivers pictures (extra: serve)."""
    from trellic.cli.extras import dispatch

    dispatch("serve", "trellic_serve.cli", "serve", context.args)


@app.command(context_settings=_PASS_ON, add_help_option=False)
def batch(context: typer.Context) -> None:
    """Encode or decode folders, tar shards and parquet files on a Ray cluster (extra: ray)."""
    from trellic.cli.extras import dispatch

    dispatch("batch", "trellic_data.batch.cli", "ray", context.args)
