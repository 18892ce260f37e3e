"""Recognise a file by its first bytes: known picture formats, and other common kinds."""

from __future__ import annotations

# (offset, bytes there, Pillow's name of the format)
_PICTURES = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (8, b"WEBP", "WEBP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"\xff\x4f\xff\x51", "JPEG2000"),
    (0, b"\0\0\0\x0cjP  ", "JPEG2000"),
    (0, b"qoif", "QOI"),
    *((0, b"P%d" % digit, "PPM") for digit in range(1, 7)),
)

# (offset, bytes there, what it is); the first match wins.
_OTHERS = (
    (0, b"TLC\x01", "a .tlc file (compressed already; trellic decode reads it)"),
    (0, b"TLC", "a .tlc file of another version"),
    (4, b"ftyphei", "an HEIC picture (convert it to PNG or JPEG first)"),
    (4, b"ftypmif1", "an HEIF picture (convert it to PNG or JPEG first)"),
    (0, b"\xff\x0a", "a JPEG XL picture (convert it to PNG first)"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture (convert it to PNG first)"),
    (4, b"ftyp", "a video or another ISO media file"),
    (0, b"P7\n", "a PAM picture (convert it to PNG first)"),
    (0, b"PF\n", "a PFM picture of floating-point pixels"),
    (0, b"Pf\n", "a PFM picture of floating-point pixels"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript file"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x93NUMPY", "a NumPy array (load it and use trellic.encode)"),
    (0, b"\x7fELF", "a program"),
)
_LOOK = 512  # bytes looked at


def picture_format(data: bytes) -> str | None:
    """Return the picture format that some bytes begin with.

    Parameters
    ----------
    data : bytes
        The beginning of a file, or all of it.

    Returns
    -------
    str or None
        Pillow's name of the format, or None if Trellic cannot read it.

    Examples
    --------
    >>> picture_format(b"GIF89a")
    'GIF'
    """
    for offset, signature, name in _PICTURES:
        if data[offset : offset + len(signature)] == signature:
            return name
    # The brand avif may be the major one or any of the compatible ones that follow it.
    if data[4:8] == b"ftyp" and (b"avif" in data[8:64] or b"avis" in data[8:64]):
        return "AVIF"
    return None


def describe(data: bytes) -> str:
    """Name the kind of some bytes, as a noun phrase.

    Parameters
    ----------
    data : bytes
        The beginning of a file, or all of it.

    Returns
    -------
    str
        Such as ``'a text file'``, ``'an empty file'`` or ``'a PDF document'``.

    Examples
    --------
    >>> describe(b"")
    'an empty file'
    >>> describe(b"hello")
    'a text file'
    """
    if not data:
        return "an empty file"
    if name := picture_format(data):
        return f"a picture in {name} format"
    for offset, signature, name in _OTHERS:
        if data[offset : offset + len(signature)] == signature:
            return name
    head = data[:_LOOK]
    if b"<svg" in head:
        return "an SVG drawing"
    if _is_text(head):
        return "a text file"
    return f"unknown data (first bytes {head[:4].hex(' ')})"


def _is_text(head: bytes) -> bool:
    """Return whether the bytes are UTF-8 text, maybe cut inside the last character."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _LOOK or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(char.isprintable() or char in "\t\r\n\f\ufeff" for char in text)
