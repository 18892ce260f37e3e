"""The envelope of every request: an id, a log line, metrics, and an answer if it fails."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trellic_serve import problems, telemetry
from trellic_serve.pool import Gone

if TYPE_CHECKING:
    from trellic_serve.service import Service

_log = logging.getLogger("trellic_serve")
_CHUNK: Final = 1 << 16  # bytes that are sent at once
_GONE: Final = 499  # the client has gone, so nobody sees it; nginx uses the same number
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class _Exchange:
    """One request and its state; the answer to HEAD is ``bare``, without its body."""

    request_id: str
    bare: bool = False
    start: float = field(default_factory=time.perf_counter)
    status: int = 0
    read: int = 0
    sent: int = 0
    kind: str = ""


class Envelope:
    """ASGI middleware.

    Parameters
    ----------
    app : answers the request
    service : keeps the metrics; its state decides whether connections stay open
    write_timeout : seconds in which a client must take a part of the answer
    """

    def __init__(self, app: ASGIApp, service: Service, write_timeout: float) -> None:
        self._app, self._service, self._seconds = app, service, write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _ID.fullmatch(asked) else uuid.uuid4().hex
        exchange = _Exchange(request_id, bare=scope["method"] == "HEAD")
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        telemetry.note(exchange.request_id)
        sender = self._sender(exchange, send)
        try:
            await self._app(scope, self._receiver(exchange, receive), sender)
        except Exception as error:
            await self._fail(exchange, error, sender)
        finally:
            self._note(exchange, scope)

    def _receiver(self, exchange: _Exchange, receive: Receive) -> Receive:
        async def counted() -> Message:
            message = await receive()
            exchange.read += len(message.get("body", b""))
            return message

        return counted

    def _sender(self, exchange: _Exchange, send: Send) -> Send:
        async def timed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", []), *self._headers(exchange)]
                await send(message)
                return
            body, more = message.get("body", b""), message.get("more_body", False)
            body = b"" if exchange.bare else body
            for begin in range(0, max(1, len(body)), _CHUNK):
                part = body[begin : begin + _CHUNK]
                last = begin + _CHUNK >= len(body)
                await asyncio.wait_for(
                    send({**message, "body": part, "more_body": more or not last}), self._seconds
                )
                exchange.sent += len(part)

        return timed

    def _headers(self, exchange: _Exchange) -> list[tuple[bytes, bytes]]:
        found = [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        ]
        return [*found, (b"connection", b"close")] if self._service.stopping else found

    async def _fail(self, exchange: _Exchange, error: Exception, send: Send) -> None:
        """Answer with the error, if nothing is sent yet."""
        if isinstance(error, Gone):
            exchange.status, exchange.kind = _GONE, "Gone"
            return
        if exchange.status:  # the answer has begun: the client sees that it is cut off
            exchange.kind = type(error).__name__
            if not isinstance(error, TimeoutError):
                _log.error("an answer was cut off", exc_info=error, extra=_fields(exchange))
            raise error
        status = problems.status_of(error)
        exchange.kind = "InternalError" if status == 500 else type(error).__name__
        if status == 500:
            _log.error("a fault of the service", exc_info=error, extra=_fields(exchange))
        body = json.dumps(problems.body_of(error, exchange.request_id)).encode()
        headers = problems.headers_of(error) | {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
        }
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    def _note(self, exchange: _Exchange, scope: Scope) -> None:
        seconds = time.perf_counter() - exchange.start
        route, metrics = _route(scope), self._service.metrics
        metrics.request(route, exchange.status, seconds, exchange.read, exchange.sent)
        if exchange.kind:
            metrics.error(exchange.kind)
        fields = {
            "method": scope["method"],
            "route": route,
            "status": exchange.status,
            "seconds": round(seconds, 4),
            "bytes_in": exchange.read,
            "bytes_out": exchange.sent,
        }
        state = scope["state"]
        fields |= {name: state[name] for name in ("client",) if name in state}
        fields |= {"kind": exchange.kind} if exchange.kind else {}
        level = logging.DEBUG if route.startswith("/health") else logging.INFO
        _log.log(level, "request", extra=_fields(exchange, fields))


def _fields(exchange: _Exchange, more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"fields": {"request_id": exchange.request_id} | (more or {})}


def _route(scope: Scope) -> str:
    """Return the pattern that a request fits, so that labels stay few."""
    return str(getattr(scope.get("route"), "path", "none"))
