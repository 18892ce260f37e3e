"""``trellic serve``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from trellic.cli.options import Device, Precision
from trellic.constants import DEFAULT_MODEL
from trellic.errors import BadParameter
from trellic_serve import server
from trellic_serve.settings import Settings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_DEFAULT = Settings()


class Level(enum.StrEnum):
    """Least level of logs."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8080,
    fd: Annotated[
        int | None, typer.Option(min=3, help="A socket that listens, in place of host and port.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Name or path; may be repeated, the first is default.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where engines run.")] = Device.auto,
    precision: Annotated[Precision, typer.Option(help="Of encoder and decoders.")] = Precision.fp32,
    workers: Annotated[
        int, typer.Option(min=0, help="Calls at once; 0: one a core.")
    ] = _DEFAULT.workers,
    threads: Annotated[int, typer.Option(min=0, help="Of each engine.")] = _DEFAULT.threads,
    queue: Annotated[
        int, typer.Option(min=0, help="Calls that may wait; 0: four a worker.")
    ] = _DEFAULT.queue,
    window: Annotated[
        float, typer.Option(min=0, help="Seconds to collect a batch on a GPU.")
    ] = _DEFAULT.window,
    batch: Annotated[int, typer.Option(min=1, help="Pictures of a batch.")] = _DEFAULT.batch,
    max_bytes: Annotated[
        int, typer.Option(min=1, help="Of a body or a source.")
    ] = _DEFAULT.max_bytes,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of a picture.")] = _DEFAULT.max_pixels,
    max_memory: Annotated[int, typer.Option(min=1, help="Bytes of a call.")] = _DEFAULT.max_memory,
    deadline: Annotated[float, typer.Option(help="Seconds of a call.")] = _DEFAULT.deadline,
    read_timeout: Annotated[
        float, typer.Option(help="Seconds for a request to arrive.")
    ] = _DEFAULT.read_timeout,
    write_timeout: Annotated[
        float, typer.Option(help="Seconds for a client to take some of an answer.")
    ] = _DEFAULT.write_timeout,
    stop_timeout: Annotated[
        float, typer.Option(help="Seconds for running requests at a stop.")
    ] = _DEFAULT.stop_timeout,
    linger: Annotated[
        float, typer.Option(help="Seconds to go on after SIGTERM, not ready.")
    ] = _DEFAULT.linger,
    source: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL that GET /i reads.")
    ] = None,
    max_age: Annotated[
        int, typer.Option(min=0, help="Seconds of Cache-Control.")
    ] = _DEFAULT.max_age,
    signing_keys: Annotated[
        Path | None, typer.Option(help="File with KEY SALT in hex, one pair a line.")
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="GET /i without signatures.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Sources at private addresses.")
    ] = False,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="Sources at loopback addresses.")
    ] = False,
    api_keys: Annotated[Path | None, typer.Option(help="File with NAME KEY, one a line.")] = None,
    web: Annotated[
        Path | None, typer.Option(help="Folder of trellic export --web, served under /web.")
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="No API keys although others can connect.")
    ] = False,
    log_level: Annotated[Level, typer.Option(help="Least level of logs.")] = Level.info,
) -> None:
    """Serve encoding, decoding and pictures by URL over HTTP."""
    settings = Settings(
        models=tuple(model or [DEFAULT_MODEL]),
        device=device.value,
        precision=precision.value,
        workers=workers,
        threads=threads,
        queue=queue,
        window=window,
        batch=batch,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_memory=max_memory,
        deadline=deadline,
        read_timeout=read_timeout,
        write_timeout=write_timeout,
        stop_timeout=stop_timeout,
        warm_first=fd is not None,  # who else accepts from that socket may be warm
        linger=linger,
        source=source,
        max_age=max_age,
        signing_keys=signing_keys,
        allow_unsigned=allow_unsigned,
        allow_private=allow_private,
        allow_loopback=allow_loopback,
        api_keys=api_keys,
        web=web,
    )
    if api_keys is None and not allow_anonymous and (fd is not None or not _is_loopback(host)):
        raise BadParameter(
            f"no API keys, and others than this machine can connect to {host}",
            expected="--api-keys FILE",
            remedy="or --allow-anonymous, where something else keeps strangers out",
        )
    place = (
        server.listen(host, port, write_timeout)
        if fd is None
        else server.inherit(fd, write_timeout)
    )
    with place:
        raise typer.Exit(server.run(settings, place, log_level.value))


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return int(app(list(arguments), prog_name="trellic serve", standalone_mode=False) or 0)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
