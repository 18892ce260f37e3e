"""``trellic export``, which the runtime's command line calls.

Packages of the extra are imported when an export begins, so that ``--help`` works without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from trellic.cli.extras import needs
from trellic.cli.topics import epilog
from trellic.errors import BadParameter
from trellic.model.decoders import NAME_PATTERN
from trellic_export.arguments import check_paths, refuse_unused
from trellic_export.folders import write_tensorrt, write_triton, write_web
from trellic_export.target import Replace, prepare
from trellic_training.cli.train import call

if TYPE_CHECKING:
    from trellic_training.data.photos import PackedPhotos
    from trellic_training.models.decoder_weights import TrainedDecoder

NETWORKS = r"g_a|h_a|h_s|context_\d+"  # of every bundle, beside its decoders
app = typer.Typer(add_completion=False)


@app.command(
    epilog=f"{epilog('export')}\n\n{needs('export', 'onnx')}",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def export_command(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[WEIGHTS] OUT",
            help="weights.pt of trellic train (with --int8, --fp16 or --only also a bundle), then "
            "the bundle to write, NAME.zip. With --web, --triton or --tensorrt, only a bundle "
            "or the name of a model.",
        ),
    ],
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of photos, or of packed photos, to calibrate on."),
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            "--from", metavar="compressai:NAME", help="Import a CompressAI model, without WEIGHTS."
        ),
    ] = "",
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --from: the model's weights.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --from: also write the imported weights here."),
    ] = None,
    count: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of photos to calibrate on.")
    ] = 64,
    description: Annotated[
        str, typer.Option(metavar="TEXT", help="Description that trellic models shows.")
    ] = "",
    licence: Annotated[
        str, typer.Option(metavar="SPDX", help="Licence of the weights.")
    ] = "Apache-2.0",
    skip_index: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Latents with a smaller scale index are not coded."),
    ] = 4,
    trellis_step: Annotated[
        int, typer.Option(metavar="N", min=1, max=255, help="Trellis step, in 1/32.")
    ] = 21,
    widening: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=1024,
            help="Take scales as larger than predicted, in 1/128 scale index.",
        ),
    ] = 96,
    lam_scalar: Annotated[
        int, typer.Option(metavar="N", min=0, max=4096, help="Cost of 1/64 bit for RDOQ.")
    ] = 20,
    lam_trellis: Annotated[
        int, typer.Option(metavar="N", min=0, max=4096, help="Cost of 1/64 bit for the trellis.")
    ] = 24,
    fit_lam_scalar: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=4096, help="The same while tables are fitted, for RDOQ."
        ),
    ] = 40,
    fit_lam_trellis: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=4096, help="The same while tables are fitted, for the trellis."
        ),
    ] = 48,
    decoder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Also add this decoder: weights of a decoder, or of a model (its g_s is used). "
            "May be repeated.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Add graphs with 8-bit layers, for CPUs.")
    ] = False,
    int8_graphs: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="With --int8: only for these networks (g_a or decoders)."
        ),
    ] = "",
    fp16: Annotated[bool, typer.Option("--fp16", help="Add float16 graphs, for GPUs.")] = False,
    only: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="Copy a bundle with only these decoders, without variants."
        ),
    ] = "",
    tensorrt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.engines",
            help="Build TensorRT engines for this machine's GPU, from a bundle.",
        ),
    ] = None,
    max_size: Annotated[
        int,
        typer.Option(metavar="N", help="With --tensorrt: pixels a side of the largest picture."),
    ] = 4096,
    max_batch: Annotated[
        int,
        typer.Option(metavar="N", help="With --tensorrt: pictures of usual size in one run."),
    ] = 1,
    web: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a folder for web pages here, from a bundle."),
    ] = None,
    web_decoders: Annotated[
        str,
        typer.Option(
            metavar="NAME,...", help="With --web: decoders to include (default: preview and fast)."
        ),
    ] = "",
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a model repository for NVIDIA Triton here."),
    ] = None,
    instances: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="With --triton: number of processes that encode, and of processes that decode; "
            "0: half as many as this machine has cores.",
        ),
    ] = 0,
    replace: Replace = False,
) -> None:
    """Turn trained weights into a model (a bundle) that encodes and decodes.

    Writes graphs and integer tables, and fits frequency tables to photos.
    Proves that the integer networks are exact, and compares the graphs with torch.
    """
    from_bundle = len(paths) == 2 and paths[0].suffix == ".zip"
    refuse_unused(context, from_bundle=from_bundle)
    if triton:
        write_triton(paths, triton, instances)
        return
    if tensorrt:
        write_tensorrt(paths, tensorrt, max_size, max_batch)
        return
    if web:
        write_web(paths, web, web_decoders)
        return
    from trellic_export.bundle import Options, export_bundle
    from trellic_export.checkpoint import import_model, load_model
    from trellic_export.family import model_digest
    from trellic_training.models.weights import save_weights

    *weights, out = paths
    check_paths(weights, out, source, checkpoint, keep, replace=replace)
    if only:
        _slim(weights, only.split(","), out)
        return
    if from_bundle:
        if not (int8 or fp16):
            raise BadParameter(
                f"the bundle {str(weights[0])!r} without a job",
                expected="weights, or with a bundle --int8, --fp16 or --only",
            )
        with _packed(photos, out) if int8 else nullcontext() as for_int8:
            _add_variants(weights[0], out, for_int8, count, int8_graphs, fp16=fp16)
        return
    own = None if source else load_model(weights[0])
    decoders = _kept(decoder or [], out, model_digest(own[0]) if own else None, replace)
    options = Options(
        name=out.stem,
        licence=licence,
        description=description,
        photos=count,
        skip_index=skip_index,
        trellis_step=trellis_step,
        widening=widening,
        lam={"scalar": lam_scalar, "trellis": lam_trellis},
        fit_lam={"scalar": fit_lam_scalar, "trellis": fit_lam_trellis},
    )
    with _packed(photos, out, 3 if own is None else own[0].config.bands) as packed:
        model, facts = own or import_model(source, checkpoint or Path(), packed, count)
        if keep:
            save_weights(model, facts, keep)
        manifest = export_bundle(model, facts, packed, out, options)
        _add_decoders(out, decoders)
        typer.echo(f"{out}: model {manifest.name!r}, stream id {manifest.stream_id}")
        _add_variants(out, out, packed if int8 else None, count, int8_graphs, fp16=fp16)


def _slim(paths: list[Path], names: list[str], out: Path) -> None:
    """Write a bundle with some of its decoders."""
    from trellic.model.bundle import Bundle
    from trellic_export.slim import slim

    if len(paths) != 1 or paths[0].suffix != ".zip":
        raise BadParameter("--only without a bundle", expected="BUNDLE.zip OUT.zip --only NAME,...")
    manifest = slim(Bundle(paths[0]), names, out)
    typer.echo(f"{out}: model {manifest.name!r}, decoders {', '.join(manifest.decoders)}")


def _kept(
    named: list[str], out: Path, encoder: str | None, replace: bool = False
) -> dict[str, TrainedDecoder]:
    """Read decoders before the export, which takes long; write those of whole models to files.

    ``encoder`` is the digest of the one whose latents they must be for, if it is known yet.
    """
    from trellic_export.family import check_encoder, decoder_of
    from trellic_training.models.decoder_weights import load_decoder, save_decoder
    from trellic_training.models.weights import load_weights

    found, whole = {}, []
    for text in named:
        name, equals, path = text.partition("=")
        if not equals or not re.match(NAME_PATTERN, name):
            raise BadParameter(f"--decoder {text!r}", expected="NAME=WEIGHTS, as in fast=fast.pt")
        if re.fullmatch(NETWORKS, name):
            raise BadParameter(
                f"decoder name {name!r}", expected="one that no other network of the bundle has"
            )
        try:
            model, facts = load_weights(Path(path))
        except BadParameter:
            found[name] = load_decoder(Path(path))
        else:
            found[name] = decoder_of(model.float().eval(), facts)
            whole.append(name)
        if encoder is not None:
            check_encoder(encoder, out.stem, name, found[name])
    for name in whole:
        kept = out.with_name(f"{out.stem}-{name}.pt")
        prepare(kept, replace)
        save_decoder(found[name], kept)
        found[name] = load_decoder(kept)
    return found


def _add_decoders(out: Path, decoders: dict[str, TrainedDecoder]) -> None:
    from trellic.model.bundle import Bundle
    from trellic_export.family import add_decoder

    for name, decoder in decoders.items():
        add_decoder(Bundle(out), name, decoder, out)


def _add_variants(
    bundle: Path, out: Path, packed: PackedPhotos | None, count: int, graphs: str, *, fp16: bool
) -> None:
    """Add graphs in 8 bits, if there are photos for them, and in float16."""
    from trellic.model.bundle import Bundle
    from trellic_export.float16 import add_float16
    from trellic_export.int8 import add_int8

    if packed:
        names = [name for name in graphs.split(",") if name]
        made = add_int8(Bundle(bundle), packed, out, photos=count, names=names)
        for name, mixed in made.items():
            typer.echo(
                f"{name} in int8: {mixed.share:.0%} of its work, {mixed.loss:.3f} dB lost on the "
                "photos it was chosen on"
            )
    if fp16:
        added = add_float16(Bundle(out if packed else bundle), out)
        typer.echo(f"in float16, for GPUs: {', '.join(added)}")


@contextmanager
def _packed(photos: Path | None, out: Path, bands: int = 3) -> Iterator[PackedPhotos]:
    """Pack a folder of photos beside the bundle for a while, unless it is packed already."""
    from trellic_training.data.photos import PackedPhotos, pack

    if photos is None:
        raise typer.BadParameter("--photos is missing: a folder of photos to calibrate on")
    if (photos / "photos.json").is_file():
        yield PackedPhotos(photos)
        return
    with TemporaryDirectory(
        prefix=".trellic-photos-", dir=out.parent, ignore_cleanup_errors=True
    ) as folder:
        pack(photos, Path(folder), bands=bands)
        yield PackedPhotos(Path(folder))


def main(arguments: list[str]) -> int:
    """Run with arguments, as ``trellic export`` does."""
    return call(app, arguments, "trellic export", "the export is not complete")
