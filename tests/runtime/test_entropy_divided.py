"""Symbols with frequencies of their own: both coders, beside symbols of tables, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.test_entropy_coder import ALL_LANES, CODERS, TABLES, scalar_segment

from trellic.entropy import Divided, Segment, cpu, max_compressed_size, reference
from trellic.errors import BadParameter, CorruptStream, StreamError, TruncatedStream


def divided(rng, n, most=17) -> Divided:
    """Symbols of 2 to `most` parts, drawn by their frequencies."""
    cumulative = np.full((n, most + 1), 1 << 15, np.uint16)
    cumulative[:, 0] = 0
    k = np.zeros(n, np.int32)
    for i in range(n):
        parts = int(rng.integers(2, most + 1))
        cuts = np.sort(rng.choice(np.arange(1, 1 << 15), parts - 1, replace=False))
        cumulative[i, 1:parts] = cuts
        k[i] = np.searchsorted(cuts, rng.integers(1 << 15), side="right")
    return Divided(k, cumulative)


def decode(coder, parts, segments, lanes):
    decoder = coder.Decoder(parts[0], TABLES, lanes)
    out = []
    for part, segment in zip(parts, segments, strict=True):
        if isinstance(segment, Segment):
            out.append(decoder.scalar(part, segment.table.astype(np.uint8)))
        else:
            out.append(decoder.divided(part, segment.cumulative))
            assert out[-1].dtype == np.int32
    decoder.finish()
    return out


def check_both(segments, lanes):
    parts = reference.encode(segments, TABLES, lanes)
    assert cpu.encode(segments, TABLES, lanes) == parts
    for coder in (reference, cpu):
        for k, segment in zip(decode(coder, parts, segments, lanes), segments, strict=True):
            np.testing.assert_array_equal(k, segment.k)
    for part, segment in zip(parts, segments, strict=True):
        assert len(part) <= max_compressed_size(len(segment.k), lanes)
    return parts


@pytest.mark.parametrize("lanes", ALL_LANES)
def test_coders_agree_on_any_lanes(lanes):
    rng = np.random.default_rng(lanes)
    kinds = divided(rng, 3 * lanes + 5), scalar_segment(rng, 2 * lanes + 1, TABLES)
    check_both([*kinds, divided(rng, 7, most=2), divided(rng, 0)], lanes)


@given(st.integers(0, 2**32), st.sampled_from([1, 4, 32, 64, 128]), st.integers(0, 150))
def test_round_trip(seed, lanes, n):
    rng = np.random.default_rng(seed)
    check_both([scalar_segment(rng, 9, TABLES), divided(rng, n, most=4)], lanes)


@pytest.mark.parametrize("cut", [1, (1 << 15) - 1, 1 << 14])
def test_the_least_and_the_greatest_frequency(cut):
    cumulative = np.tile(np.array([0, cut, 1 << 15], np.uint16), (40, 1))
    for k in (0, 1):
        check_both([Divided(np.full(40, k, np.int32), cumulative)], 2)


def test_the_payload_is_near_the_ideal_code_length():
    segment = divided(np.random.default_rng(3), 20_000)
    at = np.arange(len(segment.k))
    freq = np.diff(segment.cumulative.astype(int), axis=1)[at, segment.k]
    ideal = (15 - np.log2(freq)).sum() / 8
    (part,) = cpu.encode([segment], TABLES, 1)
    assert ideal <= len(part) <= 1.001 * ideal + 8


@CODERS
@pytest.mark.parametrize("lanes", [1, 32, 64])
def test_every_truncation_is_refused(coder, lanes):
    rng = np.random.default_rng(5)
    segments = [scalar_segment(rng, 50, TABLES), divided(rng, 200)]
    first, second = coder.encode(segments, TABLES, lanes)
    for length in range(len(second)):
        decoder = coder.Decoder(first, TABLES, lanes)
        decoder.scalar(first, segments[0].table.astype(np.uint8))
        with pytest.raises((TruncatedStream, CorruptStream)):
            decoder.divided(second[:length], segments[1].cumulative)
    decoder = coder.Decoder(first, TABLES, lanes)
    decoder.scalar(first, segments[0].table.astype(np.uint8))
    with pytest.raises(CorruptStream, match="left over"):
        decoder.divided(second + b"\0\0", segments[1].cumulative)


@given(st.binary(max_size=120), st.sampled_from([1, 32, 64]))
def test_any_bytes_end_in_our_errors(data, lanes):
    cumulative = divided(np.random.default_rng(1), 30).cumulative
    found = []
    for coder in (reference, cpu):
        try:
            found.append(coder.Decoder(data, TABLES, lanes).divided(data, cumulative).tolist())
        except StreamError as error:
            found.append(type(error))
    assert isinstance(found[0], list) == isinstance(found[1], list)
    if isinstance(found[0], list):
        assert found[0] == found[1]


BAD = {
    "one part": [[0, 1 << 15, 1 << 15]],
    "two columns": [[0, 1 << 15]],
    "from 1": [[1, 5, 1 << 15]],
    "no end": [[0, 5, 9]],
    "falling": [[0, 9, 5, 1 << 15]],
    "an empty part": [[0, 5, 5, 1 << 15]],
    "beyond": [[0, 5, 40_000, 1 << 15]],
    "after the end": [[0, 5, 1 << 15, 40_000]],
}


@CODERS
@pytest.mark.parametrize("name", BAD)
def test_frequencies_that_do_not_divide_are_refused(coder, name):
    cumulative = np.array(BAD[name], np.uint16)
    with pytest.raises(BadParameter, match="frequencies"):
        coder.encode([Divided(np.zeros(1, np.int32), cumulative)], TABLES, 1)
    first = coder.encode([Segment(np.zeros(0, np.int32), np.zeros(0, np.uint16))], TABLES, 1)[0]
    with pytest.raises(BadParameter, match="frequencies"):
        coder.Decoder(first, TABLES, 1).divided(first, cumulative)


@CODERS
@pytest.mark.parametrize(
    "k",
    [np.int32([2]), np.int32([-1]), np.int64([0]), np.int32([0, 0]), np.zeros((1, 1), np.int32)],
)
def test_parts_that_there_are_not_are_refused(coder, k):
    cumulative = np.array([[0, 5, 1 << 15, 1 << 15]], np.uint16)
    with pytest.raises(BadParameter, match="part"):
        coder.encode([Divided(k, cumulative)], TABLES, 1)


@CODERS
def test_frequencies_of_another_type_are_refused(coder):
    first = coder.encode([Segment(np.zeros(0, np.int32), np.zeros(0, np.uint16))], TABLES, 1)[0]
    for wrong in (np.array([[0, 5, 1 << 15]]), np.array([0, 5, 1 << 15], np.uint16)):
        with pytest.raises(BadParameter, match="frequencies"):
            coder.Decoder(first, TABLES, 1).divided(first, wrong)


@CODERS
def test_each_symbol_has_its_own_number_of_parts(coder):
    cumulative = np.array([[0, 5, 1 << 15, 1 << 15], [0, 5, 9, 1 << 15]], np.uint16)
    coder.encode([Divided(np.int32([1, 2]), cumulative)], TABLES, 1)
    with pytest.raises(BadParameter, match="part"):
        coder.encode([Divided(np.int32([2, 1]), cumulative)], TABLES, 1)


@CODERS
def test_only_of_nothing_there_may_be_too_few_columns(coder):
    """As `Division.cumulative` has for a pass without latents."""
    check_both([Divided(np.zeros(0, np.int32), np.zeros((0, 2), np.uint16))], 1)
    with pytest.raises(BadParameter, match="frequencies"):
        coder.encode([Divided(np.zeros(1, np.int32), np.zeros((1, 0), np.uint16))], TABLES, 1)


@CODERS
def test_segments_after_divided_ones_are_checked_too(coder):
    good = divided(np.random.default_rng(2), 3)
    beyond = Divided(np.full(3, 17, np.int32), good.cumulative)
    for wrong in (beyond, Segment(np.int32([40_000]), np.zeros(1, np.uint16))):
        with pytest.raises(BadParameter, match=r"part|indices"):
            coder.encode([good, wrong], TABLES, 1)
