"""``trellic help``: topics, and the help of commands."""

from __future__ import annotations

from difflib import get_close_matches

import typer

from trellic.cli.topics import TOPICS


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
        close = get_close_matches(name, [*TOPICS, *commands], 1)
        known = f"a topic ({', '.join(TOPICS)}) or a command"
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise typer.BadParameter(f"{name!r} is not {known}{hint}", param_hint="NAME")
