"""What is fuzzed: bytes in, and either a result or one of Trellic's own exceptions out.

A target is a function of bytes that returns whether they were taken, and raises only if something
is wrong. The first bytes of an input steer the target; the rest is the hostile part. Checksums:
seven times in eight they are taken as right, as if repaired after the mutation, so that fuzzing
gets behind them; otherwise they are checked as usual.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tests.fuzz.deep import deep, deep_seeds, labels, region
from tests.fuzz.pictures import picture_seeds, pictures

from trellic import bitstream, entropy
from trellic.bitstream import container
from trellic.bitstream import contents as layout
from trellic.bitstream.patches import mask_shape
from trellic.codec import Codec
from trellic.entropy import reference
from trellic.errors import StreamError, TrellicError
from trellic.geometry import Rectangle
from trellic.images.av1 import pack_still
from trellic.integer.networks import from_arrays
from trellic.model import archive, bundle, manifest
from trellic.model.quality import LevelTables
from trellic.quantize.trellis import STATES, next_state

DATA = Path(__file__).parents[1] / "data"
TINY = DATA / "tiny.zip"
MAX_PIXELS = 1 << 16
MAX_SYMBOLS = 96
PLAIN_FROM = 248  # inputs of `coder` whose fourth byte is at least this go through both decoders


class Agreeable:
    """A checksum that equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


class Checks:
    """Whether checksums are taken as right; what the container calls in place of its own."""

    agree: Any = None
    crc16, crc32 = layout.crc16, container.crc32

    @classmethod
    @contextmanager
    def steered(cls, steer: int) -> Iterator[None]:
        """Take checksums as right, but for one `steer` in eight."""
        cls.agree = Agreeable() if steer % 8 else None
        try:
            yield
        finally:
            cls.agree = None


def _crc16(data: Any) -> Any:
    return Checks.agree or Checks.crc16(data)


def _crc32(data: Any) -> Any:
    return Checks.agree or Checks.crc32(data)


@contextmanager
def replaced_checks() -> Iterator[None]:
    """Let `Checks` decide for as long as the context lasts."""
    with (
        mock.patch.object(layout, "crc16", _crc16),
        mock.patch.object(container, "crc16", _crc16),
        mock.patch.object(container, "crc32", _crc32),
    ):
        yield


def parser(data: bytes) -> bool:
    """The container: whole streams, prefixes, and what a region needs."""
    steer, rest = data[0], data[1:]
    with Checks.steered(steer):
        try:
            (bitstream.read, bitstream.read_prefix, _region)[steer // 8 % 3](rest)
        except StreamError:
            return False
    return True


def _region(rest: bytes) -> None:
    places = bitstream.read_contents(rest)
    spans = places.needed_for(places.header.slices_touching(Rectangle(0, 9, 3, 70)))
    assert all(span.offset >= 0 and span.length >= 0 for span in spans)


def loader(data: bytes) -> bool:
    """The parts of a bundle: manifest, arrays and what is made of them, zip file."""
    steer, rest = data[0], data[1:]
    try:
        (_manifest, _arrays, _zip)[steer % 3](rest)
    except TrellicError:
        return False
    return True


def _manifest(rest: bytes) -> None:
    manifest.parse(rest, "fuzzed")


def _arrays(rest: bytes) -> None:
    """Change one array of the tiny bundle, then build everything that is built of arrays."""
    arrays = dict(_tiny_arrays())
    edit = np.frombuffer(rest[:12].ljust(12, b"\0"), np.uint32)
    name = sorted(arrays)[int(edit[0]) % len(arrays)]
    changed = arrays[name].copy()
    kinds = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.bool_, np.int64)
    match int(edit[1]) % 4:
        case 0 if changed.size:
            flat = changed.reshape(-1)
            flat[int(edit[2]) % flat.size] = np.frombuffer(
                rest[12:].ljust(flat.itemsize, b"\0")[: flat.itemsize], flat.dtype
            )[0]
        case 1:
            changed = changed.astype(kinds[int(edit[2]) % len(kinds)])
        case 2:
            changed = changed.reshape(-1)[: int(edit[2]) % (changed.size + 1)]
        case _:
            del arrays[name]
    if name in arrays:
        arrays[name] = changed
    bundle.Tables.from_arrays(arrays)
    LevelTables.from_arrays(arrays)
    for network in ("h_s", "context_0", "context_1", "context_2"):
        from_arrays(network, arrays)


def _zip(rest: bytes) -> None:
    archive.load_arrays(rest, "fuzzed")


@cache
def _tiny_arrays() -> dict[str, Any]:
    with zipfile.ZipFile(TINY) as packed:
        return archive.load_arrays(packed.read("normative.npz"), "tiny")


@cache
def _tables() -> bundle.Tables:
    return bundle.Tables.from_arrays(_tiny_arrays())


def coder(data: bytes) -> bool:
    """The entropy decoder with the trellis: compiled, and now and then beside the plain one."""
    steer, payload = data[:4].ljust(4, b"\0"), data[4:]
    lanes, count = 1 << steer[0] % 8, steer[1] % MAX_SYMBOLS
    states = (0, *STATES)[steer[2] % 8]
    segments = _cut(payload, 1 + steer[3] % 3)
    index = [_scale_index()[:count]] * len(segments)
    compiled = _decode(entropy.Decoder, segments, lanes, states, index)
    if steer[3] >= PLAIN_FROM:
        plain = _decode(reference.Decoder, segments, lanes, states, index)
        assert compiled == plain, (compiled, plain)
    return isinstance(compiled, list)


@cache
def _scale_index() -> Any:
    return (7 * np.arange(MAX_SYMBOLS) % _tables().scales).astype(np.uint8)


