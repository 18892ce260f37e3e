"""ICC, EXIF and XMP of a Pillow image, and how it has to be turned.

The orientation is applied to the pixels, so every copy of the tag is set to 1 (upright), in place:
all other bytes, maker notes and thumbnails included, stay as they are. It has one source:

=========================  ======================================================================
TIFF, AVIF, HEIF, JPEG XL  the format's own, which the reader applies or states in EXIF
other opened files         EXIF; XMP where there is none in EXIF
made by a program          what the program has set by `getexif`; else the pixels are as they are
=========================  ======================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trellic.errors import BadParameter
from trellic.images import exif as exif_bytes
from trellic.images.exif import ORIENTATION, UPRIGHT, Dpi
from trellic.images.picture import warn

if TYPE_CHECKING:
    from PIL import Image

# XMP is matched as bytes: its orientation, as an attribute or an element.
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])")
_XMP_KEYS = ("xmp", "XML:com.adobe.xmp")
_STATED_BY_FORMAT = {"TIFF", "AVIF", "HEIF", "HEIC", "JXL"}

# Tags of a TIFF file's first directory that describe the photo and not the storage: image
# description, make, model, software, date, artist, copyright. Then the EXIF and GPS directories.
_TIFF_TAGS = (270, 271, 272, 305, 306, 315, 33432)
_GPS = 0x8825
_TIFF_DIRECTORIES = (0x8769, _GPS)
_NO_DPI = (1.0, 1.0)  # of TIFF files without these tags, in Pillow
_JFIF_UNITS = {1: 1.0, 2: 2.54}  # inch, centimetre: factor to dots per inch


class Metadata(NamedTuple):
    """Metadata of one picture, upright, and how it has to be turned."""

    orientation: int  # 1 to 8, as in EXIF
    icc: bytes | None
    exif: bytes | None  # from the TIFF header on
    xmp: bytes | None


def metadata_of(image: Image.Image, given: Mapping[str, Any], icc: bytes | None = None) -> Metadata:
    """Collect the metadata of an image whose pixels are loaded.

    Parameters
    ----------
    image : PIL.Image.Image
        Any image; loaded, because Pillow turns TIFF images, and fills in some fields, on loading.
    given : mapping
        Metadata that a program gave on saving, instead of the image's own: ``exif`` (its
        orientation counts, then), ``icc_profile``, ``xmp`` and ``dpi``. With None they are left
        out.
    icc : bytes, optional
        The profile of its pixels, such as from `profile_of`.

    Returns
    -------
    Metadata
        Orientation tags found are reported in ``orientation`` and reset in the bytes.

    Raises
    ------
    BadParameter
        If metadata that a program gave is not bytes.
    """
    stored, xmp = _stored_exif(image), _raw_xmp(image)
    current = _changed_exif(image)
    orientation = _orientation(image, stored, xmp, current)
    exif = stored if current is None else _as_it_is_now(stored, current)
    dpi = _dpi_of(image)
    if "exif" in given:
        exif, dpi = _checked(_given(given, "exif")), None
        orientation = (exif_bytes.orientation_of(exif) or UPRIGHT) if exif else orientation
    icc = _given(given, "icc_profile") if "icc_profile" in given else icc
    xmp = _given(given, "xmp") if "xmp" in given else xmp
    dpi = exif_bytes.sensible(given["dpi"]) if "dpi" in given else dpi
    if exif:
        exif = exif_bytes.upright(exif)
    if dpi:
        exif = exif_bytes.with_dpi(exif, dpi[::-1] if orientation > 4 else dpi)
    if xmp:
        xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    return Metadata(orientation, icc, exif, xmp or None)


def profile_of(image: Image.Image) -> bytes | None:
    """Return the profile that Pillow has found, or a program has set, in a loaded image."""
    return _held(image, "icc_profile")


def _given(given: Mapping[str, Any], name: str) -> bytes | None:
    """Return metadata that a program gave on saving."""
    data = _bytes(name, given[name])
    if data is None:
        raise BadParameter(
            f"{name} of type {type(given[name]).__name__}",
            expected="bytes, or None to leave it out",
        )
    return data or None


def _held(image: Image.Image, name: str) -> bytes | None:
    """Return metadata of an image's info; what is not bytes is left out with a warning."""
    data = _bytes(name, image.info.get(name))
    if data is None:
        warn(f"{name} of type {type(image.info[name]).__name__} is not bytes and was left out")
    return data or None


def _bytes(name: str, value: Any) -> bytes | None:
    """Return metadata as Pillow's writers take it: bytes, XMP as text, an object with tobytes.

    None stands for no metadata, which is no bytes. Returns None for anything else.
    """
    if value is None:
        return b""
    if hasattr(value, "tobytes"):
        value = value.tobytes()
    if isinstance(value, str) and name in _XMP_KEYS:
        value = value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None


def load_unturned(image: Image.Image) -> None:
    """Load an image, and keep Pillow from turning a TIFF image by its XMP."""
    if image.format != "TIFF" or not getattr(image, "tile", None):
        image.load()
        return
    hidden = {key: image.info.pop(key) for key in _XMP_KEYS if key in image.info}
    try:
        known = image.getexif()
        if ORIENTATION in known and ORIENTATION not in image.tag_v2:  # type: ignore[attr-defined]
            del known[ORIENTATION]  # from XMP
        image.load()
        image._size = image.im.size  # Pillow plans to turn it even if the tag was deleted
    finally:
        image.info.update(hidden)


