"""Hostile and damaged bytes: every flip and cut is found, no length is believed."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellic import bitstream
from trellic.bitstream import Chunks, Header, Stream, container
from trellic.bitstream import contents as layout
from trellic.errors import (
    CorruptStream,
    ImageTooLarge,
    NotATrellicFile,
    StreamError,
    TruncatedStream,
    UnsupportedVersion,
)

ID = b"\xde\xad\xbe\xef"


def payload(*lengths):
    random = np.random.default_rng(7)
    return [random.bytes(length) for length in lengths]


def plain():
    return Stream(Header(300, 200, 960, 8, 3, ID, (4,)), payload(20, 8, 0, 6))


def sliced():
    alpha = np.zeros((20, 1500), np.uint8)
    alpha[3:9, 100:900] = 77
    head = Header(1500, 20, 160, 0, 2, ID, (4, 1), grey=True)
    parts = payload(20, 8, 10, 0, 4)
    return Stream(head, parts, Chunks(alpha, icc=b"profile", exif=b"II*\0", xmp=b"<x/>"))


def small_slices():
    head = Header(600, 20, 1600, 256, 1, ID, (1, 2, 1024), slice_side=16)
    return Stream(head, payload(4, 0, 8, 600), Chunks(icc=b"p"))


def still():
    return Stream(Header(90, 40, 700, 0, 2, ID, (2,), still=True), payload(20, 8, 6))


STREAMS = [plain, sliced, small_slices, still]


def flips(data):
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield changed


@pytest.mark.parametrize("make", STREAMS)
def test_every_flipped_bit_is_found(make):
    for changed in flips(bitstream.write(make())):
        with pytest.raises(StreamError):
            bitstream.read(changed)


@pytest.mark.slow("every bit of streams")
@pytest.mark.parametrize("make", STREAMS)
def test_a_prefix_never_holds_a_flipped_bit(make):
    stream = make()
    data = bitstream.write(stream)
    head = bitstream.read_contents(data).head.end
    for number, changed in enumerate(flips(data)):
        if number < 8 * head:
            with pytest.raises(StreamError):
                bitstream.read_prefix(changed)
            continue
        part = bitstream.read_prefix(changed)
        assert not part.whole
        assert all(a in (None, b) for a, b in zip(part.segments, stream.segments, strict=True))
        assert part.chunks.icc in (None, stream.chunks.icc)
        assert part.chunks.alpha is None or np.array_equal(part.chunks.alpha, stream.chunks.alpha)


@pytest.mark.parametrize("make", STREAMS)
def test_every_cut_is_found(make):
    data = bitstream.write(make())
    for length in range(len(data)):
        with pytest.raises(StreamError):
            bitstream.read(data[:length])


@pytest.mark.parametrize("make", STREAMS)
@pytest.mark.parametrize("more", [b"\0", b"\0\0", b"another.", b"TLC\x01"])
def test_bytes_after_the_end_are_refused(make, more):
    with pytest.raises(CorruptStream):
        bitstream.read(bitstream.write(make()) + more)


def test_swapped_segments_are_found():
    stream = sliced()
    stream.segments[1], stream.segments[2] = bytes(8), b"\1" * 8
    data = bitstream.write(stream)
    first = bytes(8) + bitstream.fields.crc16(bytes(8))
    second = b"\1" * 8 + bitstream.fields.crc16(b"\1" * 8)
    assert first + second in data
    with pytest.raises(CorruptStream, match="of the file"):
        bitstream.read(data.replace(first + second, second + first))


# ---- one error for each fault ----


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"hello, I am a text", b"TL ", b"\0"])
def test_other_files(data):
    with pytest.raises(NotATrellicFile):
        bitstream.read(data)


@pytest.mark.parametrize("data", [b"T", b"TL", b"TLC", b"TLC\x01", b"TLC\x01\xc0\x13"])
def test_beginnings_of_a_stream(data):
    with pytest.raises(TruncatedStream):
        bitstream.read(data)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions(version):
    data = bytearray(bitstream.write(plain()))
    data[3] = version
    with pytest.raises(UnsupportedVersion, match=f"version {version}"):
        bitstream.read(data)


def test_cut_sliced_streams_are_called_cut():
    data = bitstream.write(sliced())
    for length in range(4, len(data)):
        with pytest.raises(TruncatedStream):
            bitstream.read(data[:length])


def forge(fields, sizes, extension, table):
    """Spell a header of any fields."""
    return b"TLC\x01" + struct.pack("<I", fields)[:3] + ID + sizes + extension + table


FIELDS = 960 | 2 << 11  # quality 60, 8 states, 1 lane, one step
SCALAR = 960 | 1 << 22  # the same without a trellis, and with an extension
SIZES = b"\x13\x09"
TABLE = bytes([0b00010_10_0])  # one entry of 2 bits: 2 words


def seal(head):
    """Complete a forged header to a stream of z (4 zeros) and an empty step."""
    body = head + bytes(4)
    body += bitstream.fields.crc16(body)
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_the_forger_can_make_a_good_stream():
    assert bitstream.read(seal(forge(FIELDS, SIZES, b"", TABLE))).header.width == 20


@pytest.mark.parametrize(
    ("fields", "sizes", "extension", "table", "error", "message"),
    [
        (FIELDS | 1 << 23, SIZES, b"", TABLE, UnsupportedVersion, "reserved"),
        (FIELDS & ~0x7FF | 15, SIZES, b"", TABLE, CorruptStream, "quality"),
        (FIELDS & ~0x7FF | 1601, SIZES, b"", TABLE, CorruptStream, "quality"),
        (FIELDS | 11 << 14, SIZES, b"", TABLE, CorruptStream, "lanes"),
        (FIELDS, b"\x93\x00\x09", b"", TABLE, CorruptStream, "needless"),
        (FIELDS, b"\x80\x80\x00\x09", b"", TABLE, CorruptStream, "needless"),
        (FIELDS, b"\xff\xff\x03\x09", b"", TABLE, CorruptStream, "width in pixels of 65536"),
        (FIELDS, b"\x09\xff\xff\x7f", b"", TABLE, CorruptStream, "height in pixels of 2097152"),
        (FIELDS, b"\xff\xff\xff\x01\x09", b"", TABLE, CorruptStream, "more than 3 bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x00", TABLE, CorruptStream, "empty"),
        (FIELDS | 1 << 22, SIZES, b"\x20\0\0\0\0", TABLE, CorruptStream, "dither with 8"),
        (FIELDS | 1 << 22, SIZES, b"\x80", TABLE, CorruptStream, "patches chunk has no bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x40\x20\0", TABLE, UnsupportedVersion, "bits 0x20"),
        (FIELDS | 1 << 22, SIZES, b"\x40\x02\0\x20\0\x20\0", TABLE, CorruptStream, "rising"),
        (FIELDS | 1 << 22, SIZES, b"\x40\x01\0\x0f\0", TABLE, CorruptStream, "rising"),
        (FIELDS | 1 << 22, SIZES, b"\x40\x01\0\x40\x40", TABLE, CorruptStream, "quality 16448"),
        (FIELDS | 1 << 22, SIZES, b"\x40\0\x01", TABLE + b"\0", CorruptStream, "2 passes"),
        (FIELDS | 1 << 22, SIZES, b"\x60\0\0\0\0\0\0", TABLE, CorruptStream, "dither with 8"),
        (FIELDS | 1 << 22, SIZES, b"\x80\x20", TABLE, UnsupportedVersion, "further flags 0x20"),
        (FIELDS | 1 << 22, SIZES, b"\x80\x10", TABLE, CorruptStream, "neither latents nor patches"),
        (FIELDS | 1 << 22, SIZES, b"\x80\x08", TABLE, CorruptStream, "still lattice with a tr"),
        (SCALAR, SIZES, b"\xa0\1\0\0\0\x08", TABLE, CorruptStream, "still lattice with a tr"),
        (SCALAR, SIZES, b"\xc0\0\0\x08", TABLE, CorruptStream, "still lattice with a trellis"),
        (FIELDS | 1 << 22, SIZES, b"\x82\x01", TABLE, CorruptStream, "patches chunk has no bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x02\x00", TABLE, CorruptStream, "no bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x02\xff\xff\xff\xff\x01", TABLE, CorruptStream, "4 bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x02\xff\xff\xff\x7f", TABLE, TruncatedStream, "bytes"),
        (FIELDS | 1 << 22, SIZES, b"\x10\x10", TABLE, CorruptStream, "side of 64"),
        (FIELDS | 1 << 22, SIZES, b"\x10\x03", TABLE, CorruptStream, "side of 12"),
        (FIELDS, SIZES, b"", b"\0\0", CorruptStream, "entries of 0 bits"),
        (FIELDS, SIZES, b"", bytes([0b00011_01_0, 0]), CorruptStream, "shortest"),
        (FIELDS, SIZES, b"", bytes([0b00010_10_1]), CorruptStream, "shortest"),
        (FIELDS, SIZES, b"", b"\xff\xff\xff\xff\xf0", TruncatedStream, "hyper-latents"),
    ],
)
def test_forged_headers(fields, sizes, extension, table, error, message):
    with pytest.raises(error, match=message):
        bitstream.read(seal(forge(fields, sizes, extension, table)))


def test_an_odd_last_segment_is_refused():
    data = seal(forge(FIELDS, SIZES, b"", TABLE))[:-4] + b"!"
    with pytest.raises(CorruptStream, match="odd"):
        bitstream.read(data + zlib.crc32(data).to_bytes(4, "little"))


def test_lane_counts_of_further_slices_are_checked():
    # 1025 pixels wide: two slices; 1011 lanes, width 2, then 2 0 0 words
    table = bytes([0b1011_0001, 0b0_10_00_00_0])
    head = forge(FIELDS, b"\x80\x08\x09", b"", table)
    with pytest.raises(CorruptStream, match="lanes"):
        bitstream.read(seal(head))


# ---- nothing large is made for what a header merely says ----


def test_pixels_are_checked_first():
    data = seal(forge(FIELDS, SIZES, b"", TABLE))
    assert bitstream.read(data, max_pixels=200).header.height == 10
    for reader in (bitstream.read, bitstream.read_prefix):
        with pytest.raises(ImageTooLarge, match=r"20 x 10 pixels.*199"):
            reader(data, max_pixels=199)


def test_a_huge_picture_in_few_bytes_takes_no_memory():
    sizes = b"\xfe\xff\x03" * 2  # 65535 x 65535, side 16: 65,536 slices
    for table in (b"", bytes(40), b"\xff" * 40):
        data = forge(FIELDS | 7 << 18 | 1 << 22, sizes, b"\x10\x04", table) + bytes(40)
        tracemalloc.start()
        with pytest.raises(StreamError):
            bitstream.read(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


def test_the_largest_picture_can_be_written():
    # 65535 x 65535 at the default side: 4096 slices
    head = Header(65535, 65535, 960, 8, 1, ID, (1,) * 4096)
    data = bitstream.write(Stream(head, [bytes(4)] * head.segments))
    assert len(bitstream.read(data, max_pixels=2**33).segments) == 4097
    with pytest.raises(ImageTooLarge):
        bitstream.read(data)


# ---- anything goes, as long as it is an error of ours ----


class Agreeable:
    """A checksum that equals everything, so that fuzzing gets behind the checks."""

    def __eq__(self, other):
        return True

    def __ne__(self, other):
        return False

    __hash__ = None


@pytest.fixture(scope="module")
def no_checks():
    with pytest.MonkeyPatch.context() as patch:
        for module in (layout, container):
            patch.setattr(module, "crc16", lambda data: Agreeable())
        patch.setattr(container, "crc32", lambda data: Agreeable())
        yield


def read_anyhow(data):
    for reader in (bitstream.read, bitstream.read_prefix):
        try:
            stream = reader(data, max_pixels=2**20)
        except StreamError:
            continue
        assert len(stream.segments) == stream.header.segments


@settings(max_examples=300)
@given(st.binary(max_size=120))
def test_random_bytes_behind_a_signature(no_checks, data):
    read_anyhow(b"TLC\x01" + data)


GOOD = [bitstream.write(make()) for make in STREAMS]


@settings(max_examples=300)
@given(st.sampled_from(GOOD), st.lists(st.tuples(st.integers(0), st.binary(max_size=4))))
def test_mangled_streams_with_right_checks(no_checks, good, changes):
    data = bytearray(good)
    for at, piece in changes:
        at = at % (len(data) + 1)
        data[at : at + len(piece)] = piece
    read_anyhow(bytes(data))
