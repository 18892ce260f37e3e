"""Both coders: round trips, same bytes, the rate, and bytes that are cut or altered."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.entropy import (
    Segment,
    Tables,
    choose_lanes,
    cpu,
    max_compressed_size,
    quantized_pmf,
    reference,
)
from trellic.errors import BadParameter, CorruptStream, TruncatedStream
from trellic.quantize.trellis import next_state

CODERS = pytest.mark.parametrize("coder", [reference, cpu], ids=["reference", "cpu"])
ALL_LANES = [2**i for i in range(11)]
STATES = 8
SIGMAS = np.geomspace(0.11, 64, 48)


def laplace_tables(sigmas=SIGMAS, tail=4.0, largest=400) -> Tables:
    """Tables of two-sided geometric distributions, one for each sigma, alike for all classes."""
    sigmas = np.asarray(sigmas, np.float64)
    width = np.clip(np.ceil(tail * sigmas), 0, largest).astype(np.uint16)
    freqs = []
    for sigma, half_width in zip(sigmas, width.tolist(), strict=True):
        k = np.arange(-half_width, half_width + 1)
        weight = np.exp(-np.abs(k) * np.sqrt(2) / sigma)
        freqs.append(quantized_pmf(np.append(weight, weight[0] / 4)))
    return Tables(
        half_width=np.stack([width] * 3),
        freqs=np.concatenate(freqs * 3),
        off=np.zeros((3, len(sigmas), 4), np.int16),
    )


def scalar_segment(rng, n, tables, sigmas=SIGMAS, gain=1.0) -> Segment:
    """Laplacian indices of the scalar class; `gain` above 1 makes escapes."""
    weight = np.exp(-0.5 * ((np.log(sigmas) - np.log(0.35)) / 0.9) ** 2)
    index = rng.choice(tables.scales, n, p=weight / weight.sum()).astype(np.uint16)
    k = np.rint(gain * rng.laplace(0, sigmas[index] / np.sqrt(2), n))
    return Segment(np.clip(k, -32767, 32767).astype(np.int32), index)


def on_trellis(segment: Segment, lanes: int, states: int, scales: int) -> tuple[Segment, list[int]]:
    """Return the same indices with the tables that a trellis asks for, and the classes."""
    table = next_state(states)
    state = [0] * lanes
    cls = []
    for i, k in enumerate(segment.k.tolist()):
        cls.append(1 + (state[i % lanes] & 1))
        state[i % lanes] = int(table[state[i % lanes], k & 1])
    tables = np.array(cls, np.uint16) * scales + segment.table % scales
    return Segment(segment.k, tables.astype(np.uint16)), cls


def ideal_bytes(segments, tables: Tables) -> float:
    """Return the code length of the integer tables in bytes, escapes' digits included."""
    width = tables.half_width.ravel().astype(np.int64)
    bits = 0.0
    for k, table in segments:
        beyond = np.abs(k) - width[table]
        place = tables.start[table] + np.where(beyond > 0, 2 * width[table] + 1, k + width[table])
        bits += (15 - np.log2(tables.freqs[place].astype(np.float64))).sum()
        digits = np.floor(np.log2(np.maximum(beyond, 1))) + 1
        bits += (2 * digits[beyond > 0]).sum()
    return bits / 8


TABLES = laplace_tables()
NARROW = laplace_tables([0.3, 1.0], tail=0.5)  # K = 1: most things escape


