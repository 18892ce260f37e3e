"""A clip as bytes: how each frame is made, and the pictures that this takes.

::

    "TLCV"  version  width  height  frames  rate   each frame: kind, two references, bytes   CRC-32
    then the pictures, one after another, in the order of the frames

Integers are little endian: version uint8, sizes and counts uint16, the rate float32, kinds uint8,
references uint16, bytes uint32; the CRC is of all before it. A frame refers to frames that do not,
in turn, need it.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from trellic.errors import CorruptStream

MAGIC = b"TLCV"
VERSION = 1
HEAD = struct.Struct("<4sBHHHf")
FRAME = struct.Struct("<BHHI")
Kind = Literal["key", "skip", "residual", "own"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""A key and an "own" are pictures; "skip" is the prediction, "residual" adds a picture to it."""


@dataclass(frozen=True)
class Frame:
    """How one frame is made."""

    kind: Kind
    left: int = 0
    right: int = 0
    """Frames that it is predicted from; of no use to pictures."""
    data: bytes = b""

    @property
    def predicted(self) -> bool:
        """Whether it needs its references."""
        return self.kind in ("skip", "residual")


@dataclass(frozen=True)
class Clip:
    """A clip."""

    width: int
    height: int
    rate: float
    """Frames a second."""
    frames: tuple[Frame, ...]


def write(clip: Clip) -> bytes:
    """Return a clip as bytes."""
    parts = [HEAD.pack(MAGIC, VERSION, clip.width, clip.height, len(clip.frames), clip.rate)]
    parts += [FRAME.pack(KINDS.index(f.kind), f.left, f.right, len(f.data)) for f in clip.frames]
    head = b"".join(parts)
    pictures = b"".join(one.data for one in clip.frames)
    return head + struct.pack("<I", zlib.crc32(head)) + pictures


def read(data: bytes) -> Clip:
    """Return the clip of some bytes; the pictures are checked when they are decoded.

    Raises
    ------
    CorruptStream
        It is no clip, its head is damaged, or pictures are missing.
    """
    if len(data) < HEAD.size or not data.startswith(MAGIC):
        raise CorruptStream(f"no clip: {data[:4]!r}", expected=repr(MAGIC))
    _, version, width, height, count, rate = HEAD.unpack_from(data)
    if version != VERSION:
        raise CorruptStream(f"a clip of version {version}", expected=str(VERSION))
    end = HEAD.size + count * FRAME.size
    check = struct.pack("<I", zlib.crc32(data[:end]))
    if data[end : end + 4] != check or not width or not height:
        raise CorruptStream("the head of the clip is damaged", remedy="fetch the file again")
    at, frames = end + 4, []
    for number, row in enumerate(FRAME.iter_unpack(data[HEAD.size : end])):
        frames.append(_frame(number, count, row, data[at : at + row[3]]))
        at += row[3]
    if at != len(data):
        raise CorruptStream(f"a clip of {len(data)} bytes", expected=f"{at} bytes")
    _check_order(frames)
    return Clip(width, height, rate, tuple(frames))


def _frame(number: int, count: int, row: tuple[int, ...], data: bytes) -> Frame:
    kind, left, right, _ = row
    if kind >= len(KINDS):
        raise CorruptStream(f"frame {number} of kind {kind}", expected=f"0 to {len(KINDS) - 1}")
    frame = Frame(KINDS[kind], left, right, data)
    if frame.predicted and not left < number < right < count:
        raise CorruptStream(
            f"frame {number} between {left} and {right}", expected="one before and one after it"
        )
    return frame


def _check_order(frames: Sequence[Frame]) -> None:
    """Check that no frame needs itself, nor long chains of others.

    Loops are halved, so a predicted reference spans about twice what refers to it, or more.
    """
    for number, one in enumerate(frames):
        for reference in (one.left, one.right) if one.predicted else ():
            other = frames[reference]
            if other.predicted and other.right - other.left + 1 < 2 * (one.right - one.left):
                raise CorruptStream(
                    f"frame {number} needs frame {reference}, between {other.left} and "
                    f"{other.right}",
                    expected="a frame that spans twice as many",
                )
