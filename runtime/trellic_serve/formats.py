"""Formats that a picture is sent in, and the choice of one for a client."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from trellic import images
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
PICTURES: Final = {name: kind for name, kind in FORMATS.items() if kind is not TLC}
_INSTEAD: Final = "ask for png"
_PLUGINS: Final = {"AVIF": "Avif", "WEBP": "WebP", "JPEG": "Jpeg", "PNG": "Png"}


def by_name(name: str, known: Mapping[str, Format] = FORMATS) -> Format:
    """Return a format; ``jpg`` is another name of ``jpeg``.

    Parameters
    ----------
    known : those that may be named

    Raises
    ------
    BadParameter
        When there is none of that name.
    """
    kind = known.get("jpeg" if name == "jpg" else name)
    if kind is None:
        raise BadParameter(f"format {name!r}", expected=f"one of {', '.join(known)}")
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

    The format with the greatest weight is chosen, and of equal ones the first of ``.tlc``, AVIF,
    WebP, JPEG and PNG. The first three have to be named: ``*/*`` stands for JPEG and PNG alone. A
    picture with alpha is sent as JPEG only to clients that take nothing else.

    Parameters
    ----------
    header : ``Accept``; None if there is none

    Raises
    ------
    NotAcceptable
        When the client takes none of them.
    """
    weights = accepted(header or "*/*")
    others = dict.fromkeys((JPEG, PNG), weights.get("image/*", weights.get("*/*", 0.0)))
    taken = {}
    for kind in FORMATS.values():
        weight = weights.get(kind.mime_type, others.get(kind, 0.0))
        if weight > 0:
            taken[kind] = weight
    if not taken:
        raise NotAcceptable(
            "an Accept header without a format of pictures",
            expected=f"one of {', '.join(kind.mime_type for kind in FORMATS.values())}",
        )
    with_alpha = [kind for kind in taken if kind is not JPEG]
    return max(taken, key=taken.__getitem__), max(with_alpha, key=taken.__getitem__, default=JPEG)


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
        When the format cannot hold the picture: alpha in JPEG, say.
    """
    try:
        images.check_format(picture, f".{kind.name}")
    except BadImage as error:
        raise BadImage(error.seen, expected=error.expected, remedy=_INSTEAD) from error
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
            remedy=_INSTEAD,
        ) from error
    return file.getvalue()