def decode(coder, parts, segments, tables, lanes):
    """Decode scalar segments and those whose tables are of a trellis; check the final states."""
    decoder = coder.Decoder(parts[0], tables, lanes)
    out = []
    for part, segment in zip(parts, segments, strict=True):
        index = (segment.table % tables.scales).astype(np.uint8)
        if len(segment.table) and segment.table.max() >= tables.scales:
            k, cls = decoder.trellis(part, index, next_state(STATES))
            assert cls.dtype == np.uint8
            np.testing.assert_array_equal(cls, segment.table // tables.scales)
        else:
            k = decoder.scalar(part, index)
        assert k.dtype == np.int32
        out.append(k)
    decoder.finish()
    return out


def check_both(segments, tables, lanes):
    """Both coders make the same bytes, not too many, and each reads them."""
    parts = reference.encode(segments, tables, lanes)
    assert cpu.encode(segments, tables, lanes) == parts
    for coder in (reference, cpu):
        for got, segment in zip(
            decode(coder, parts, segments, tables, lanes), segments, strict=True
        ):
            np.testing.assert_array_equal(got, segment.k)
    for part, segment in zip(parts, segments, strict=True):
        assert len(part) % 2 == 0
        assert len(part) <= max_compressed_size(len(segment.k), lanes)
    return parts


@pytest.mark.parametrize("lanes", ALL_LANES)
def test_coders_agree_on_any_lanes(lanes):
    rng = np.random.default_rng(lanes)
    for gain, n in ((1.0, 700), (40.0, 300), (1.0, 33)):
        first = scalar_segment(rng, n, TABLES, gain=gain)
        empty = scalar_segment(rng, 0, TABLES)
        second, _ = on_trellis(scalar_segment(rng, 2 * n, TABLES), lanes, STATES, TABLES.scales)
        check_both([first, empty, second, empty], TABLES, lanes)


@pytest.mark.parametrize("lanes", [1, 32, 64])
@pytest.mark.parametrize("k", [0, 1, -1, 2, -3, 255, -256, 32766, 32767, -32767])
def test_a_single_symbol_and_many_of_it(k, lanes):
    for n in (1, 100):
        for tables in (TABLES, NARROW):
            check_both([Segment(np.full(n, k, np.int32), np.zeros(n, np.uint16))], tables, lanes)


def test_no_segments_and_no_symbols():
    assert reference.encode([], TABLES, 1) == cpu.encode([], TABLES, 1) == []
    none = Segment(np.zeros(0, np.int32), np.zeros(0, np.uint16))
    for lanes in (1, 32, 1024):
        check_both([none, none], TABLES, lanes)


def test_every_index_of_every_table():
    for lanes in (1, 32):
        tables = laplace_tables([0.5, 3.0, 9.0])
        k = [np.arange(-w - 3, w + 4) for w in tables.half_width[0].tolist()]
        index = [np.full(len(values), i) for i, values in enumerate(k)]
        segment = Segment(
            np.concatenate(k).astype(np.int32), np.concatenate(index).astype(np.uint16)
        )
        check_both([segment], tables, lanes)


def test_unbalanced_tables():
    freqs = np.array([1, 1, 32765, 1] * 3 + [1, 32767] * 3, np.uint16)
    freqs = freqs.reshape(-1)
    tables = Tables(
        half_width=np.array([[1, 1], [1, 0], [0, 0]], np.uint16),
        freqs=freqs,
        off=np.zeros((3, 2, 4), np.int16),
    )
    rng = np.random.default_rng(0)
    k = rng.integers(-2, 3, 500).astype(np.int32)
    check_both([Segment(k, rng.integers(0, 2, 500).astype(np.uint16))], tables, 4)
    rare = Segment(np.full(500, -1, np.int32), np.zeros(500, np.uint16))
    check_both([rare], tables, 64)


@st.composite
def streams(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lanes = draw(st.sampled_from(ALL_LANES))
    tables = draw(st.sampled_from([TABLES, NARROW]))
    segments = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(0, 150))
        index = rng.integers(0, tables.scales, n).astype(np.uint16)
        scale = draw(st.sampled_from([0.4, 3.0, 3e4]))
        k = np.clip(np.rint(rng.normal(0, scale, n)), -32767, 32767).astype(np.int32)
        segment = Segment(k, index)
        if n and draw(st.booleans()):
            segment, _ = on_trellis(segment, lanes, STATES, tables.scales)
        segments.append(segment)
    return segments, tables, lanes


@given(streams())
def test_round_trip(stream):
    check_both(*stream)


@pytest.mark.parametrize("size", [300, 1000, 10_000, 100_000, 1_000_000])
def test_payload_is_near_the_ideal_code_length(size):
    rng = np.random.default_rng(size)
    sample = scalar_segment(rng, 20_000, TABLES)
    n = int(size / ideal_bytes([sample], TABLES) * 20_000)
    segments = [scalar_segment(rng, n // 4, TABLES) for _ in range(4)]
    ideal = ideal_bytes(segments, TABLES)
    actual = sum(map(len, cpu.encode(segments, TABLES, choose_lanes(int(ideal)))))
    assert actual - ideal <= max(0.005 * ideal, 5)


def three_segments(lanes, gain=1.0):
    rng = np.random.default_rng(7)
    segments = [scalar_segment(rng, 400, TABLES, gain=gain) for _ in range(2)]
    segments.append(on_trellis(segments[1], lanes, STATES, TABLES.scales)[0])
    return segments, cpu.encode(segments, TABLES, lanes)


@CODERS
@pytest.mark.parametrize("lanes", [1, 32, 64])
def test_every_truncation_is_refused(coder, lanes):
    segments, parts = three_segments(lanes)
    for which in range(3):
        for keep in range(0, len(parts[which]), 2 if lanes == 1 else 14):
            cut = list(parts)
            cut[which] = bytes(bytearray(parts[which][:keep]))  # a buffer of exactly this size
            with pytest.raises((CorruptStream, TruncatedStream)):
                decode(coder, cut, segments, TABLES, lanes)


@CODERS
@pytest.mark.parametrize("tail", [b"\0", b"\0\0", b"\xff\xff" * 100])
def test_bytes_too_many_are_refused(coder, tail):
    segments, parts = three_segments(1)
    for which in range(3):
        longer = list(parts)
        longer[which] += tail
        with pytest.raises(CorruptStream):
            decode(coder, longer, segments, TABLES, 1)


@pytest.mark.parametrize("lanes", [1, 32, 64])
@pytest.mark.parametrize("gain", [1.0, 300.0])
def test_altered_bytes_are_survived_alike_and_noticed(lanes, gain):
    segments, parts = three_segments(lanes, gain)
    rng = np.random.default_rng(lanes)
    noticed = 0
    for _ in range(60):
        altered = [bytearray(part) for part in parts]
        victim = altered[rng.integers(0, 3)]
        victim[rng.integers(0, len(victim))] ^= 1 << rng.integers(0, 8)
        outcomes = []
        for coder in (reference, cpu):
            try:
                outcomes.append(indices(coder, [bytes(part) for part in altered], segments, lanes))
            except (CorruptStream, TruncatedStream) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        noticed += isinstance(outcomes[0], type)
    # An escape's digits are raw bits: if one flips, only a checksum can tell.
    assert noticed == 60 or gain > 1


def indices(coder, parts, segments, lanes):
    decoder = coder.Decoder(parts[0], TABLES, lanes)
    out = []
    for part, (_, table) in zip(parts, segments, strict=True):
        index = (table % TABLES.scales).astype(np.uint8)
        out.append(decoder.trellis(part, index, next_state(STATES))[0].tolist())
    decoder.finish()
    return out


@given(st.binary(max_size=400), st.sampled_from([1, 2, 32, 64, 1024]))
def test_any_bytes_end_in_our_errors(data, lanes):
    index = np.arange(2000, dtype=np.uint8) % TABLES.scales
    for first in (data, np.full(lanes, 1 << 16, "<u4").tobytes() + data):
        with pytest.raises((CorruptStream, TruncatedStream)):
            indices(cpu, [first], [Segment(index.astype(np.int32), index)], lanes)


@CODERS
def test_an_endless_escape_is_refused(coder):
    # After the escape 15 zero bits are left at the state's low end.
    tables = NARROW
    freq = int(tables.freqs[3])
    x = 1 << 30 | (32768 - freq)
    first = x.to_bytes(4, "little") + bytes(200)
    with pytest.raises(CorruptStream, match="escape"):
        coder.Decoder(first, tables, 1).scalar(first, np.zeros(10, np.uint8))


@CODERS
def test_an_index_beyond_the_limit_is_refused(coder):
    # 15 digits with all bits set: K + 2^15 - 1 is more than 32767.
    tables = NARROW
    state = (2**16 << 15 | 0x7FFF) & 0xFFFFFFFF  # last round's bits on top of a state
    words = []
    for freq, cumulative, bits in ((1, 1 << 14, 15), (int(tables.freqs[3]), 0, 15)):
        if state >= freq << (32 - bits):
            words.insert(0, state & 0xFFFF)
            state >>= 16
        base = 32768 - freq if freq != 1 else cumulative
        state = (state // freq << bits) + base + state % freq
    first = state.to_bytes(4, "little") + np.array(words, "<u2").tobytes()
    with pytest.raises(CorruptStream, match=r"index|escape"):
        coder.Decoder(first, tables, 1).scalar(first, np.zeros(1, np.uint8))


@CODERS
def test_final_state_is_checked(coder):
    segments, parts = three_segments(1)
    decoder = coder.Decoder(parts[0], TABLES, 1)
    decoder.scalar(parts[0], segments[0].table.astype(np.uint8))
    with pytest.raises(CorruptStream, match="ended in state"):
        decoder.finish()


@CODERS
def test_initial_states_are_checked(coder):
    with pytest.raises(TruncatedStream):
        coder.Decoder(bytes(7), TABLES, 64)
    with pytest.raises(CorruptStream, match="initial"):
        coder.Decoder(bytes(8), TABLES, 64)


@CODERS
@pytest.mark.parametrize("lanes", [0, -1, 3, 2048])
def test_lanes_must_be_a_power_of_two(coder, lanes):
    with pytest.raises(BadParameter, match="lanes"):
        coder.encode([], TABLES, lanes)
    with pytest.raises(BadParameter, match="lanes"):
        coder.Decoder(bytes(100), TABLES, lanes)


@CODERS
def test_arguments_are_checked(coder):
    row = np.zeros(3, np.int32)
    table = np.zeros(3, np.uint16)
    bad = [
        (row[:2], table),
        (row.astype(np.int64), table),
        (row, table.astype(np.int32)),
        (row + 32768, table),
        (row - 32768, table),
        (np.full(3, -(2**31), np.int32), table),
        (row, table + np.uint16(3 * TABLES.scales)),
    ]
    for segment in bad:
        with pytest.raises(BadParameter):
            coder.encode([Segment(*segment)], TABLES, 1)
    (good,) = coder.encode([Segment(row, table)], TABLES, 1)
    decoder = coder.Decoder(good, TABLES, 1)
    for index in (table, np.zeros((1, 3), np.uint8), np.full(3, TABLES.scales, np.uint8)):
        with pytest.raises(BadParameter):
            decoder.scalar(good, index)
    wrong = [np.zeros((4, 3), np.uint8), np.zeros((4, 2)), np.full((4, 2), 4, np.uint8)]
    for trellis in (*wrong, np.zeros((4, 2), np.uint8)):  # the last is no linear code
        with pytest.raises(BadParameter):
            decoder.trellis(good, np.zeros(3, np.uint8), trellis)


def test_strided_arrays_are_read_rightly():
    rng = np.random.default_rng(3)
    segment = scalar_segment(rng, 200, TABLES)
    strided = Segment(np.repeat(segment.k, 2)[::2], np.repeat(segment.table, 2)[::2])
    parts = cpu.encode([strided], TABLES, 32)
    assert parts == reference.encode([segment], TABLES, 32)
    index = np.repeat(segment.table.astype(np.uint8), 2)[::2]
    np.testing.assert_array_equal(
        cpu.Decoder(parts[0], TABLES, 32).scalar(parts[0], index), segment.k
    )


def test_hostile_work_is_bounded_by_the_latents_asked_for():
    rng = np.random.default_rng(5)
    data = np.full(1024, 1 << 31, "<u4").tobytes() + rng.bytes(1 << 20)
    index = np.full(1 << 20, 47, np.uint8)
    started = time.perf_counter()
    with pytest.raises((CorruptStream, TruncatedStream)):
        cpu.Decoder(data, TABLES, 1024).scalar(data, index)
    assert time.perf_counter() - started < 5
