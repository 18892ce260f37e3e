"""``GET /i``: options of the URL, and the conversion of a source for the client."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from trellic import __version__, images
from trellic.constants import MAX_SIDE, TRELLIS_STATES, Trellis
from trellic.errors import BadImage, BadParameter, NotATrellicFile
from trellic.images import Picture
from trellic.pipeline import memory
from trellic.pipeline.region import Region, to_rectangle
from trellic_serve import problems
from trellic_serve.codecs import Coder, Encoding, Stages
from trellic_serve.errors import Forbidden
from trellic_serve.formats import JPEG, TLC, Format, by_name, write
from trellic_serve.options import check_names

OTHER_QUALITY = 60.0  # of AVIF, WebP and JPEG, if the URL names none


@dataclass(frozen=True)
class Options:
    """Options of a URL; `NAMES` has their short names.

    Attributes
    ----------
    width, height : of the box that the picture is fitted into; it is never enlarged
    quality : of the format that is sent
    format : a name; None lets the client's ``Accept`` choose
    decoder : of a ``.tlc`` source
    region : x, y, width, height of the part to send, in pixels of the source
    trellis, model : of a ``.tlc`` answer
    expires : Unix time from which on the URL is refused
    """

    width: int | None = None
    height: int | None = None
    quality: float | None = None
    format: Format | None = None
    decoder: str | None = None
    region: Region | None = None
    trellis: Trellis = 32
    model: str | None = None
    expires: int | None = None

    @property
    def box(self) -> tuple[int, int] | None:
        """Box that the picture is fitted into."""
        if self.width is None and self.height is None:
            return None
        return self.width or MAX_SIDE, self.height or MAX_SIDE


class Answer(NamedTuple):
    """A picture to send; without bytes if the client has it already.

    ``stored`` says that the bytes are those of the source: only then are they the same on each
    machine, so that parts of them may be sent.
    """

    etag: str
    kind: Format
    data: bytes | None
    stages: Stages
    stored: bool = False


def _side(text: str) -> int:
    side = int(text)
    if not 1 <= side <= MAX_SIDE:
        raise ValueError
    return side


def _quality(text: str) -> float:
    quality = float(text)
    if not 1 <= quality <= 100:
        raise ValueError
    return quality


def _region(text: str) -> Region:
    x, y, width, height = map(int, text.split(":"))
    return x, y, width, height


def _trellis(text: str) -> Trellis:
    if int(text) not in TRELLIS_STATES:
        raise ValueError
    return cast(Trellis, int(text))


NAMES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "w": ("width", _side),
    "h": ("height", _side),
    "q": ("quality", _quality),
    "f": ("format", by_name),
    "d": ("decoder", str),
    "r": ("region", _region),
    "t": ("trellis", _trellis),
    "m": ("model", str),
    "exp": ("expires", int),
}


def parse(text: str) -> Options:
    """Read the options of a URL: ``w:300,q:60``, or ``_`` for none.

    Raises
    ------
    BadParameter
        When one is not known, is given twice or is out of range.
    Forbidden
        When the URL has expired.
    """
    parts = [] if text == "_" else [part.partition(":") for part in text.split(",")]
    check_names([name for name, _, _ in parts], NAMES)
    asked = Options(**{NAMES[name][0]: _value(name, value) for name, _, value in parts})
    if asked.expires is not None and asked.expires <= time.time():
        raise Forbidden("a URL that has expired", remedy="ask for a new one")
    return asked


def _value(name: str, text: str) -> Any:
    """Read the value of an option."""
    field, convert = NAMES[name]
    try:
        return convert(text)
    except (ValueError, OverflowError) as error:
        if isinstance(error, BadParameter):
            raise
        seen = f"option {f'{name}:{text}'!r}"
        raise BadParameter(seen, expected=f"a {field} in its range") from None


def answer(
    coder: Coder, data: bytes, kinds: tuple[Format, Format], options: Options, known: str | None
) -> Answer:
    """Make an answer from a source's bytes.

    Parameters
    ----------
    data : of a picture file, or a ``.tlc`` file
    kinds : formats for an opaque picture, and for one with alpha
    known : ``If-None-Match`` of the client

    Raises
    ------
    TrellicError
        When the source cannot be read or coded.
    """
    etag, kind = _etag(coder, data, kinds, options), kinds[0]
    if known is not None and (known.strip() == "*" or etag in map(str.strip, known.split(","))):
        return Answer(etag, kind, None, {})
    stages: Stages = {}
    if is_tlc(data):
        if kind is TLC and (options.box, options.region, options.quality) == (None,) * 3:
            return Answer(etag, kind, data, stages, stored=True)
        picture, stages = coder.decode(
            data, decoder=options.decoder, region=options.region, box=options.box
        )
    else:
        start = time.perf_counter()
        picture = cut(read(data), options.region)
        stages["read"] = time.perf_counter() - start
    picture = fit(picture, options.box)
    kind = kinds[picture.alpha is not None]
    if kind is TLC:
        want = Encoding(options.model, options.quality, trellis=options.trellis)
        stream = coder.encode(picture, want)
        return Answer(etag, kind, stream.data, stages | stream.stages)
    start = time.perf_counter()
    if kind is JPEG:  # the URL or the client takes nothing that holds alpha
        picture = images.on_colour(picture, "white")
    quality = OTHER_QUALITY if options.quality is None else options.quality
    sent = write(picture, kind, quality)
    return Answer(etag, kind, sent, stages | {"write": time.perf_counter() - start})


def is_tlc(data: bytes) -> bool:
    """Tell a ``.tlc`` file from a picture file."""
    return data[:3] == b"TLC"


def read(data: bytes) -> Picture:
    """Read a picture file.

    Raises
    ------
    NotAPicture, DamagedPicture
    ImageTooLarge
        When its header says that it is above the limits of the call; no pixel is decoded then.
    """
    try:
        memory.check_reading(data)
        return images.from_bytes(data)
    except BadImage as error:
        raise problems.of_picture(error, data) from error


def expect_tlc(data: bytes) -> bytes:
    """Return the bytes of a ``.tlc`` file.

    Raises
    ------
    NotATrellicFile
    """
    if not is_tlc(data):
        raise NotATrellicFile(images.describe(data), expected="a .tlc file")
    return data


def cut(picture: Picture, region: Region | None) -> Picture:
    """Return a region of a picture.

    Raises
    ------
    BadParameter
        When it does not lie inside.
    """
    if region is None:
        return picture
    index = to_rectangle(region, picture.width, picture.height).index()
    alpha = None if picture.alpha is None else np.ascontiguousarray(picture.alpha[index])
    pixels = np.ascontiguousarray(picture.pixels[index])
    return Picture(pixels, alpha, picture.icc, picture.exif, picture.xmp)


def fit(picture: Picture, box: tuple[int, int] | None) -> Picture:
    """Shrink a picture into a box, with its shape kept; colours count by their opacity."""
    if box is None:
        return picture
    from PIL import Image

    shrink = max(picture.width / box[0], picture.height / box[1])
    if shrink <= 1:
        return picture
    size = tuple(max(1, round(side / shrink)) for side in (picture.width, picture.height))
    image = images.to_pil(picture)
    mode = image.mode
    # Pillow weights by opacity in the modes with a small a.
    small = image.convert({"RGBA": "RGBa", "LA": "La"}.get(mode, mode)).resize(
        cast(tuple[int, int], size), Image.Resampling.LANCZOS, reducing_gap=3.0
    )
    made = np.asarray(small.convert(mode))
    if picture.alpha is None:
        return Picture(made, None, picture.icc, picture.exif, picture.xmp)
    pixels = made[..., 0] if picture.grey else made[..., :3]
    alpha = np.ascontiguousarray(made[..., -1])
    return Picture(np.ascontiguousarray(pixels), alpha, picture.icc, picture.exif, picture.xmp)


def _etag(coder: Coder, data: bytes, kinds: tuple[Format, Format], options: Options) -> str:
    """Return a tag of an answer that depends on all that decides the answer."""
    codec = coder.codec(options.model)
    names = [kind.name for kind in kinds]
    made = (__version__, codec.bundle.manifest.stream_id, names, options)
    digest = hashlib.sha256(repr(made).encode() + hashlib.sha256(data).digest())
    return f'"{digest.hexdigest()[:32]}"'
