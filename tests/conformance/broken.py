"""Streams that every decoder must refuse, made of a good one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product

from trellic import bitstream
from trellic.bitstream.fields import crc16, crc32
from trellic.bitstream.front import SIGNATURE
from trellic.bitstream.layering import Layering
from trellic.codec import Codec
from trellic.errors import CorruptStream


def streams(codec: Codec, good: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the reason and the bytes of each, by name."""
    layout, stream = bitstream.read_contents(good), bitstream.read(good)
    last, head = layout.segment(layout.header.segments - 1), layout.head.end
    parts = list(stream.segments)

    def changed(segments: list[bytes], **fields: object) -> bytes:
        header = dataclasses.replace(stream.header, **fields)  # type: ignore[arg-type]
        return bitstream.write(bitstream.Stream(header, segments))

    def extended(more: bytes) -> bytes:
        """With an extension of the header, and a head check that holds."""
        at = 4 + 3 + 4 + 2  # after signature, fields, stream id and two sizes of one byte
        fields = int.from_bytes(good[4:7], "little") | 1 << 22
        front = good[:4] + fields.to_bytes(3, "little") + good[7:at] + more + good[at : head - 2]
        return sealed(front + crc16(front) + good[head:-4])

    def sealed(body: bytes) -> bytes:
        return body + crc32(body)

    end = parts[-1]
    return {
        "bad-empty": ("no bytes", b""),
        "bad-signature": ("another signature", b"TLB" + good[3:]),
        "bad-version": ("format version 2", sealed(SIGNATURE + b"\x02" + good[4:-4])),
        "bad-reserved": ("a reserved bit is set", _reserved(good, head)),
        "bad-dither": ("a dither seed in a trellis stream", extended(b"\x20" * 5)),
        "bad-flag": ("an unknown flag of the extension", extended(b"\x80")),
        "bad-more-flag": ("an unknown flag of the second byte", extended(b"\x80\x05abcd")),
        "bad-more-empty": ("a second byte of flags without flags", extended(b"\x80\0")),
        "bad-further-flag": ("a still lattice, and a stray byte", extended(b"\x80\x08\x04")),
        "bad-unknown-flag": ("another unknown flag of that byte", extended(b"\x80\x20")),
        "bad-bare": ("patches alone, and no patches", extended(b"\x80\x10")),
        "bad-no-adapter": ("an adapter that is held and not named", extended(b"\x80\x02")),
        "bad-empty-extension": ("an extension without flags", extended(b"\0")),
        "bad-default-side": ("the default slice side spelled out", extended(b"\x10\x10")),
        "bad-model": ("another stream id", changed(parts, stream_id=b"\0\xfa\xca\xde")),
        "bad-cut-head": ("cut inside the head", good[: head - 3]),
        "bad-cut": ("cut by one byte", good[:-1]),
        "bad-tail": ("bytes after the end", good + b"\0\0"),
        "bad-head": ("a flipped bit of the hyper-latents", _flip(good, head - 4)),
        "bad-segment": ("a flipped bit of a segment", _flip(good, layout.segment(1).offset + 3)),
        "bad-last": ("a flipped bit of the last segment", _flip(good, last.offset + 3)),
        "bad-check": ("a flipped bit of the file check", _flip(good, len(good) - 1)),
        "bad-odd": ("an odd last segment", sealed(good[:-4] + b"\0")),
        "bad-words-over": ("words left over", changed([*parts[:-1], end + b"\0\0"])),
        "bad-words-out": ("a group that runs out of words", changed([*parts[:-1], end[:-2]])),
        "bad-final-state": ("a final state that is not 2^16", _final(codec, parts, changed)),
        "bad-steps": ("another number of context steps", changed(parts[:-1], steps=2)),
        "bad-zlib": ("a chunk that is no zlib stream", _chunk(good, head)),
        "bad-still": ("a still lattice in a trellis stream", extended(b"\x80\x08")),
        "bad-still-dither": (
            "a still lattice and a dither seed",
            _forged(stream, trellis=0, still=True, dither=7),
        ),
        "bad-still-model": (
            "a still lattice, of a model without tables for it",
            _forged(stream, trellis=0, still=True),
        ),
    }


