"""TIFF files: by their tags, wrong readings of Pillow are corrected or refused before it loads.

Pillow's table of layouts does not cover all of them. The layouts that it reads correctly were found
by trying all combinations of photometric, bits, byte order, planes, compression, tiles and fill
order.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast

from trellic.errors import BadImage
from trellic.images.samples import Reading

if TYPE_CHECKING:
    from PIL import Image

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 255, 256, 257, 258, 259
_PHOTOMETRIC, _FILL_ORDER, _OFFSETS, _COUNTS, _SAMPLES, _PLANAR = 262, 266, 273, 279, 277, 284
_PALETTE, _TILE_OFFSETS, _TILE_COUNTS, _DIRECTORIES, _INKS = 320, 324, 325, 330, 332
_EXTRA, _FORMAT, _COEFFICIENTS, _SUBSAMPLING, _REFERENCE = 338, 339, 529, 530, 532
_DNG = 50706

_WHITE_IS_ZERO, _RGB, _CMYK, _YCBCR = 0, 2, 5, 6
_KINDS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr"} | {
    8: "Lab",
    9: "Lab",
    10: "Lab",
    32803: "raw camera",
    34892: "raw camera",
    32844: "LogL",
    32845: "LogLuv",
}
_FORMATS = {1: "", 2: "signed ", 3: "floating-point "}
_SHORT_NAMES = ((1, 1), (1, 8), (3, 8))  # photometric and bits of 1, L and P
_REC_601 = (0.299, 0.587, 0.114)
_FULL_RANGE = (0, 255, 128, 255, 128, 255)
_MAX_DIRECTORIES, _MAX_ENTRIES = 32, 4096  # looked at for a larger picture
_NUMBERS = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # types of whole numbers: bytes
_RAW, _SMALLER = (32803, 34892), 1 | 4  # photometrics; flags of reduced versions and masks
_BIG_MOTOROLA = b"MM\0+"
_CR2, _IIQ = b"CR", b"IIII"  # at bytes 8 of Canon's and Phase One's raw files

Tags = Mapping[int, Any]
_ByteOrder = Literal["little", "big"]


def screen(image: Image.Image) -> Reading:
    """Return how to read a TIFF image, or refuse it.

    Parameters
    ----------
    image : PIL.TiffImagePlugin.TiffImageFile
        Opened; loaded or not.

    Returns
    -------
    Reading
        The meaning of Pillow's samples.

    Raises
    ------
    BadImage
        If Pillow would read, or has read, other pixels than are in the file.
    """
    tags: Tags = image.tag_v2  # type: ignore[attr-defined]
    _refuse_thumbnails(image, tags)
    bits, samples = _whole(tags, _BITS, 1), _whole(tags, _SAMPLES, 1)
    photometric, planar = _whole(tags, _PHOTOMETRIC, 0), _whole(tags, _PLANAR, 1) == 2
    if _whole(tags, _FORMAT, 1) == 2:
        refuse(tags, "whose white is not known", "shift it to unsigned samples")
    if planar and not _planes_are_read(tags):
        refuse(
            tags, "in separate planes, which Pillow mixes up", "save it with interleaved samples"
        )
    if photometric == _CMYK and _whole(tags, _INKS, 1) != 1:
        refuse(tags, "of other inks than CMYK", "convert it to RGB")
    if photometric == _YCBCR and samples == 3:
        _refuse_odd_ycbcr(tags)
    inverted = photometric == _WHITE_IS_ZERO and bits == 16
    reading = Reading(bits=bits, peak=4095 if bits == 12 else None, inverted=inverted)
    if not image.tile and (reading.peak or inverted):  # type: ignore[attr-defined]
        refuse(tags, "loaded by Pillow with other values", "open it with trellic.images.read")
    if photometric == 3 and image.tile:  # type: ignore[attr-defined]
        _set_palette(image, tags)
    return reading


def refuse(tags: Tags, why: str, remedy: str) -> NoReturn:
    """Refuse a layout by name."""
    raise BadImage(
        f"a TIFF file of {describe(tags)} {why}",
        expected="8-bit or 16-bit grey or RGB",
        remedy=remedy,
    )


def describe(tags: Tags) -> str:
    """Name the layout, such as ``16-bit grey with 2 samples a pixel``."""
    photometric = _whole(tags, _PHOTOMETRIC, 0)
    kind = _KINDS.get(photometric, f"photometric {photometric}")
    samples = _whole(tags, _SAMPLES, 1)
    count = f" with {samples} samples a pixel" if samples > 1 else ""
    number = _whole(tags, _COMPRESSION, 1)
    packed = f", compression {number}" if number != 1 else ""
    depth = f"{_FORMATS.get(_whole(tags, _FORMAT, 1), '')}{_whole(tags, _BITS, 1)}-bit"
    return f"{depth} {kind}{count}{packed}"


def whole_but_unread(data: bytes) -> str | None:
    """Describe a complete file that Pillow cannot open.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    str or None
        The layout, or None if the file is cut off or damaged.
    """
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if data.startswith(_BIG_MOTOROLA):
        return "big-endian BigTIFF"
    try:
        file = io.BytesIO(data)
        tags = ImageFileDirectory_v2(file.read(16 if 43 in data[2:4] else 8))
        file.seek(tags.next)
        tags.load(file)
        offsets = _TILE_OFFSETS if _TILE_OFFSETS in tags else _OFFSETS
        counts = _TILE_COUNTS if _TILE_OFFSETS in tags else _COUNTS
        blocks = list(zip(tags[offsets], tags[counts], strict=True))
        bits = tags.get(_BITS, (1,))
        sizes = (tags[_WIDTH], tags[_HEIGHT], *bits, _whole(tags, _SAMPLES, 1))
        sound = all(isinstance(n, int) and n > 0 for n in sizes) and max(bits) <= 128
        inside = all(start > 0 and start + count <= len(data) for start, count in blocks)
        return describe(tags) if sound and inside and blocks else None
    except Exception:  # damaged tags raise nearly anything
        return None


def _whole(tags: Tags, tag: int, default: int) -> int:
    """Return an integer, the first one of several."""
    value = tags.get(tag, default)
    if isinstance(value, tuple):
        value = value[0] if value else default
    return value if isinstance(value, int) else default


def _planes_are_read(tags: Tags) -> bool:
    """Return whether Pillow reads separate planes correctly: RGB of 8 bits, or one that counts."""
    extra, samples = tags.get(_EXTRA, ()), _whole(tags, _SAMPLES, 1)
    photometric, bits = _whole(tags, _PHOTOMETRIC, 0), _whole(tags, _BITS, 1)
    plain = _whole(tags, _COMPRESSION, 1) == 1
    if plain and _whole(tags, _FILL_ORDER, 1) != 1:
        return False
    if samples == 1 or (set(extra) == {0} and samples == 1 + len(extra)):
        # The planes that follow are left out; Pillow takes a layout by the first letter of its name
        return not plain or (photometric, bits) in _SHORT_NAMES
    return photometric == _RGB and samples == 3 + len(extra) and bits == 8


def _refuse_odd_ycbcr(tags: Tags) -> None:
    """Refuse YCbCr for which Pillow's own formula is not the right one."""
    compression = _whole(tags, _COMPRESSION, 1)
    plain = compression == 1
    if _whole(tags, _PLANAR, 1) == 2 or (plain and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1)):
        refuse(tags, "with subsampled or separate colour", "convert it to RGB")
    if plain or compression == 7:  # libtiff follows these tags in all others
        coefficients = tuple(map(float, tags.get(_COEFFICIENTS, _REC_601)))
        off = [abs(a - b) for a, b in zip(coefficients, _REC_601, strict=False)]
        reference = tuple(map(float, tags.get(_REFERENCE, _FULL_RANGE)))
        if max(off) > 0.002 or reference != _FULL_RANGE:
            refuse(tags, "with coefficients of its own", "convert it to RGB")


