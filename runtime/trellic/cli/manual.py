"""``trellic help``: topics, and the help of commands."""

from __future__ import annotations

import typer

from trellic.cli.topics import TOPICS
from trellic.support.names import did_you_mean


def run(context: typer.Context, name: str | None) -> None:
    """Print a topic, the help of a command, or the list of both.

    Raises
    ------
    typer.BadParameter
        If there is neither a topic nor a command of that name.
    """
    program = context.find_root().command
    commands = getattr(program, "commands", {})
    if name is None:
        typer.echo(f"Topics:   {', '.join(TOPICS)}")
        typer.echo(f"Commands: {', '.join(commands)}")
        typer.echo("\ntrellic help NAME explains one of them.")
    elif name in TOPICS:
        typer.echo(TOPICS[name])
    elif name in commands:
        program([name, "--help"], prog_name="trellic")
    else:
        known = f"a topic ({', '.join(TOPICS)}) or a command"
        parts = (f"{name!r} is not {known}", did_you_mean(name, [*TOPICS, *commands]))
        raise typer.BadParameter("; ".join(filter(None, parts)), param_hint="NAME")
