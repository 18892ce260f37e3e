"""Facts about a file's samples and colours that Pillow does not read."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from trellic.images import boxes, colour, jpeg, jpeg2000, tiff
from trellic.images.colour import Space, Unknown
from trellic.images.samples import Reading

if TYPE_CHECKING:
    from PIL import Image

_LOST_COLOURS = "its colour space ({}) cannot be kept: the picture will be shown as sRGB"
_LOST_HDR = "an HDR picture ({}): its brightness cannot be kept and it will look pale"
_LOST_GAIN_MAP = "an HDR gain map was left out: the picture keeps its look on ordinary screens"
_AV1_DEEP, _AV1_TWELVE = 0x40, 0x20  # flags in the third byte of av1C
_BMP_LINKED, _BMP_EMBEDDED = b"KNIL", b"DEBM"
_TIFF_COLOURS = (318, 319)  # WhitePoint, PrimaryChromaticities


class Facts(NamedTuple):
    """Facts about a file."""

    reading: Reading = Reading()
    space: Space | None = None  # other than sRGB
    icc: bytes | None = None  # a profile that Pillow leaves out
    losses: tuple[str, ...] = ()  # facts that cannot be kept


def facts_of(image: Image.Image, data: bytes | None) -> Facts:
    """Find out about an opened image before it is loaded.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded or not, of a file or not.
    data : bytes, optional
        Its file, as much of it as is available.

    Returns
    -------
    Facts
        Those of an ordinary 8-bit sRGB picture where nothing else is known.

    Raises
    ------
    BadImage
        If Pillow would read other pixels than are in the file.
    """
    look = {
        "TIFF": lambda: _of_tiff(image),
        "PPM": lambda: Facts(Reading(_bits_of_ppm(image))),
        "HEIF": lambda: _of_heif(image),
    }.get(image.format or "")
    if look is not None:
        return look()
    of_file = _OF_FILES.get(image.format or "")
    if of_file is not None and data is not None:
        return of_file(image, data)
    return _of_chunks(image.info, Facts())  # of a PNG file, also in images made from it


def bytes_of(image: Image.Image) -> bytes | None:
    """Return the file of an image that Pillow has opened but not loaded; None if it is gone."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.format not in _OF_FILES:
        return None
    try:
        place = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(place)
    except (OSError, ValueError, io.UnsupportedOperation):
        return None
    return bytes(data)


def _of_numbers(facts: Facts, primaries: int, transfer: int) -> Facts:
    if transfer in colour.HDR:
        return facts._replace(losses=(*facts.losses, _LOST_HDR.format(colour.HDR[transfer])))
    try:
        return facts._replace(space=colour.from_code_points(primaries, transfer))
    except Unknown as error:
        return facts._replace(losses=(*facts.losses, _LOST_COLOURS.format(error)))


def _of_chunks(info: dict[Any, Any], facts: Facts) -> Facts:
    if "srgb" in info or not ("gamma" in info or "chromaticity" in info):
        return facts
    gamma, primaries = info.get("gamma"), info.get("chromaticity")
    try:
        return facts._replace(space=colour.from_gamma(gamma, primaries))
    except (Unknown, TypeError, ValueError) as error:
        return facts._replace(losses=(*facts.losses, _LOST_COLOURS.format(error)))


def _of_png(image: Image.Image, data: bytes) -> Facts:
    bits = data[24] if len(data) > 24 else 8
    facts = Facts(Reading(max(bits, 8)))
    for name, content in _chunks(data):
        if name == b"cICP" and len(content) == 4:
            return _of_numbers(facts, content[0], content[1])
    return _of_chunks(image.info, facts)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Go through the chunks of a PNG file that come before the pixels."""
    at = 8
    while at + 12 <= len(data):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if name == b"IDAT":
            return
        yield name, data[at + 8 : at + 8 + size]
        at += 12 + size


def _of_avif(image: Image.Image, data: bytes) -> Facts:
    still = boxes.still(data)
    depths = [depth for content in still.find(b"pixi") for depth in content[5:]]
    depths += [
        (12 if content[2] & _AV1_TWELVE else 10)
        for content in still.find(b"av1C")
        if len(content) > 2 and content[2] & _AV1_DEEP
    ]
    facts = Facts(Reading(max(depths, default=8)))
    if still.gain_map:
        facts = facts._replace(losses=(_LOST_GAIN_MAP,))
    for content in still.find(b"colr"):
        if content[:4] == b"nclx" and len(content) >= 8:
            return _of_numbers(facts, *struct.unpack(">HH", content[4:8]))
    return facts


def _of_heif(image: Image.Image) -> Facts:
    """Read the facts that the plugin pillow-heif leaves in ``info``."""
    bits, numbers = image.info.get("bit_depth", 8), image.info.get("nclx_profile") or {}
    facts = Facts(Reading(bits if isinstance(bits, int) else 8))
    unspecified = colour.UNSPECIFIED
    if not isinstance(numbers, dict):
        return facts
    primaries = numbers.get("color_primaries", unspecified)
    return _of_numbers(facts, primaries, numbers.get("transfer_characteristics", unspecified))


def _of_jpeg(image: Image.Image, data: bytes) -> Facts:
    return Facts(losses=(_LOST_GAIN_MAP,) if jpeg.has_gain_map(data) else ())


def _of_jpeg2000(image: Image.Image, data: bytes) -> Facts:
    header = jpeg2000.read_header(data)
    if header is None:
        return Facts()
    return Facts(jpeg2000.screen(header, image.mode), icc=jpeg2000.icc_of(header))


def _of_tiff(image: Image.Image) -> Facts:
    reading = tiff.screen(image)
    tags = image.tag_v2  # type: ignore[attr-defined]
    if "icc_profile" in image.info or not any(tag in tags for tag in _TIFF_COLOURS):
        return Facts(reading)
    try:
        numbers = tuple(float(value) for tag in _TIFF_COLOURS for value in tags[tag])
        return Facts(reading, colour.from_gamma(None, numbers))
    except (Unknown, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        return Facts(reading, losses=(_LOST_COLOURS.format(error),))


def _of_bmp(image: Image.Image, data: bytes) -> Facts:
    """Read the colour space of headers of version 4 and 5."""
    size = int.from_bytes(data[14:18], "little")
    if size < 108:
        return Facts()
    kind = data[70:74]
    if kind == _BMP_EMBEDDED and size >= 124:
        start, length = struct.unpack("<II", data[126:134])
        return Facts(icc=data[14 + start : 14 + start + length] or None)
    losses: tuple[str, ...] = ()
    if kind == _BMP_LINKED or (kind == bytes(4) and any(data[74:122])):
        losses = (_LOST_COLOURS.format("of its own"),)
    return Facts(losses=losses)


def _bits_of_ppm(image: Image.Image) -> int:
    """Return the bits of the greatest value, which Pillow scales to 255 or 65535."""
    for tile in getattr(image, "tile", None) or []:
        arguments = tile[3]
        if isinstance(arguments, tuple) and isinstance(arguments[-1], int):
            return arguments[-1].bit_length()
    return 8


_OF_FILES = {
    "PNG": _of_png,
    "AVIF": _of_avif,
    "JPEG": _of_jpeg,
    "MPO": _of_jpeg,
    "JPEG2000": _of_jpeg2000,
    "BMP": _of_bmp,
}