def _set_palette(image: Image.Image, tags: Tags) -> None:
    """Give an image its colours rounded to 8 bits; some writers store 8 bits from the start."""
    from PIL import ImagePalette

    values = tags[_PALETTE]
    scale = 1 if max(values) < 256 else 257
    colours = [(value + scale // 2) // scale for value in values]
    image.palette = ImagePalette.raw("RGB;L", bytes(colours))


# ---- pictures of which the first directory is a thumbnail ----


def _refuse_thumbnails(image: Image.Image, tags: Tags) -> None:
    file = cast("io.BytesIO | None", getattr(image, "fp", None))
    raw = _DNG in tags
    area = _whole(tags, _WIDTH, 0) * _whole(tags, _HEIGHT, 0)
    if file is not None and not raw:
        place = file.tell()
        file.seek(8)
        head = file.read(4)
        raw = head[:2] == _CR2 or head == _IIQ
        first = image.tell() == 0
        raw = raw or (first and any(_is_larger(d, area) for d in _directories(file, tags)))
        file.seek(place)
    if raw:
        refuse(
            tags,
            "that is a preview: the picture itself is raw camera data or in another directory",
            "develop or export it as TIFF or PNG first",
        )


def _is_larger(tags: Tags, area: int) -> bool:
    photometric = _whole(tags, _PHOTOMETRIC, 0)
    larger = _whole(tags, _WIDTH, 0) * _whole(tags, _HEIGHT, 0) > area
    return photometric in _RAW or (larger and not _whole(tags, _SUBFILE, 0) & _SMALLER)


def _directories(file: io.BytesIO, tags: Tags) -> Iterator[Tags]:
    """Go through sub-directories, and those that follow if the first calls itself reduced."""
    places = tags.get(_DIRECTORIES, ())
    waiting = list(places if isinstance(places, tuple) else (places,))[:_MAX_DIRECTORIES]
    reduced = _whole(tags, _SUBFILE, 0) & 1 or _whole(tags, _OLD_SUBFILE, 1) == 2
    following = getattr(tags, "next", 0) if reduced else 0
    order: _ByteOrder = "little" if getattr(tags, "prefix", b"II") == b"II" else "big"
    big = bool(getattr(tags, "_bigtiff", False))
    for _ in range(_MAX_DIRECTORIES):
        chained = not waiting
        place = following if chained else waiting.pop()
        if not isinstance(place, int) or not 0 < place < 2**63:
            return
        found, after = _numbers(file, place, order, big=big)
        following = after if chained else following
        yield found


def _numbers(
    file: io.BytesIO, place: int, order: _ByteOrder, *, big: bool
) -> tuple[dict[int, int], int]:
    """Return the numbers inside a directory, and where the next directory is."""
    word, size, value_at = (8, 20, 12) if big else (4, 12, 8)
    count_bytes = 8 if big else 2
    file.seek(place)
    count = min(int.from_bytes(file.read(count_bytes), order), _MAX_ENTRIES)
    raw = file.read(count * size + word)
    numbers = {}
    for at in range(0, len(raw) - size + 1, size):
        kind = int.from_bytes(raw[at + 2 : at + 4], order)
        value = raw[at + value_at : at + value_at + _NUMBERS.get(kind, 0)]
        numbers[int.from_bytes(raw[at : at + 2], order)] = int.from_bytes(value, order)
    return numbers, int.from_bytes(raw[count * size :], order)
