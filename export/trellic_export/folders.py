"""``trellic export --web``, ``--triton`` and ``--tensorrt``, which convert a bundle."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import typer

from trellic.errors import BadParameter, MissingExtra


def write_web(paths: list[Path], out: Path, decoders: str) -> None:
    """Write a folder for web pages.

    Raises
    ------
    BadParameter
        When there is another number of paths than one.
    """
    from trellic.model.bundle import Bundle, find
    from trellic_export.web import WebOptions, export_web

    if len(paths) != 1:
        raise BadParameter(f"{len(paths)} paths with --web", expected="a bundle, or a model's name")
    names = tuple(name for name in decoders.split(",") if name)
    bundle = Bundle(find(paths[0]))
    files = export_web(bundle, out, WebOptions(names))
    largest = sorted(files, key=lambda name: -files[name])[:5]
    for name in largest:
        typer.echo(f"{files[name] / 1e6:8.2f} MB  {name}")
    total = sum(files.values()) / 1e6
    typer.echo(f"{total:8.2f} MB  in {len(files)} files; open {out / 'demo.html'} through a server")


def write_triton(paths: list[Path], out: Path, instances: int) -> None:
    """Write a model repository for Triton.

    Raises
    ------
    BadParameter
        When there is another number of paths than one.
    """
    from trellic.model.bundle import Bundle, find
    from trellic_export.triton import export_triton

    if len(paths) != 1:
        raise BadParameter(
            f"{len(paths)} paths with --triton", expected="a bundle, or a model's name"
        )
    for name in export_triton(Bundle(find(paths[0])), out, instances):
        typer.echo(name)


def write_tensorrt(paths: list[Path], out: Path, side: int, batch: int) -> None:
    """Write TensorRT engines for this machine's GPU into one file.

    Parameters
    ----------
    side : pixels a side of the largest picture
    batch : pictures of usual size in one run

    Raises
    ------
    BadParameter
        When there is another number of paths than one, or the file has another suffix.
    MissingExtra, EngineError
        When TensorRT or a GPU is missing.
    """
    from rich.progress import Progress

    from trellic.model.bundle import Bundle, find

    if len(paths) != 1:
        raise BadParameter(
            f"{len(paths)} paths with --tensorrt", expected="a bundle, or a model's name"
        )
    if out.suffix != ".engines":
        raise BadParameter(
            f"a file of engines {str(out)!r}", expected="a name that ends in .engines"
        )
    if importlib.util.find_spec("numba_cuda") is None:
        raise MissingExtra.of("numba_cuda", "tensorrt", "TensorRT")
    from trellic.gpu.tensorrt import Target
    from trellic.gpu.tensorrt_file import write_engines

    with Progress(transient=True) as progress:
        progress.add_task("Building TensorRT engines", total=None)
        names = write_engines(Bundle(find(paths[0])), out, Target(side, batch))
    for name in names:
        typer.echo(name)
