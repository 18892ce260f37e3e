"""The application: routes, their envelope, and the start and the stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NoReturn, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from trellic import __version__
from trellic_serve import routes
from trellic_serve.envelope import Envelope
from trellic_serve.errors import BadRequest, MethodNotAllowed, NotFound
from trellic_serve.service import Service
from trellic_serve.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application, for any ASGI server.

    Parameters
    ----------
    settings : of the service

    Returns
    -------
    application, whose ``state.service`` is its `Service`

    Raises
    ------
    TrellicError
        When a model, a file of keys or the folder of sources cannot be used.
    """
    service = Service(settings or Settings())

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(service.start())  # probes are answered meanwhile
        if service.settings.warm_first:
            await starting
        yield
        service.stop()
        await starting
        await service.close()

    app = FastAPI(
        title="Trellic",
        version=__version__,
        description="A learned image codec as a service. Errors have a JSON body: kind, what was "
        "seen, what was expected, the remedy.",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,  # answers are ours, or errors in JSON
    )
    app.state.service = service
    app.include_router(routes.router)
    if service.settings.web:
        app.mount("/web", StaticFiles(directory=service.settings.web), name="web")
    app.add_middleware(Envelope, service=service, write_timeout=service.settings.write_timeout)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


async def _invalid(request: Request, error: Exception) -> NoReturn:
    """Report what FastAPI found in a request's parameters as an error of Trellic."""
    found = cast(RequestValidationError, error).errors()[0]
    name = ".".join(map(str, found["loc"][1:])) or "request"
    raise BadRequest(f"{name} {str(found.get('input'))[:64]!r}", expected=found["msg"]) from None


async def _http(request: Request, error: Exception) -> NoReturn:
    found = cast(HTTPException, error)
    if found.status_code == 405:
        raise MethodNotAllowed(f"{request.method} of this path", _methods(found)) from None
    raise NotFound("no such path", expected="one of /openapi.json") from None


def _methods(error: HTTPException) -> str:
    """Return the methods that a path takes, of Starlette's error: one route's, or of files none."""
    allowed = (error.headers or {}).get("Allow", "GET")
    return "GET, HEAD" if "GET" in allowed else allowed
