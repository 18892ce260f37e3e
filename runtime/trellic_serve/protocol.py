"""HTTP/1.1 of uvicorn, with a time limit for heads; no connection is dropped before its request."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Timed(HttpToolsProtocol):
    """Closes connections that send no head, or send it too slowly."""

    seconds: float  # for a head, from its first byte or from the connection on
    _timer: asyncio.TimerHandle | None = None
    _leaving = False

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of a head."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """Answer; if the service is stopping, this is the last answer of the connection."""
        self._end()
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close an idle connection now, and a new one after the answer to its first request.

        A client that has just connected has sent its request already, or will send it. Closing
        would reset the connection, and the client could not know whether anybody saw the request.
        """
        if self.cycle is None:
            self._leaving = True
        else:
            super().shutdown()

    def _begin(self) -> None:
        self._end()
        self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return the protocol of connections.

    Parameters
    ----------
    seconds : from the connection, or from the first byte of a later request, to the end of a head
    """
    return cast(type[asyncio.Protocol], type("Timed", (Timed,), {"seconds": seconds}))
