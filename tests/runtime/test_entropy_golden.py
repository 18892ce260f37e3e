"""Bytes that must never change, worked out by hand where that is short."""

import numpy as np
import pytest

from trellic.entropy import Segment, Tables, cpu, reference
from trellic.quantize.trellis import next_state

CODERS = pytest.mark.parametrize("coder", [reference, cpu], ids=["reference", "cpu"])


def tiny_tables() -> Tables:
    """One scale index; K = 1, 1 and 0: indices -1, 0, 1, escape; or 0, escape."""
    return Tables(
        half_width=np.array([[1], [1], [0]], np.uint16),
        freqs=np.array([8192, 16384, 4096, 4096, 1, 32765, 1, 1, 32767, 1], np.uint16),
        off=np.zeros((3, 1, 4), np.int16),
    )


def segment(k: list[int], table: int | list[int]) -> Segment:
    return Segment(np.array(k, np.int32), np.broadcast_to(np.uint16(table), len(k)).copy())


@CODERS
def test_nothing_is_only_a_state(coder):
    assert coder.encode([segment([], 0)], tiny_tables(), 1) == [b"\x00\x00\x01\x00"]


@CODERS
def test_one_symbol_by_hand(coder):
    # x = 2^16, f = 8192, c = 0: (65536 // 8192) << 15 = 8 << 15 = 0x40000
    assert coder.encode([segment([-1], 0)], tiny_tables(), 1) == [b"\x00\x00\x04\x00"]
    # f = 4096, c = 24576: (16 << 15) + 24576 = 0x86000
    assert coder.encode([segment([1], 0)], tiny_tables(), 1) == [b"\x00\x60\x08\x00"]


@CODERS
def test_one_escape_by_hand(coder):
    # |k| - K = 3 - 1 = 2: two digits. Last round: rest 0, sign 1 in two bits: 2^16 << 2 | 1.
    # Round before: the digits' mark 0b10 in two bits: (2^18 + 1) << 2 | 2 = 0x100006.
    # Symbol: f = 4096, c = 28672: (0x100006 // 4096 = 256) << 15 | 28672 + 6 = 0x807006.
    assert coder.encode([segment([-3], 0)], tiny_tables(), 1) == [b"\x06\x70\x80\x00"]


@CODERS
def test_a_word_moves_out(coder):
    # Two symbols of frequency 1 (16 words of 15 bits would be 1.9 words): 2^16 -> 2^31 + c, which
    # is at least 1 << 17, so its low word goes out and the rest is coded.
    tables = tiny_tables()
    x = (65536 << 15) + 0  # k = -1 of table 1, cumulative 0
    high, low = x >> 16, x & 0xFFFF
    state = high << 15
    expected = state.to_bytes(4, "little") + low.to_bytes(2, "little")
    assert coder.encode([segment([-1, -1], 1)], tables, 1) == [expected]


@CODERS
def test_a_word_moves_out_before_bits_would_make_the_state_too_large(coder):
    # The last symbol makes 2^18. |k| - K = 2^13: 14 digits, and 2^18 is 2^(32 - 14), so 0 goes out;
    # rest 0, sign 1: 2^16 | 1. The digits' mark 2^13: (2^16 + 1) << 14 | 2^13 = 0x40006000. Before
    # the escape (f = 4096) its low word goes out: (0x4000 // 4096) << 15 | 28672 = 0x27000.
    expected = b"\x00\x70\x02\x00" + b"\x00\x60" + b"\x00\x00"
    assert coder.encode([segment([-8193, -1], 0)], tiny_tables(), 1) == [expected]


@CODERS
def test_states_of_other_lanes(coder):
    # Lane 1 codes k = 1: (65536 // 4096) << 15 | 24576 = 0x86000, so its high word is 8: exponent
    # 3, mantissa 0. Lane 0 codes k = -1: 8 << 15 = 0x40000; then 3 raw bits 000: 0x200000, and 4
    # raw bits 3: 0x2000003. The word is lane 1's low one.
    expected = b"\x03\x00\x00\x02" + b"\x00\x60"
    assert coder.encode([segment([-1, 1], 0)], tiny_tables(), 2) == [expected]


@CODERS
def test_groups_count_their_words(coder):
    # 64 lanes, one symbol: lane 0 holds 0x22000, all others 0x10000: exponent 0, low word 0. Lane 0
    # takes 31 times 4 raw bits; lane 32 starts from 0x10000 and ends there after 31 times 4 bits
    # of 0, 124 bits: 7 words of 0 come out and 2^16 << 12 stays.
    (data,) = coder.encode([segment([0], 0)], tiny_tables(), 64)
    words = np.frombuffer(data, "<u2")
    assert words[2:4].tolist() == [0, 1 << 12]
    assert words[4] == 31 + 7
    assert len(words) == 4 + 1 + 2 * (31 + 7)
    assert not words[5 + 31 + 7 :].any()


def test_long_count_form():
    tables = tiny_tables()
    k = np.full(64 * 1200, -1, np.int32)
    (data,) = cpu.encode([Segment(k, np.ones(len(k), np.uint16))], tables, 64)
    words = np.frombuffer(data, "<u2", offset=8)
    assert words[0] == 0x8000
    assert int(words[1]) >= 0x8000
    assert len(words) == 2 + 2 * int(words[1])
    decoder = cpu.Decoder(data, tables, 64)
    # one trellis of one odd state would be class 2; class 1 tables through state 0
    got, cls = decoder.trellis(data, np.zeros(len(k), np.uint8), np.zeros((1, 2), np.uint8))
    decoder.finish()
    assert (got == -1).all()
    assert (cls == 1).all()


@CODERS
def test_two_segments_of_a_trellis(coder):
    tables = tiny_tables()
    k = [1, 5, 0, -9, 0, 0]  # states 0, 1, 3, 3, 2, 1
    classes = [1, 2, 2, 2, 1, 2]
    trellis = next_state(4)
    state = 0
    for value, cls in zip(k, classes, strict=True):
        assert 1 + (state & 1) == cls
        state = int(trellis[state, value & 1])
    parts = coder.encode([segment([0, 40], 0), segment(k, classes)], tables, 1)
    assert [part.hex() for part in parts] == GOLDEN
    decoder = coder.Decoder(parts[0], tables, 1)
    assert decoder.scalar(parts[0], np.zeros(2, np.uint8)).tolist() == [0, 40]
    got, cls = decoder.trellis(parts[1], np.zeros(6, np.uint8), trellis)
    decoder.finish()
    assert got.tolist() == k
    assert cls.tolist() == classes


GOLDEN = ["a0d30808fe7f", "ff7f14403809"]