def layers(codec: Codec, good: bytes) -> dict[str, tuple[str, bytes]]:
    """Return the reason and the bytes of each, made of a good stream with layers."""
    contents, stream = bitstream.read_contents(good), bitstream.read(good)
    header, parts = stream.header, list(stream.segments)
    short = bitstream.read(bitstream.cut(good, passes=18).data)
    at = good.index(bytes([0b1010, header.passes - 1]), 4 + 3 + 4 + 2)  # three layers of four parts
    front = contents.head.end - 2

    def forged(segments: list[bytes], **fields: object) -> bytes:
        """With a layering that the header's own class refuses."""
        layering = dataclasses.replace(header.layering or Layering())
        for name, value in fields.items():
            object.__setattr__(layering, name, value)
        made = dataclasses.replace(header)
        object.__setattr__(made, "layering", layering)
        return bitstream.write(bitstream.Stream(made, segments))

    def changed(segments: list[bytes], of: bitstream.Stream = stream) -> bytes:
        return bitstream.write(bitstream.Stream(of.header, segments))

    def changed_bits(bits: int) -> bytes:
        """With other bits of the layering, and checks that hold."""
        head = good[:at] + bytes([good[at] | bits]) + good[at + 1 : front]
        body = head + crc16(head) + good[contents.head.end : -4]
        return body + crc32(body)

    inside = contents.segment(header.passes // 2)
    end = short.segments[-1]
    return {
        "bad-layers-bits": ("intervals with a trellis", changed_bits(0x10)),
        "bad-layers-bits-5": ("unknown bits of the layering", changed_bits(0x20)),
        "bad-layers-equal": ("two layers of one quality", forged(parts, below=(480, 480))),
        "bad-layers-falling": ("layers of falling quality", forged(parts, below=(848, 480))),
        "bad-layers-low": ("a layer below quality 1", forged(parts, below=(15, 848))),
        "bad-layers-last": ("a layer as good as the last", forged(parts, below=(480, 1200))),
        "bad-layers-passes": ("more passes than layers have", forged([*parts, b""], kept=37)),
        "bad-layers-many": ("more than 256 passes", _many(stream)),
        "bad-layers-dither": ("layers with dither", _forged(stream, trellis=0, dither=7)),
        "bad-still-layers": ("a still lattice with layers", _forged(stream, trellis=0, still=True)),
        "bad-layers-cut": ("cut in the middle of a segment", good[: inside.offset + 3]),
        "bad-layers-cut-pass": ("cut between two passes", good[: inside.end + 2]),
        "bad-layers-segment": ("a flipped bit of a pass", _flip(good, inside.offset + 1)),
        "bad-layers-final-state": (
            "a final state of the last layer that is not 2^16",
            _final(codec, parts, changed),
        ),
        "bad-layers-words-over": (
            "words left over where a layer is cut",
            changed([*short.segments[:-1], end + b"\0\0"], short),
        ),
        "bad-layers-words-out": (
            "a group that runs out of words where a layer is cut",
            changed([*short.segments[:-1], end[:-2]], short),
        ),
    }


def _many(stream: bitstream.Stream) -> bytes:
    """Return a stream of intervals with more passes than `kept` can say."""
    layering = Layering((100, 200, 300), 8, 256, intervals=True)
    fields = {"layering": layering, "trellis": 0, "steps": 5}
    segments = [stream.segments[0], *[b""] * 256]
    made = dataclasses.replace(stream.header)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return bitstream.write(bitstream.Stream(made, segments))


def _forged(stream: bitstream.Stream, **fields: object) -> bytes:
    """With a header that its own class may refuse."""
    header = dataclasses.replace(stream.header)
    for name, value in fields.items():
        object.__setattr__(header, name, value)
    return bitstream.write(bitstream.Stream(header, stream.segments))


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _final(codec: Codec, parts: list[bytes], write: Callable[[list[bytes]], bytes]) -> bytes:
    """Change a bit so that every word is taken as before, and only the final state tells."""
    *rest, last = parts
    for at, bit in product(range(len(last) - 1, 0, -1), range(8)):
        data = write([*rest, last[:at] + bytes([last[at] ^ 1 << bit]) + last[at + 1 :]])
        try:
            codec.decode(data)
        except CorruptStream as error:
            if "ended in state" in str(error):
                return data
    raise RuntimeError("no bit of the last segment changes the final state alone")


def _reserved(good: bytes, head: int) -> bytes:
    front = good[:6] + bytes([good[6] | 0x80]) + good[7 : head - 2]
    body = front + crc16(front) + good[head:-4]
    return body + crc32(body)


def _chunk(good: bytes, head: int) -> bytes:
    fields = int.from_bytes(good[4:7], "little") | 1 << 22
    front = good[:4] + fields.to_bytes(3, "little") + good[7:13] + b"\x02\x04" + good[13 : head - 2]
    body = front + crc16(front) + b"junk" + crc16(b"junk") + good[head:-4]
    return body + crc32(body)
