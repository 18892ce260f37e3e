"""Errors for files that Pillow cannot read: damaged files, and whole ones with another layout."""

from __future__ import annotations

import re

from trellic.errors import BadImage
from trellic.images import jpeg, tiff

_FOREIGN = re.compile(
    r"unsupported|not (yet )?supported|cannot handle|not implemented|unknown raw mode",
    re.IGNORECASE,
)
_TOO_MUCH_TEXT = "Decompressed data too large"
_OTHER = "8-bit or 16-bit grey or RGB in a common layout"


def unreadable(kind: str, reason: str, data: bytes | None) -> BadImage:
    """Make the error for a file that Pillow could not open or load.

    Parameters
    ----------
    kind : str
        Pillow's name of the format.
    reason : str
        The message of Pillow.
    data : bytes, optional
        The file, as much of it as is available.

    Returns
    -------
    BadImage
        "truncated or damaged" is said only of files that are not known to be whole.
    """
    reason = " ".join(reason.split())
    layout = None
    if data is not None and kind == "TIFF":
        layout = tiff.whole_but_unread(data)
    elif data is not None and kind in ("JPEG", "MPO"):
        layout = jpeg.unread_kind(data)
    if layout is None and _FOREIGN.search(reason):
        layout = reason
    if layout is not None:
        return BadImage(
            f"a {kind} file of a layout that is not read ({layout})",
            expected=_OTHER,
            remedy="convert it in an image editor",
        )
    if _TOO_MUCH_TEXT in reason:
        return BadImage(
            f"a {kind} file with more than 1 MiB of text or profile in one chunk",
            remedy="save it without metadata",
        )
    told = f" ({reason})" if reason else ""
    return BadImage(f"a truncated or damaged {kind} file{told}", remedy="get a whole copy of it")
