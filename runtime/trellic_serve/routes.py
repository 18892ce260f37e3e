"""The routes of a service."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor

from trellic import bitstream, images
from trellic.cli.info import fields_of
from trellic.constants import (
    DEFAULT_PATCHES,
    DEFAULT_QUALITY,
    DEFAULT_TRELLIS,
    MAX_SIDE,
    TRELLIS_STATES,
    Patching,
    Trellis,
)
from trellic.errors import BadImage, BadParameter
from trellic.images.sniff import picture_format
from trellic.pipeline.region import Region
from trellic_serve import bodies, delivery, formats, metrics, page, problems, ranges, telemetry
from trellic_serve.codecs import Encoding, Stages
from trellic_serve.errors import NotFound, NotReady
from trellic_serve.options import check_names
from trellic_serve.pool import Ticket
from trellic_serve.service import Service

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
router = APIRouter()


class Problem(BaseModel):
    """Body of every answer that is an error."""

    kind: str
    seen: str
    expected: str
    remedy: str
    request_id: str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": words}
    for code, words in {
        400: "a parameter is wrong",
        401: "no API key, or a wrong one",
        408: "the body came too slowly",
        413: "too many bytes or pixels",
        415: "no picture, or no .tlc file",
        422: "damaged, or a target that cannot be met",
        429: "the queue is full: see Retry-After",
        503: "not ready, or not done in time: see Retry-After",
    }.items()
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _client(request: Request) -> None:
    """Check the API key, and note its name."""
    name = _service(request).let_in(request.headers.get("authorization"))
    if name:
        request.state.client = name


def _known(request: Request) -> None:
    """Refuse options in the query that the description of the route does not have."""
    path, method = request.scope["route"].path, request.method.lower()
    described = request.app.openapi()["paths"][path][method].get("parameters", [])
    known = [one["name"] for one in described if one["in"] == "query"]
    check_names([name for name, _ in request.query_params.multi_items()], known)


_KEYED = [Depends(_client)]
_CODING = [*_KEYED, Depends(_known)]


def _readable(path: str, **options: Any) -> Callable[[F], F]:
    """Add a route for GET, and the same for HEAD, which is not described again."""

    def add(function: F) -> F:
        router.get(path, **options)(function)
        router.head(path, **(options | {"include_in_schema": False}))(function)
        return function

    return add


async def _left(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _coded(request: Request, work: Callable[[bytes], tuple[T, Stages]]) -> tuple[T, Stages]:
    """Admit a call, read its body, and do its work in a thread."""
    service = _service(request)
    async with service.open_pool().admit() as ticket:
        start = time.perf_counter()
        data = await bodies.read(request, service.settings.max_bytes, service.settings.read_timeout)
        received = time.perf_counter() - start
        ticket.started = time.monotonic()  # the deadline counts from here
        return await _run(request, ticket, lambda: work(data), {"receive": received})


async def _run(
    request: Request, ticket: Ticket, work: Callable[[], tuple[T, Stages]], before: Stages
) -> tuple[T, Stages]:
    """Run a call's work, and note the seconds of its stages."""
    service, start = _service(request), time.perf_counter()

    def timed() -> tuple[T, Stages]:
        waited = time.perf_counter() - start
        made, stages = work()
        return made, before | {"wait": waited} | stages

    made, stages = await service.open_pool().run(ticket, timed, _left(request))
    service.metrics.stages(stages)
    telemetry.note(stages=stages)
    return made, stages


def _timing(stages: Stages) -> dict[str, str]:
    """Return the header that shows stages in a browser's tools, in milliseconds."""
    parts = [f"{name.replace(' ', '_')};dur={1000 * took:.1f}" for name, took in stages.items()]
    return {"Server-Timing": ", ".join(parts)}


# ---- coding ----


@dataclass(frozen=True)
class How:
    """The kind of file that ``/encode`` makes."""

    trellis: Annotated[
        int, Query(description="states, 0 for none", json_schema_extra={"enum": [*TRELLIS_STATES]})
    ] = DEFAULT_TRELLIS
    strip: Annotated[bool, Query(description="leave metadata out")] = False
    patches: Annotated[
        Patching, Query(description="auto: screens are stored in another way where it pays")
    ] = DEFAULT_PATCHES
    progressive: Annotated[bool, Query(description="any beginning is a picture")] = False
    steady: Annotated[
        bool,
        Query(description="to be decoded and encoded again; mostly takes 20 to 200 times as long"),
    ] = False
    refine: Annotated[bool, Query(description="fewer bytes at high qualities")] = False
    adapter: Annotated[
        str | None, Query(max_length=64, description="name, of those that are served")
    ] = None


