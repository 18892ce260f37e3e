"""The container: golden bytes, budgets, geometry, round trips."""

import binascii
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic import bitstream
from trellic.bitstream import Chunks, Header, Stream
from trellic.constants import TRELLIS_STATES
from trellic.errors import BadParameter
from trellic.geometry import Rectangle, slice_grid

ID = b"\xde\xad\xbe\xef"
FORMAT = Path(__file__).parents[2] / "docs" / "format.md"


def header(**changes):
    fields = {
        "width": 20, "height": 10, "quality16": 960, "trellis": 8,
        "steps": 2, "stream_id": ID, "lanes": (1,),
    }  # fmt: skip
    return Header(**(fields | changes))


def crc16_reference(data: bytes) -> int:
    """CRC-16 as docs/format.md words it, bit by bit."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def test_checksums_are_the_ones_of_the_specification():
    assert crc16_reference(b"123456789") == 0x29B1 == binascii.crc_hqx(b"123456789", 0xFFFF)
    assert zlib.crc32(b"123456789") == 0xCBF43926
    blob = bytes(range(256))
    assert bitstream.fields.crc16(blob) == crc16_reference(blob).to_bytes(2, "little")


# Written by hand from docs/format.md. 0x0413C0 = 960 | 2 << 11 | 0 << 14 | 1 << 18; the table is
# 00010 10 01 and seven fill bits: entries of 2 bits, z of 2 words, step 0 of 1 word.
PLAIN_HEAD = b"TLC\x01\xc0\x13\x04\xde\xad\xbe\xef\x13\x09\x14\x80zzzz"
PLAIN = PLAIN_HEAD + crc16_reference(PLAIN_HEAD).to_bytes(2, "little") + b"aa"
PLAIN += crc16_reference(b"aa").to_bytes(2, "little") + b"bbbb"
PLAIN += zlib.crc32(PLAIN).to_bytes(4, "little")


def test_golden_plain_stream():
    data = bitstream.write(Stream(header(), [b"zzzz", b"aa", b"bbbb"]))
    assert data == PLAIN
    assert data == bytes.fromhex(
        "544c4301 c01304 deadbeef 13 09 1480 7a7a7a7a ab3b 6161 9359 62626262 54cb9a22"
    )
    back = bitstream.read(data)
    assert back.header == header()
    assert list(back.segments) == [b"zzzz", b"aa", b"bbbb"]


def test_golden_sliced_stream():
    # 1025 x 300: 20 x 68 latents, so two slices; 4 lanes in the second. Extension: ICC of 11 stored
    # bytes. Table: 0010 00010 (10 01 01 01 10), that is 2 1 1 1 2 words, and 5 fill bits.
    head = bytes.fromhex("544c4301 c00344 deadbeef 8008 ab02 02 0b 214ac0")
    icc = zlib.compress(b"ICC", 9)
    assert len(icc) == 11
    parts = [(head + b"zzzz", True), (icc, True)]
    parts += [(b"aa", True), (b"bb", True), (b"cc", True), (b"dddd", True)]
    body = b"".join(p + crc16_reference(p).to_bytes(2, "little") for p, _ in parts)
    data = body + zlib.crc32(body).to_bytes(4, "little")
    stream = bitstream.read(data)
    assert stream.header == header(width=1025, height=300, trellis=0, lanes=(1, 4))
    assert list(stream.segments) == [b"zzzz", b"aa", b"bb", b"cc", b"dddd"]
    assert stream.chunks.icc == b"ICC"
    assert bitstream.write(stream) == data


def test_the_example_of_the_documentation_is_what_the_code_writes():
    section = FORMAT.read_text().split("## 11.")[1].split("## 12.")[0]
    rows = re.findall(r"^    ((?:[0-9a-f]{2} )+)", section, re.MULTILINE)
    assert bytes.fromhex("".join(rows)) == PLAIN


@pytest.mark.parametrize(
    ("sides", "lengths", "overhead"),
    [
        ((768, 512), (150, 3000, 2000, 1500), 30),
        ((768, 512), (400, 12000, 9000, 6000), 31),
        ((768, 512), (600, 40000, 30000, 30000), 32),
        ((1024, 1024), (2000, 130000, 120000, 100000), 32),
        ((1, 1), (4, 2, 2, 2), 25),
    ],
)
def test_a_plain_one_slice_photo_costs_at_most_32_bytes(sides, lengths, overhead):
    data = bitstream.write(
        Stream(
            header(width=sides[0], height=sides[1], steps=3, lanes=(32,)),
            [bytes(n) for n in lengths],
        )
    )
    assert len(data) - sum(lengths) == overhead <= 32


def test_geometry():
    big = header(width=2049, height=1025, lanes=(1,) * 6)
    assert big.blocks == (65, 129)
    assert big.slice_counts == (2, 3)
    assert big.segments == 13
    assert big.segment_index(1, 5) == 12
    grid = slice_grid(*big.blocks)
    assert grid[0] == Rectangle(0, 64, 0, 64)
    assert grid[5] == Rectangle(64, 65, 128, 129)
    cover = np.zeros(big.blocks, int)
    for part in grid:
        cover[part.top : part.bottom, part.left : part.right] += 1
    assert (cover == 1).all()


def test_slices_touching_a_region():
    big = header(width=2049, height=1025, lanes=(1,) * 6)
    assert big.slices_touching(Rectangle(0, 1, 0, 1)) == [0]
    assert big.slices_touching(Rectangle(63, 65, 60, 70)) == [0, 1, 3, 4]
    assert big.slices_touching(Rectangle(-9, 999, -9, 999)) == list(range(6))
    assert big.slices_touching(Rectangle(70, 80, 0, 1)) == []
    for i, part in enumerate(slice_grid(*big.blocks)):
        assert big.slices_touching(part) == [i]


@st.composite
def streams(draw):
    width, height = draw(st.integers(1, 3000)), draw(st.integers(1, 900))
    side = draw(st.sampled_from([16, 20, 64, 1020]))
    rows, columns = -(-height // 64) * 4, -(-width // 64) * 4
    slices = -(-rows // side) * -(-columns // side)
    steps = draw(st.integers(1, 8))
    random = draw(st.randoms(use_true_random=False))
    longest = draw(st.sampled_from([0, 3, 200]))
    head = Header(
        width=width,
        height=height,
        quality16=draw(st.integers(16, 1600)),
        trellis=draw(st.sampled_from(TRELLIS_STATES)),
        steps=steps,
        stream_id=draw(st.binary(min_size=4, max_size=4)),
        lanes=tuple(1 << random.randrange(11) for _ in range(slices)),
        grey=draw(st.booleans()),
        slice_side=side,
    )
    segments = [random.randbytes(2 * random.randint(0, longest)) for _ in range(head.segments)]
    metadata = st.none() | st.binary(min_size=1, max_size=40)
    chunks = Chunks(icc=draw(metadata), exif=draw(metadata), xmp=draw(metadata))
    return Stream(head, segments, chunks)


@given(streams())
def test_round_trip(stream):
    data = bitstream.write(stream)
    back = bitstream.read(data)
    assert back.header == stream.header == bitstream.read_header(data)
    assert list(back.segments) == list(stream.segments)
    assert vars(back.chunks) == vars(stream.chunks)
    whole = bitstream.read_prefix(data)
    assert whole.whole
    assert list(whole.segments) == list(stream.segments)
    assert bitstream.read_contents(data).size == len(data)


@given(streams(), st.data())
def test_a_region_needs_only_the_bytes_that_the_layout_names(stream, data):
    blob = bitstream.write(stream)
    wanted = data.draw(st.sets(st.integers(0, stream.header.slices - 1)))
    layout = bitstream.read_contents(blob)
    holed = bytearray(len(blob))
    for span in layout.needed_for(wanted):
        holed[span.offset : span.end] = blob[span.offset : span.end]
    assert bitstream.read_contents(holed[: layout.head.end], size=len(blob)).header == stream.header
    assert list(layout.lengths) == [len(segment) for segment in stream.segments]
    part = bitstream.read_prefix(holed)
    if stream.header.slices > 1:
        own = [
            stream.header.segment_index(k, i) for k in range(stream.header.steps) for i in wanted
        ]
        assert all(part.segments[index] is not None for index in own)
    for seen, written in zip(part.segments, stream.segments, strict=True):
        assert seen in (None, written)


@given(streams(), st.data())
def test_a_prefix_gives_the_segments_it_holds(stream, data):
    blob = bitstream.write(stream)
    layout = bitstream.read_contents(blob)
    cut = data.draw(st.integers(layout.head.end, len(blob) - 1))
    prefix = bitstream.read_prefix(blob[:cut])
    assert not prefix.whole
    for index, segment in enumerate(prefix.segments):
        span = layout.segment(index)
        there = index == 0 or (layout.has_check(index) and span.end + 2 <= cut)
        assert segment == (stream.segments[index] if there else None)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 0}, {"height": 65536}, {"quality16": 15}, {"quality16": 1601}, {"trellis": 5},
        {"steps": 0}, {"steps": 9}, {"stream_id": b"abc"}, {"lanes": ()}, {"lanes": (1, 1)},
        {"lanes": (3,)}, {"lanes": (2048,)}, {"lanes": (0,)}, {"slice_side": 12},
        {"slice_side": 18}, {"slice_side": 1024},
    ],
)  # fmt: skip
def test_headers_out_of_range_are_refused(changes):
    with pytest.raises(BadParameter):
        header(**changes)


@pytest.mark.parametrize("segments", [[], [b"zz", b"aa"], [b"zz", b"aa", b"bb", b"cc"]])
def test_a_wrong_number_of_segments_is_refused(segments):
    with pytest.raises(BadParameter, match="segments"):
        bitstream.write(Stream(header(), segments))


@pytest.mark.parametrize("odd", range(3))
def test_odd_segments_are_refused(odd):
    segments = [b"zz", b"aa", b"bb"]
    segments[odd] += b"!"
    with pytest.raises(BadParameter, match="odd"):
        bitstream.write(Stream(header(), segments))


def test_bytes_like_input():
    for kind in (bytes, bytearray, memoryview):
        assert bitstream.read(kind(PLAIN)).header == header()
