"""Write a picture to a file, in the format that its suffix names."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trellic.errors import BadImage, BadParameter
from trellic.images.bands import SUFFIX as NPY
from trellic.images.bands import to_npy
from trellic.images.exif import PREFIX, dpi_of
from trellic.images.metadata import about_the_photo
from trellic.images.modes import ImageLike, from_any
from trellic.images.picture import Picture, to_array, warn
from trellic.support.files import write_atomically

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo


class _Format(NamedTuple):
    """Pillow's arguments to write a format, and the limits of the format."""

    name: str
    plugin: str
    options: dict[str, Any]
    modes: tuple[str, ...] = ("L", "RGB")
    metadata: tuple[str, ...] = ()
    max_side: int = 65535  # pixels


_ALL = ("L", "LA", "RGB", "RGBA")
_PNG = _Format("PNG", "PngImagePlugin", {"compress_level": 3}, _ALL, ("icc", "exif", "xmp"))
# The lossy formats are set so that their loss is well below that of Trellic.
_JPEG = _Format(
    "JPEG",
    "JpegImagePlugin",
    {"quality": 95, "subsampling": 0},
    metadata=("icc", "exif", "xmp"),
    max_side=65500,
)
_WEBP = _Format(
    "WEBP", "WebPImagePlugin", {"lossless": True}, _ALL, ("icc", "exif", "xmp"), max_side=16383
)
_TIFF = _Format("TIFF", "TiffImagePlugin", {}, _ALL, ("icc", "exif", "xmp"))
_BMP = _Format("BMP", "BmpImagePlugin", {})
_PPM = _Format("PPM", "PpmImagePlugin", {})
_AVIF = _Format(
    "AVIF",
    "AvifImagePlugin",
    {"quality": 95, "subsampling": "4:4:4"},
    _ALL,
    ("icc", "exif", "xmp"),
)
_ARRAY = _Format("NPY", "", {})
_BY_SUFFIX = {
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".jpe": _JPEG,
    ".jfif": _JPEG,
    ".webp": _WEBP,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": _BMP,
    ".ppm": _PPM,
    ".pgm": _PPM,
    ".pnm": _PPM,
    ".avif": _AVIF,
    NPY: _ARRAY,
}
_NO_MODE = "decode it to an array, or write .npy"
_XMP_TAG = 700  # in a TIFF directory
_JPEG_MARKER = 65533  # bytes that a marker holds
_JPEG_HEADINGS = {"exif": PREFIX, "xmp": b"http://ns.adobe.com/xap/1.0/\0"}


def suffixes() -> tuple[str, ...]:
    """Suffixes of the formats that can be written, in lower case, with the dot."""
    return tuple(_BY_SUFFIX)


def same_format(one: str, other: str) -> bool:
    """Whether two of the suffixes name the same format."""
    return _BY_SUFFIX[one] is _BY_SUFFIX[other]


def to_pil(picture: ImageLike) -> Image.Image:
    """Make a Pillow image from a picture.

    Parameters
    ----------
    picture : Picture, or anything else that `trellic.encode` takes
        Any picture.

    Returns
    -------
    PIL.Image.Image
        Mode L, LA, RGB or RGBA; ``icc_profile``, ``exif``, ``xmp`` and ``dpi`` in its
        ``info``, where Pillow's own readers leave them.

    Raises
    ------
    BadImage
        If it has other bands than red, green and blue.
    """
    from PIL import Image

    picture = from_any(picture, None)
    if picture.mode not in _ALL:
        raise BadImage(
            f"a picture of {picture.mode}, which Pillow has no mode for", remedy=_NO_MODE
        )
    image = Image.fromarray(to_array(picture))
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = PREFIX + picture.exif
        if dpi := dpi_of(picture.exif):
            image.info["dpi"] = dpi
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    return image


def prepare(suffix: str) -> None:
    """Load the modules that `to_bytes` will need for a suffix, if they are installed."""
    from PIL import Image

    Image.preinit()
    kind = _BY_SUFFIX.get(suffix.lower())
    if kind is not None and kind is not _ARRAY:
        with contextlib.suppress(ImportError):
            importlib.import_module(f"PIL.{kind.plugin}")


