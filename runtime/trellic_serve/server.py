"""Run a service: sockets, signals, a graceful stop."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from trellic.errors import BadParameter
from trellic_serve import logs
from trellic_serve.protocol import protocol
from trellic_serve.service import Service

_log = logging.getLogger("trellic_serve")
_CONNECTIONS_A_CALL = 32  # with idle ones; more get 503
_KEEP_ALIVE = 5  # seconds between two requests
_SETTLE = 0.1  # seconds in which the loop notices connections that the system has accepted


class Server(uvicorn.Server):
    """uvicorn's server, which keeps answering for a while when it is asked to stop.

    Parameters
    ----------
    config : of uvicorn
    service : its probes say whether it is ready
    linger : seconds to keep answering, so that load balancers notice
    """

    def __init__(self, config: uvicorn.Config, service: Service, linger: float) -> None:
        super().__init__(config)
        self._service, self._linger = service, linger
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully; a second signal stops at once."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
            return
        _log.info("stopping", extra={"fields": {"linger": self._linger}})
        self._service.stop()
        if self._loop is None or not self._linger:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, self._linger, self._leave)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, then end connections, with those that were just accepted."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_SETTLE)
        await super().shutdown(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop, which is also so when the models did not load."""
        return await super().on_tick(counter) or self._service.failed is not None

    def _leave(self) -> None:
        self.should_exit = True


def listen(host: str, port: int, write_timeout: float) -> socket.socket:
    """Open the socket to listen on.

    Parameters
    ----------
    write_timeout : seconds after which the system drops a client that takes no more bytes

    Raises
    ------
    BadParameter
        When the address cannot be listened on.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        raise BadParameter(f"{host} port {port}: {error}", expected="one to listen on") from error
    return _impatient(found, write_timeout)


def inherit(descriptor: int, write_timeout: float) -> socket.socket:
    """Take over a listening socket, so that no connection is lost when services change.

    Raises
    ------
    BadParameter
        When it is not one.
    """
    try:
        found = socket.socket(fileno=os.dup(descriptor))
        found.getsockname()
    except OSError as error:
        raise BadParameter(f"descriptor {descriptor}", expected="a socket that listens") from error
    return _impatient(found, write_timeout)


def run(app: FastAPI, place: socket.socket, log_level: str = "info") -> int:
    """Serve until a signal comes.

    Parameters
    ----------
    app : from `trellic_serve.app.create_app`
    place : to listen on
    log_level : "debug", "info", "warning" or "error"

    Returns
    -------
    exit code: 0, or 1 when the models did not load
    """
    logs.configure(log_level)
    service: Service = app.state.service
    settings = service.settings
    calls = settings.workers_on(False) + settings.queue_for(settings.workers_on(False))
    config = uvicorn.Config(
        app,
        http=protocol(settings.read_timeout),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS_A_CALL * calls,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=math.ceil(settings.stop_timeout),
    )
    server = Server(config, service, settings.linger)
    host, port = place.getsockname()[:2]
    print(f"serving on http://{_shown(host)}:{port}", file=sys.stderr, flush=True)
    server.run([place])
    return int(service.failed is not None)


def _impatient(place: socket.socket, seconds: float) -> socket.socket:
    """Set how long a client of this socket may read nothing; its connections inherit that."""
    if hasattr(socket, "TCP_USER_TIMEOUT") and place.family != socket.AF_UNIX:
        place.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))
    return place


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