def _cut(payload: bytes, count: int) -> list[bytes]:
    """Cut a payload into segments; its first bytes say where."""
    places = sorted(byte * len(payload) // 255 for byte in payload[: count - 1])
    places += [len(payload)] * (count - len(places))
    return [payload[a:b] for a, b in zip([0, *places], places, strict=False)]


def _decode(
    make: Callable[..., Any], segments: list[bytes], lanes: int, states: int, index: Any
) -> list[Any] | str:
    """Return what a decoder gives: its symbols, or the kind of its error."""
    out: list[Any] = []
    try:
        decoder = make(segments[0], _tables(), lanes)
        for segment, scale_index in zip(segments, index, strict=True):
            if states:
                k, cls = decoder.trellis(segment, scale_index, next_state(states))
                out += [k.tolist(), cls.tolist()]
            else:
                out.append(decoder.scalar(segment, scale_index).tolist())
        decoder.finish()
    except StreamError as error:
        return type(error).__name__
    return out


@cache
def _codec() -> Codec:
    return Codec(TINY, threads=1)


def decode(data: bytes) -> bool:
    """A whole decode with the tiny model, networks and all."""
    steer, rest = data[0], data[1:]
    with Checks.steered(steer):
        try:
            picture = _codec().decode_picture(rest, max_pixels=MAX_PIXELS)
        except TrellicError:
            return False
    assert picture.width * picture.height <= MAX_PIXELS
    return True


# ---- where fuzzing starts ----


def seeds(name: str) -> list[bytes]:
    """Return inputs that a target takes, to be mutated."""
    if name in ("deep", "region", "labels"):
        return deep_seeds()
    if name == "pictures":
        return picture_seeds()
    streams = [path.read_bytes() for path in sorted((DATA / "golden").glob("*.tlc"))]
    small = _small_streams()
    if name == "parser":
        made = (*streams, *small, *_moved(small[1]), _rich_stream())
        return [b"\1" + data for data in made]
    if name == "decode":
        return [b"\1" + data for data in (*small, _bare_stream(small[0]))]
    if name == "coder":
        return [_coder_seed(lanes, states) for lanes in (0, 2, 5, 6) for states in (0, 2, 7)]
    with zipfile.ZipFile(TINY) as archive:
        manifest = json.dumps(json.loads(archive.read("manifest.json"))).encode()
    file = io.BytesIO()
    np.savez(file, a=np.arange(3), b=np.zeros((2, 2), np.int16))
    edits = [b"\1" + bytes([n, 0, 0, 0, n, 0, 0, 0, 5, 0, 0, 0, 9]) for n in range(16)]
    return [b"\0" + manifest, b"\2" + file.getvalue(), *edits]


def _small_streams() -> list[bytes]:
    y, x = np.mgrid[:48, :80]
    picture = np.stack([(x * 3) % 256, (y * 5) % 256, (x * y) % 256], 2).astype(np.uint8)
    options = [{"quality": 5}, {"quality": 90, "trellis": 0}, {"quality": 40, "trellis": 64}]
    return [_codec().encode(picture, **one) for one in options] + [
        _codec().encode(picture[:1, :1]),
        _codec().encode(picture[..., 0], quality=30),
    ]


def _bare_stream(data: bytes) -> bytes:
    """Return a stream of patches alone: one slice in AV1."""
    stream = bitstream.read(data)
    still = pack_still(_codec().decode(data), 40)
    mask = np.ones(mask_shape(stream.header.height, stream.header.width), np.bool_)
    header = replace(stream.header, bare=True, steps=1, lanes=(1,))
    made = replace(stream, header=header, segments=[b"", b""])
    return bitstream.write(replace(made, patches=bitstream.Patches(mask, (still,))))


def _moved(data: bytes) -> list[bytes]:
    """Return a scalar stream with other lattices in its header, for the parser alone."""
    stream = bitstream.read(data)
    headers = replace(stream.header, dither=7), replace(stream.header, still=True)
    return [bitstream.write(replace(stream, header=header)) for header in headers]


def _rich_stream() -> bytes:
    header = bitstream.Header(600, 20, 1600, 256, 1, b"abcd", (1, 2, 1024), slice_side=16)
    alpha = np.zeros((20, 600), np.uint8)
    alpha[3:9, 100:500] = 77
    chunks = bitstream.Chunks(alpha, icc=b"profile", exif=b"II*\0", xmp=b"<x/>")
    return bitstream.write(bitstream.Stream(header, [bytes(4), b"", bytes(8), bytes(6)], chunks))


def _coder_seed(log2_lanes: int, states_code: int) -> bytes:
    """Return an input of `coder` that decodes: one segment of symbols that fit."""
    count = 80
    states = (0, *STATES)[states_code]
    k = np.random.default_rng(1).integers(-2, 3, count).astype(np.int32)
    cls = np.zeros(count, np.uint16)
    state = np.zeros(1 << log2_lanes, np.uint8)
    for i in range(count if states else 0):
        lane = i % len(state)
        cls[i] = 1 + (state[lane] & 1)
        state[lane] = next_state(states)[state[lane], k[i] & 1]
    table = (cls * _tables().scales + _scale_index()[:count]).astype(np.uint16)
    (segment,) = entropy.encode([entropy.Segment(k, table)], _tables(), 1 << log2_lanes)
    return bytes([log2_lanes, count, states_code, 0]) + segment


TARGETS: dict[str, Callable[[bytes], bool]] = {
    "parser": parser,
    "loader": loader,
    "coder": coder,
    "decode": decode,
    "deep": deep,
    "region": region,
    "labels": labels,
    "pictures": pictures,
}