def to_bytes(picture: ImageLike, suffix: str = ".png") -> bytes:
    """Make a picture file in memory.

    Parameters
    ----------
    picture : Picture, or anything else that `trellic.encode` takes
        Any picture.
    suffix : str
        One of `suffixes`, in either case. JPEG and AVIF lose a little, the others nothing.

    Returns
    -------
    bytes
        The whole file, with the metadata that the format can hold.

    Raises
    ------
    BadParameter
        If no format has that suffix.
    BadImage
        If the format cannot hold the picture: alpha in JPEG, 4 bands in PNG, 16384 pixels a side in
        WebP. If it is not a picture.
    """
    picture = from_any(picture, None)
    kind = check_format(picture, suffix)
    if kind is _ARRAY:
        return to_npy(picture)
    try:
        importlib.import_module(f"PIL.{kind.plugin}")
        file = io.BytesIO()
        image = to_pil(picture)
        image.info.clear()  # Pillow would store some of it unasked
        image.save(file, kind.name, **kind.options, **_metadata(picture, kind))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise BadImage(
            f"a picture of {picture.width}x{picture.height} pixels that cannot be written "
            f"as {kind.name} ({error})",
            remedy="write .png instead",
        ) from error
    return file.getvalue()


def write(path: str | os.PathLike[str], picture: ImageLike) -> None:
    """Write a picture file, replacing an existing one in one step.

    Parameters
    ----------
    path : str or path-like
        Where to; the suffix chooses the format.
    picture : Picture, or anything else that `trellic.encode` takes
        Any picture.

    Raises
    ------
    BadParameter, BadImage
        See `to_bytes`.
    OSError
        If the file cannot be written; nothing is left behind then.
    """
    write_atomically(path, to_bytes(picture, Path(path).suffix))


def check_format(picture: Picture, suffix: str) -> _Format:
    """Return the format of a suffix, if it can hold the picture.

    Raises
    ------
    BadParameter, BadImage
        See `to_bytes`.
    """
    kind = _BY_SUFFIX.get(suffix.lower())
    if kind is None:
        raise BadParameter(f"the suffix {suffix!r}", expected="one of " + ", ".join(_BY_SUFFIX))
    if kind is not _ARRAY:
        _check(picture, kind)
    return kind


def _check(picture: Picture, kind: _Format) -> None:
    if picture.mode not in _ALL:
        raise BadImage(
            f"a picture of {picture.mode}, which {kind.name} cannot hold", remedy=_NO_MODE
        )
    if picture.mode not in kind.modes:
        raise BadImage(
            f"a picture with transparency, which {kind.name} cannot hold",
            remedy="write .png, .webp or .tiff instead, or name a colour to put behind it "
            "(trellic decode --background)",
        )
    if max(picture.width, picture.height) > kind.max_side:
        raise BadImage(
            f"a picture of {picture.width}x{picture.height} pixels",
            expected=f"at most {kind.max_side} a side in a {kind.name} file",
            remedy="write .png instead",
        )


def _metadata(picture: Picture, kind: _Format) -> dict[str, Any]:
    """Arguments of Pillow's save for the metadata that the format holds."""
    held = {name: getattr(picture, name) for name in kind.metadata}
    if kind is _JPEG:
        for name, heading in _JPEG_HEADINGS.items():
            if len(held[name] or b"") > _JPEG_MARKER - len(heading):
                warn(f"{len(held[name])} bytes of {name.upper()} are too many for JPEG: left out")
                held[name] = None
    arguments: dict[str, Any] = {}
    if picture.exif and (dpi := dpi_of(picture.exif)):
        arguments["dpi"] = dpi
    if held.get("icc"):
        arguments["icc_profile"] = held["icc"]
    if kind is _TIFF:
        return arguments | {"exif": _tiff_tags(picture)}
    if held.get("exif"):
        arguments["exif"] = PREFIX + held["exif"]
    if held.get("xmp") and kind is _PNG:
        arguments["pnginfo"] = _xmp_chunk(held["xmp"])
    elif held.get("xmp"):
        arguments["xmp"] = held["xmp"]
    return arguments


def _xmp_chunk(xmp: bytes) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return chunks


def _tiff_tags(picture: Picture) -> Image.Exif:
    """EXIF and XMP as entries of a TIFF directory."""
    from PIL import Image

    def read() -> Image.Exif:
        exif = Image.Exif()
        exif.load(PREFIX + (picture.exif or b""))
        return exif

    tags = Image.Exif()
    tags.load((about_the_photo(read) if picture.exif else None) or b"")
    if picture.xmp:
        tags[_XMP_TAG] = picture.xmp
    return tags