@router.post("/encode", dependencies=_CODING, responses=_REFUSALS, openapi_extra=_BODY)
async def encode(
    request: Request,
    how: Annotated[How, Depends()],
    quality: Annotated[
        float | None, Query(ge=1, le=100, description=f"{DEFAULT_QUALITY:g} by default")
    ] = None,
    score: Annotated[
        float | None, Query(gt=-100, le=100, description="SSIMULACRA 2 to reach")
    ] = None,
    bpp: Annotated[float | None, Query(gt=0, le=100, description="bits per pixel")] = None,
    max_bytes: Annotated[int | None, Query(gt=0, description="at most")] = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Make a .tlc file from a picture file."""
    options = vars(how) | {"trellis": cast(Trellis, how.trellis)}
    want = Encoding(model, quality, score, bpp, max_bytes, **options)
    coder = _service(request).coder

    def work(data: bytes) -> tuple[bytes, Stages]:
        start = time.perf_counter()
        picture = delivery.read(data)
        read = time.perf_counter() - start
        stream = coder.encode(picture, want)
        return stream.data, {"read": read} | stream.stages

    data, stages = await _coded(request, work)
    header = bitstream.read_header(data)
    about = {
        "X-Trellic-Quality": f"{header.quality:g}",
        "X-Trellic-Model": coder.codec(model).model,
        "X-Trellic-Size": f"{header.width}x{header.height}",
    }
    return Response(data, media_type=formats.TLC.mime_type, headers=about | _timing(stages))


@router.post("/decode", dependencies=_CODING, responses=_REFUSALS, openapi_extra=_BODY)
async def decode(
    request: Request,
    decoder: Annotated[str | None, Query(max_length=64, description="NAME or NAME:x")] = None,
    width: Annotated[int | None, Query(ge=1, le=MAX_SIDE, description="to fit in")] = None,
    height: Annotated[int | None, Query(ge=1, le=MAX_SIDE, description="to fit in")] = None,
    region: Annotated[str | None, Query(description="x,y,width,height in pixels")] = None,
    format_: Annotated[
        str | None, Query(alias="format", description="png, jpeg, webp or avif")
    ] = None,
    quality: Annotated[
        float | None, Query(ge=1, le=100, description="of that format; nearly no loss without")
    ] = None,
) -> Response:
    """Make a picture file from a .tlc file, as PNG unless another format is named."""
    kind = formats.PNG if format_ is None else formats.by_name(format_, formats.PICTURES)
    part, coder = _region(region), _service(request).coder
    box = delivery.Options(width, height).box

    def work(data: bytes) -> tuple[bytes, Stages]:
        delivery.expect_tlc(data)
        picture, stages = coder.decode(data, decoder=decoder, region=part, box=box)
        start = time.perf_counter()
        file = formats.write(delivery.fit(picture, box), kind, quality)
        return file, stages | {"write": time.perf_counter() - start}

    data, stages = await _coded(request, work)
    return Response(data, media_type=kind.mime_type, headers=_timing(stages))


def _region(text: str | None) -> Region | None:
    if text is None:
        return None
    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError:
        raise BadParameter(f"region {text[:64]!r}", expected="x,y,width,height") from None
    return x, y, width, height


@router.post("/info", dependencies=_CODING, responses=_REFUSALS, openapi_extra=_BODY)
async def info(request: Request) -> JSONResponse:
    """Say what a .tlc file or a picture file holds."""

    def work(data: bytes) -> tuple[dict[str, Any], Stages]:
        if delivery.is_tlc(data):
            bitstream.read(data, MAX_SIDE**2)  # checked; no pixel is decoded
            return {"format": "tlc"} | fields_of(data), {}
        try:
            width, height, deep = images.size_of(data)
        except BadImage as error:
            raise problems.of_picture(error, data) from error
        name = (picture_format(data) or "").lower()
        size = {"width": width, "height": height}
        return {"format": name, **size, "bytes": len(data), "bits": 16 if deep else 8}, {}

    found, _ = await _coded(request, work)
    return JSONResponse(found)


# ---- pictures by URL ----


class _AnyPath(PathConvertor):
    """A path of any characters; Starlette's own ends at a line break."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyPath())


@_readable(
    "/i/{signature}/{options}/{path:any}",
    responses=_REFUSALS
    | {
        206: {"description": "the part that Range asked for, of a .tlc file that is stored"},
        403: {"model": Problem, "description": "not signed, or expired"},
        416: {"model": Problem, "description": "a part behind the end of the file"},
    },
)
async def picture(request: Request, signature: str, options: str, path: str) -> Response:
    """Send a picture of the source as .tlc, AVIF, WebP, JPEG or PNG, as ``Accept`` says."""
    service = _service(request)
    source = service.source
    if source is None:
        raise NotFound("this service has no source of pictures")
    service.check_signature(signature, _signed_path(request, signature))
    asked = delivery.parse(options)
    kinds = formats.negotiate(request.headers.get("accept")) if asked.format is None else None
    chosen = kinds or (asked.format or formats.PNG,) * 2
    known = request.headers.get("if-none-match")

    def work() -> tuple[delivery.Answer, Stages]:
        start = time.perf_counter()
        data = source(path)
        fetched = {"fetch": time.perf_counter() - start}
        made = delivery.answer(service.coder, data, chosen, asked, known)
        return made, fetched | made.stages

    async with service.open_pool().admit() as ticket:
        made, stages = await _run(request, ticket, work, {})
    headers = {
        "ETag": made.etag,
        "Cache-Control": f"public, max-age={_max_age(service, asked)}",
        "Vary": "Accept",
    }
    if made.data is None:
        return Response(status_code=304, headers=headers)
    headers |= _timing(stages)
    sent = ranges.Part(200, made.data, {})
    if made.stored:  # Range means something to GET alone
        asked_part = request.headers if request.method == "GET" else {}
        sent = ranges.part(made.data, made.etag, asked_part)
    return Response(sent.data, sent.status, headers | sent.headers, made.kind.mime_type)


def _signed_path(request: Request, signature: str) -> str:
    """Return the path after the signature, as it is in the URL."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("latin-1").removeprefix(f"/i/{signature}")


def _max_age(service: Service, asked: delivery.Options) -> int:
    """Return the seconds that caches may keep a picture, at most until its URL expires."""
    left = service.settings.max_age
    return left if asked.expires is None else max(0, min(left, asked.expires - int(time.time())))


# ---- the page ----


@_readable("/", include_in_schema=False)
async def start_page(request: Request) -> HTMLResponse:
    """Show a page to drop a photo on."""
    text = resources.files("trellic_serve").joinpath("page.html").read_text("utf-8")
    if not request.app.state.service.settings.web:
        text = text.replace(page.DEMO, "")
    return HTMLResponse(text, headers={"Content-Security-Policy": page.POLICY})


@router.post("/compare", dependencies=_CODING, responses=_REFUSALS, openapi_extra=_BODY)
async def compared(
    request: Request,
    quality: Annotated[float, Query(ge=1, le=100)] = 60,
) -> HTMLResponse:
    """Make a page that compares a photo with the pictures of several codecs at equal bytes."""
    coder = _service(request).coder
    text, _ = await _coded(request, lambda data: (page.make(coder, data, quality), {}))
    return HTMLResponse(text)


# ---- operators ----


@_readable("/health/live")
async def live(request: Request) -> dict[str, str]:
    """Answer as long as the process does."""
    return {"status": "live"}


@_readable("/health/startup", responses={503: {"model": Problem}})
async def started(request: Request) -> dict[str, str]:
    """Answer 200 once the engines are warm."""
    if not _service(request).started:
        raise NotReady("engines are not warm yet")
    return {"status": "started"}


@_readable("/health/ready", responses={503: {"model": Problem}})
async def ready(request: Request) -> dict[str, str]:
    """Answer 200 while the engines are warm and the service does not stop."""
    if not _service(request).ready:
        raise NotReady("engines are not warm yet, or the service stops")
    return {"status": "ready"}


@_readable("/metrics", dependencies=_KEYED)
async def prometheus(request: Request) -> Response:
    """Write counters for Prometheus."""
    return Response(_service(request).metrics.text(), media_type=metrics.CONTENT_TYPE)