def turn(samples: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an array upright.

    Parameters
    ----------
    samples : ndarray, shape (H, W) or (H, W, C)
        Rows and columns as stored.
    orientation : int
        EXIF orientation; anything but 2 to 8 means upright already.

    Returns
    -------
    ndarray
        A view, or a copy, of the same dtype.
    """
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def about_the_photo(read: Callable[[], Image.Exif]) -> bytes | None:
    """Copy the tags of EXIF about the photo, without those about the layout of its file.

    Parameters
    ----------
    read : callable
        Makes the EXIF to copy from; if it fails, or the copy does, there is a warning.

    Returns
    -------
    bytes or None
        Without the orientation, with Pillow's prefix. None if nothing is left.
    """
    from PIL import Image

    kept = Image.Exif()
    try:
        source = read()
        for tag in _TIFF_TAGS:
            if tag in source:
                kept[tag] = source[tag]
        for directory in _TIFF_DIRECTORIES:
            if directory in source and (entries := source.get_ifd(directory)):
                kept[directory] = dict(entries)
        return kept.tobytes() if len(kept) else None
    except Exception:  # Pillow raises nearly anything on a damaged directory
        warn("the EXIF data is damaged and was left out")
        return None


# ---- orientation ----


def _orientation(
    image: Image.Image, stored: bytes | None, xmp: bytes | None, current: Image.Exif | None
) -> int:
    from PIL import ImageFile

    stated = exif_bytes.orientation_of(stored) if stored else None
    match = _XMP_ORIENTATION.search(xmp or b"")
    by_xmp = int(match[2]) if match else None
    set_by_program = _orientation_in(current)
    if not isinstance(image, ImageFile.ImageFile):
        inherited = set_by_program in (stated, by_xmp)
        return UPRIGHT if set_by_program is None or inherited else set_by_program
    if image.format in _STATED_BY_FORMAT and stated is None:
        by_xmp, set_by_program = None, None if set_by_program == by_xmp else set_by_program
    if current is not None:
        return set_by_program or UPRIGHT
    return stated or by_xmp or UPRIGHT


def _orientation_in(exif: Image.Exif | None) -> int | None:
    try:
        value = None if exif is None else exif.get(ORIENTATION)
    except Exception:  # damaged
        return None
    return value if isinstance(value, int) and 1 <= value <= 8 else None


# ---- EXIF ----


def _stored_exif(image: Image.Image) -> bytes | None:
    """Return the EXIF that an image was opened with."""
    exif = _held(image, "exif")
    if exif is None and hasattr(image, "tag_v2"):
        exif = about_the_photo(image.getexif)
    elif exif is None and "Raw profile type exif" in image.info:
        exif = _hex_profile(image.info["Raw profile type exif"])
    return _checked(exif)


def _checked(exif: bytes | None) -> bytes | None:
    """Return EXIF from its TIFF header on, if it has one."""
    exif = exif_bytes.without_prefix(exif or b"")
    if exif and not exif_bytes.is_exif(exif):
        warn("the EXIF data is damaged and was left out")
        return None
    return exif or None


def _changed_exif(image: Image.Image) -> Image.Exif | None:
    """Return the EXIF of an image as it is now, if a program may have changed it."""
    known = getattr(image, "_exif", None)
    if known is None or not getattr(known, "_loaded", False) or hasattr(image, "tag_v2"):
        return None  # that of a TIFF file is read from its tags in any case
    return image.getexif()


def _as_it_is_now(stored: bytes | None, current: Image.Exif) -> bytes | None:
    """Return EXIF with a program's changes; without changes, the stored bytes, which hold more."""
    from PIL import Image

    before = Image.Exif()
    try:
        before.load(stored or b"")
        if _GPS in before and _GPS not in current:
            current._ifds.pop(_GPS, None)  # Pillow would write deleted tags
        now = _content(current)
        if repr(_content(before)) == repr(now):  # a rational 0/0 does not equal itself
            return stored
        if not now:
            return None
        return exif_bytes.without_prefix(current.tobytes())
    except Exception:  # Pillow raises nearly anything on a damaged directory
        return stored


def _content(exif: Image.Exif) -> dict[int, Any]:
    """Return all tags except the orientation, for comparison."""
    content = {tag: exif[tag] for tag in exif if tag != ORIENTATION}
    for directory in _TIFF_DIRECTORIES:
        content[directory] = exif.get_ifd(directory)
        if not content[directory]:
            del content[directory]
    return content


def _hex_profile(text: object) -> bytes | None:
    """Read EXIF as ImageMagick once stored it in PNG: three lines of heading, then hex digits."""
    try:
        return bytes.fromhex("".join(str(text).split("\n")[3:]))
    except ValueError:
        return None


# ---- the rest ----


def _dpi_of(image: Image.Image) -> Dpi | None:
    """Return the resolution that the file states outside its EXIF."""
    if "jfif_unit" in image.info:  # Pillow's dpi may be a mere guess
        factor = _JFIF_UNITS.get(image.info["jfif_unit"])
        density = exif_bytes.sensible(image.info.get("jfif_density"))
        return (density[0] * factor, density[1] * factor) if density and factor else None
    if image.format in ("JPEG", "MPO"):
        return None
    dpi = exif_bytes.sensible(image.info.get("dpi"))
    return None if dpi == _NO_DPI else dpi


def _raw_xmp(image: Image.Image) -> bytes | None:
    return next(filter(None, (_held(image, key) for key in _XMP_KEYS)), None)
