"""JPEG 2000 files: refuses those of which Pillow would read wrong pixels."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from trellic.errors import BadImage
from trellic.images.boxes import content_of, walk
from trellic.images.samples import Reading

_CODESTREAM = b"\xff\x4f\xff\x51"
_MAX_COMPONENTS = 4
_SPACES = {3: (16, 18), 4: (12, 16), 1: (17,), 2: (17,)}  # components: numbers that Pillow follows
_ICC = 2  # method of a colour box


class Header(NamedTuple):
    """Samples and colours of a file."""

    bits: tuple[int, ...]
    signed: bool
    subsampled: bool
    boxes: dict[bytes, bytes]  # the first of each kind in the header; none in a bare codestream


def read_header(data: bytes) -> Header | None:
    """Read the sizes and colours of a file.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    Header or None
        None if it is damaged.
    """
    boxes = {
        box.kind: bytes(box.content) for box in reversed(list(walk(content_of(data, b"jp2h"))))
    }
    start = 0 if data.startswith(_CODESTREAM) else data.find(_CODESTREAM)
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    parts = data[start + 42 : start + 42 + 3 * count]
    if start < 0 or not 0 < count <= _MAX_COMPONENTS or len(parts) < 3 * count:
        return None
    bits = tuple((part & 0x7F) + 1 for part in parts[::3])
    signed = any(part & 0x80 for part in parts[::3])
    return Header(bits, signed, set(parts[1::3] + parts[2::3]) != {1}, boxes)


def icc_of(header: Header) -> bytes | None:
    """Return the profile in the colour box, which Pillow leaves out."""
    colour = header.boxes.get(b"colr", b"")
    return colour[3:] if colour[:1] == bytes([_ICC]) and len(colour) > 3 else None


def screen(header: Header, mode: str) -> Reading:
    """Tell how to read a file, or refuse it.

    Parameters
    ----------
    header : Header
        From `read_header`.
    mode : str
        Chosen by Pillow.

    Returns
    -------
    Reading
        The meaning of Pillow's samples.

    Raises
    ------
    BadImage
        If Pillow would read other pixels than are in the file.
    """
    bits, count = header.bits[0], len(header.bits)
    if header.signed:
        _refuse(header, "signed samples, whose white is not known")
    if max(header.bits) > (8 if count > 1 else 16):
        _refuse(header, "more bits than Pillow can read")
    if (count == 1 and (bits > 8) != (mode == "I;16")) or (mode in ("P", "PA") and bits != 8):
        _refuse(header, f"pixels that Pillow takes for mode {mode}")
    if header.subsampled or set(header.bits) != {bits}:
        _refuse(header, "components that differ in size or depth")
    if b"pclr" in header.boxes and mode not in ("P", "PA"):
        _refuse(header, "a palette that Pillow leaves out")
    colour = header.boxes.get(b"colr", b"")
    number = int.from_bytes(colour[3:7], "big")
    if colour[:1] == b"\x01" and mode not in ("P", "PA") and number not in _SPACES[count]:
        _refuse(header, f"colours of space {number}")
    if not _alpha_is_last(header.boxes.get(b"cdef", b""), count):
        _refuse(header, "channels in an unusual order")
    room = 8 if bits <= 8 else 16
    return Reading(bits, None if bits == room else ((1 << bits) - 1) << (room - bits))


def _alpha_is_last(definitions: bytes, count: int) -> bool:
    """Tell whether channels are in their usual order, and the last of 2 or 4 is plain alpha."""
    for at in range(2, len(definitions) - 5, 6):
        channel, kind, place = (
            int.from_bytes(definitions[i : i + 2], "big") for i in (at, at + 2, at + 4)
        )
        last = count in (2, 4) and channel == count - 1
        if (kind, place) not in (((1, 0), (0, channel + 1)) if last else ((0, channel + 1),)):
            return False
    return True


def _refuse(header: Header, why: str) -> NoReturn:
    depth = "/".join(map(str, sorted(set(header.bits))))
    raise BadImage(
        f"a JPEG 2000 file of {len(header.bits)} components, {depth} bits, with {why}",
        expected="8-bit colour, or grey of up to 16 bits",
        remedy="convert it to PNG or TIFF first",
    )
