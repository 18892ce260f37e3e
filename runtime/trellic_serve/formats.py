"""Formats that a picture is sent in, and the choice of one for a client."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from typing import Any, Final

from trellic import images
from trellic.cli.compare import opaque
from trellic.errors import BadImage, BadParameter
from trellic.images import Picture
from trellic.pillow import MIME_TYPE
from trellic_serve.errors import NotAcceptable


@dataclass(frozen=True)
class Format:
    """A format of pictures.

    Attributes
    ----------
    name : in URLs
    mime_type : in headers
    plugin, options : of Pillow, for writing with loss
    """

    name: str
    mime_type: str
    plugin: str = ""
    options: tuple[tuple[str, Any], ...] = ()


TLC: Final = Format("tlc", MIME_TYPE)
AVIF: Final = Format("avif", "image/avif", "AVIF", (("speed", 6),))
WEBP: Final = Format("webp", "image/webp", "WEBP", (("method", 4),))
JPEG: Final = Format("jpeg", "image/jpeg", "JPEG", (("progressive", True), ("optimize", True)))
PNG: Final = Format("png", "image/png", "PNG", (("compress_level", 3),))
FORMATS: Final = {kind.name: kind for kind in (TLC, AVIF, WEBP, JPEG, PNG)}
_PLUGINS: Final = {"AVIF": "Avif", "WEBP": "WebP", "JPEG": "Jpeg", "PNG": "Png"}


def by_name(name: str) -> Format:
    """Return a format; ``jpg`` is another name of ``jpeg``.

    Raises
    ------
    BadParameter
        When there is none of that name.
    """
    kind = FORMATS.get("jpeg" if name == "jpg" else name)
    if kind is None:
        raise BadParameter(f"format {name!r}", expected=f"one of {', '.join(FORMATS)}")
    return kind


def accepted(header: str) -> dict[str, float]:
    """Read an ``Accept`` header: media ranges, lower case, and their weights."""
    found = {}
    for part in header.split(","):
        name, *parameters = (word.strip().lower() for word in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = min(1.0, max(0.0, float(parameter[2:])))
                except ValueError:
                    weight = 0.0
        if name:
            found[name] = weight
    return found


def negotiate(header: str | None) -> tuple[Format, Format]:
    """Choose the format of an answer: for an opaque picture, and for one with alpha.

    Clients that name ``.tlc``, AVIF or WebP get the one that they prefer, and the first of these
    where they prefer several equally. Other clients get JPEG, or PNG if the picture has alpha.

    Parameters
    ----------
    header : ``Accept``; None if there is none

    Raises
    ------
    NotAcceptable
        When the client takes none of them.
    """
    weights = accepted(header or "*/*")
    named = [kind for kind in (TLC, AVIF, WEBP) if weights.get(kind.mime_type, 0) > 0]
    if named:
        best = max(named, key=lambda kind: weights[kind.mime_type])
        return best, best
    anything = weights.get("image/*", weights.get("*/*", 0.0))
    taken = [kind for kind in (JPEG, PNG) if weights.get(kind.mime_type, anything) > 0]
    if not taken:
        raise NotAcceptable(
            "an Accept header without a format of pictures",
            expected=f"one of {', '.join(kind.mime_type for kind in FORMATS.values())}",
        )
    return taken[0], taken[-1]


def write(picture: Picture, kind: Format, quality: float | None) -> bytes:
    """Make a picture file.

    Parameters
    ----------
    kind : any but ``.tlc``
    quality : of JPEG, WebP and AVIF, with the colour profile as the only metadata; None loses
        almost nothing, and keeps all metadata that the format can hold

    Raises
    ------
    BadImage
        When the format cannot hold the picture.
    """
    if kind is JPEG and picture.alpha is not None:
        picture = opaque(picture)
    if quality is None:
        return images.to_bytes(picture, f".{kind.name}")
    image = images.to_pil(picture)
    image.info.clear()
    profile = {"icc_profile": picture.icc} if picture.icc else {}
    file = io.BytesIO()
    importlib.import_module(f"PIL.{_PLUGINS[kind.plugin]}ImagePlugin")
    try:
        image.save(file, kind.plugin, quality=round(quality), **dict(kind.options), **profile)
    except (OSError, ValueError) as error:
        raise BadImage(
            f"a picture of {picture.width}x{picture.height} pixels that {kind.name} cannot hold",
            remedy="ask for png",
        ) from error
    return file.getvalue()
