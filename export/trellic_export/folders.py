"""``trellic export --web`` and ``--triton``: folders made of a bundle."""

from __future__ import annotations

from pathlib import Path

import typer

from trellic.errors import BadParameter


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
