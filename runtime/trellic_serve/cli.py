"""``trellic serve``."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from trellic.cli.options import Device, Precision, size
from trellic.cli.topics import epilog
from trellic.constants import DEFAULT_MODEL, MAX_THREADS
from trellic.errors import BadParameter
from trellic_serve import server
from trellic_serve.app import create_app
from trellic_serve.settings import Settings

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_DEFAULT = Settings()


class Level(enum.StrEnum):
    """Lowest level of messages to log."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


@app.command(epilog=epilog("serve"))
def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, max=65535, help="Port to listen on; 0 takes any that is free."
        ),
    ] = 8080,
    fd: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=3, help="Listening socket to use instead of --host and --port."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Model to serve; may be repeated, and the first one is the default.",
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help="Adapter to serve beside its model, chosen by POST /encode?adapter=NAME; may be "
            "repeated.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the networks run.")] = Device.auto,
    precision: Annotated[
        Precision, typer.Option(help="Precision of the encoder and the decoders.")
    ] = Precision.fp32,
    workers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Calls to run at once; 0: one per core.")
    ] = _DEFAULT.workers,
    threads: Annotated[
        int, typer.Option(metavar="N", min=0, max=MAX_THREADS, help="Threads of each engine.")
    ] = _DEFAULT.threads,
    queue: Annotated[
        int, typer.Option(metavar="N", min=0, help="Calls that may wait; 0: four per worker.")
    ] = _DEFAULT.queue,
    window: Annotated[
        float, typer.Option(metavar="S", min=0, help="Seconds to collect a batch for a GPU.")
    ] = _DEFAULT.window,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most pictures in a batch for a GPU.")
    ] = _DEFAULT.batch,
    max_bytes: Annotated[
        int,
        typer.Option(
            metavar="SIZE", parser=size, help="Largest request body or source file, such as 64M."
        ),
    ] = _DEFAULT.max_bytes,
    max_pixels: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most pixels of a picture.")
    ] = _DEFAULT.max_pixels,
    max_memory: Annotated[
        int,
        typer.Option(metavar="SIZE", parser=size, help="Most memory for one call, such as 4G."),
    ] = _DEFAULT.max_memory,
    deadline: Annotated[
        float, typer.Option(metavar="S", help="Seconds that one call may take.")
    ] = _DEFAULT.deadline,
    read_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds in which a request must arrive.")
    ] = _DEFAULT.read_timeout,
    write_timeout: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds to wait for a client that reads no answer."),
    ] = _DEFAULT.write_timeout,
    stop_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds to let running requests finish at a stop.")
    ] = _DEFAULT.stop_timeout,
    linger: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds to keep serving, as not ready, after SIGTERM."),
    ] = _DEFAULT.linger,
    source: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="Folder or fsspec URL that GET /i reads from."),
    ] = None,
    max_age: Annotated[
        int, typer.Option(metavar="S", min=0, help="max-age of Cache-Control, in seconds.")
    ] = _DEFAULT.max_age,
    signing_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with a KEY and a SALT in hex on each line."),
    ] = None,
    allow_unsigned: Annotated[
        bool, typer.Option("--allow-unsigned", help="Accept GET /i without a signature.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Accept sources at private addresses.")
    ] = False,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="Accept sources at loopback addresses.")
    ] = False,
    api_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with a NAME and a KEY on each line.")
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder from trellic export --web, served under /web."),
    ] = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous", help="Need no API keys, even if other machines can connect."
        ),
    ] = False,
    log_level: Annotated[Level, typer.Option(help="Lowest level of messages to log.")] = Level.info,
) -> None:
    """Run an HTTP service that encodes, decodes and delivers pictures."""
    settings = Settings(
        models=tuple(model or [DEFAULT_MODEL]),
        adapters=tuple(adapter or ()),
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
        warm_first=fd is not None,  # another process that accepts from that socket may be warm
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
            f"no API keys, but other machines can connect to {host}",
            expected="--api-keys FILE",
            remedy="or --allow-anonymous, if something else keeps strangers out",
        )
    app = create_app(settings)  # before it listens: what cannot be used is an error of the command
    place = (
        server.listen(host, port, write_timeout)
        if fd is None
        else server.inherit(fd, write_timeout)
    )
    with place:
        raise typer.Exit(server.run(app, place, log_level.value))


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return int(app(list(arguments), prog_name="trellic serve", standalone_mode=False) or 0)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
