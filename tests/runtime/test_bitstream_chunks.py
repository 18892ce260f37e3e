"""Alpha and metadata: lossless, bounded, and refused when they are not what they should be."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic import bitstream
from trellic.bitstream import MAX_METADATA, Chunks, Header, Stream
from trellic.bitstream.chunks import pack_alpha, read_alpha, read_metadata
from trellic.errors import BadParameter, CorruptStream


def stream(chunks, width=20, height=10):
    head = Header(width, height, 960, 8, 1, b"\1\2\3\4", (1,))
    return Stream(head, [b"zzzz", b"aa"], chunks)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32), st.sampled_from([2, 17, 256]))
def test_alpha_round_trip(height, width, seed, values):
    alpha = np.random.default_rng(seed).integers(0, values, (height, width)).astype(np.uint8)
    back = bitstream.read(bitstream.write(stream(Chunks(alpha), width, height))).chunks.alpha
    assert np.array_equal(back, alpha)


@pytest.mark.parametrize("number", range(4))
def test_each_filter_is_inverted_as_the_specification_says(number):
    a = np.random.default_rng(1).integers(0, 256, (5, 7)).astype(int)
    west, north = np.pad(a, ((0, 0), (1, 0)))[:, :-1], np.pad(a, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(a, ((1, 0), (1, 0)))[:-1, :-1]
    predicted = [0 * a, west, north, west + north - corner][number]
    content = bytes([number]) + ((a - predicted) % 256).astype(np.uint8).tobytes()
    assert np.array_equal(read_alpha(zlib.compress(content), 5, 7), a)


def test_gradients_are_filtered():
    ramp = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)
    assert len(pack_alpha(ramp)) < 500


def test_opaque_alpha_is_not_written():
    data = bitstream.write(stream(Chunks(np.full((10, 20), 255, np.uint8))))
    assert data == bitstream.write(stream(Chunks()))
    assert bitstream.read(data).chunks.alpha is None


def test_transparent_alpha_is_written():
    data = bitstream.write(stream(Chunks(np.zeros((10, 20), np.uint8))))
    assert (bitstream.read(data).chunks.alpha == 0).all()


@pytest.mark.parametrize(
    "alpha", [np.zeros((20, 10), np.uint8), np.zeros((10, 20)), np.zeros(200, np.uint8)]
)
def test_alpha_of_another_shape_or_type_is_refused(alpha):
    with pytest.raises(BadParameter, match="alpha plane"):
        bitstream.write(stream(Chunks(alpha)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(200), "inflates to 200 bytes"),
        (bytes(202), "more than 201"),
        (bytes([4]) + bytes(200), "unknown filter 4"),
        (bytes([0]) + b"\xff" * 200, "opaque"),
    ],
)
def test_alpha_that_is_not_a_plane_is_refused(content, message):
    with pytest.raises(CorruptStream, match=message):
        read_alpha(zlib.compress(content), 10, 20)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"no zlib", "does not inflate"),
        (zlib.compress(b"ICC")[:-1], "exactly one zlib stream"),
        (zlib.compress(b"ICC") + b"!", "exactly one zlib stream"),
        (zlib.compress(b""), "0 bytes"),
    ],
)
def test_metadata_that_is_not_one_zlib_stream_is_refused(stored, message):
    with pytest.raises(CorruptStream, match=message):
        read_metadata(stored, "icc")


def test_a_preset_dictionary_is_refused():
    deflater = zlib.compressobj(zdict=b"profile")
    stored = deflater.compress(b"a profile") + deflater.flush()
    with pytest.raises(CorruptStream, match="does not inflate"):
        read_metadata(stored, "icc")


def test_metadata_at_the_limit():
    assert len(read_metadata(zlib.compress(bytes(MAX_METADATA)), "xmp")) == MAX_METADATA
    with pytest.raises(CorruptStream, match="more than"):
        read_metadata(zlib.compress(bytes(MAX_METADATA + 1)), "xmp")
    with pytest.raises(BadParameter, match="strip"):
        bitstream.write(stream(Chunks(icc=bytes(MAX_METADATA + 1))))
    with pytest.raises(BadParameter, match="strip"):
        bitstream.write(stream(Chunks(icc=b"")))


def peak_of(action):
    tracemalloc.start()
    try:
        with pytest.raises(CorruptStream, match="more than"):
            action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_metadata_bomb_takes_no_more_than_the_limit():
    bomb = zlib.compress(bytes(200 << 20), 9)  # 200 kB that would become 200 MB
    assert peak_of(lambda: read_metadata(bomb, "exif")) < 3 * MAX_METADATA


def test_an_alpha_bomb_takes_no_more_than_the_plane():
    bomb = zlib.compress(bytes(50 << 20), 9)
    assert peak_of(lambda: read_alpha(bomb, 100, 100)) < 200_000


def test_chunks_of_a_picture():
    whole = Chunks(np.zeros((1, 1), np.uint8), b"icc", b"exif", b"xmp")
    assert vars(Chunks.of(whole)) == vars(whole)
    assert vars(Chunks.of(whole, strip=True)) == vars(Chunks(whole.alpha))
