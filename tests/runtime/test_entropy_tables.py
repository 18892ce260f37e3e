"""Tables: their rules, their rates, rounding of distributions; lanes; the lazy import."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.entropy import (
    Tables,
    choose_lanes,
    lanes,
    max_compressed_size,
    quantized_pmf,
    tables,
)
from trellic.entropy.tables import FrequencyTables
from trellic.errors import BadBundle, BadParameter, CorruptStream, TruncatedStream
from trellic.quantize.trellis import next_state


def small(**changes) -> Tables:
    fields = {
        "half_width": np.array([[1], [1], [0]], np.uint16),
        "freqs": np.array([8192, 16384, 4096, 4096, 1, 32765, 1, 1, 32767, 1], np.uint16),
        "off": np.zeros((3, 1, 4), np.int16),
    }
    return Tables(**(fields | changes))


def test_layout():
    tables = small()
    assert tables.scales == 1
    assert tables.start.tolist() == [0, 4, 8]
    assert tables.sizes.tolist() == [4, 4, 2]
    assert not tables.freqs.flags.writeable
    assert dataclasses.replace(tables, trellis_step=30).trellis_step == 30


def test_rates_are_in_64ths_of_a_bit():
    assert small().rates().tolist()[:4] == [128, 64, 192, 192]
    assert small().rates().tolist()[4:] == [960, 0, 960, 960, 0, 960]
    assert small().rates().dtype == np.int32


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": 16},
        {"trellis_step": 0},
        {"trellis_step": 256},
        {"half_width": np.array([[1], [1]], np.uint16)},
        {"half_width": np.array([1, 1, 0], np.uint16)},
        {"half_width": np.array([[1], [1], [1024]], np.uint16)},
        {"half_width": np.zeros((3, 0), np.uint16)},
        {"half_width": np.array([[1.0], [1.0], [0.0]])},
        {"half_width": np.array([[1], [1], [-1]])},
        {"half_width": np.array([[1], [1], [1]], np.uint16)},
        {"freqs": np.array([8192, 16384, 4096, 4096, 0, 32766, 1, 1, 32767, 1], np.uint16)},
        {"freqs": np.array([8192, 16384, 4096, 4096, 1, 32766, 1, 1, 32767, 1], np.uint16)},
        {"freqs": np.array([8192, 16384, 4096, 4096, 1, 98301, 1, 1, 32767, 1], np.int64)},
        {"off": np.zeros((3, 1, 3), np.int16)},
        {"off": np.full((3, 1, 4), 256, np.int16)},
        {"off": np.full((3, 1, 4), -32768, np.int16)},
    ],
)
def test_broken_tables_are_refused(changes):
    with pytest.raises(BadBundle):
        small(**changes)


def test_rules_hold_to_their_limits():
    """What a limit still allows is allowed, and one more is not."""
    assert small(trellis_step=1).trellis_step == 1
    assert small(trellis_step=255).trellis_step == 255
    assert small(off=np.full((3, 1, 4), -255, np.int16)).off.min() == -255
    uniform = np.full(2, 1 << 14, np.uint16)
    for scales, allowed in ((255, True), (256, False)):
        shape = (3, scales)
        fields = {
            "half_width": np.zeros(shape, np.uint16),
            "freqs": np.tile(uniform, 3 * scales),
            "off": np.zeros((*shape, 4), np.int16),
        }
        if allowed:
            assert Tables(**fields).scales == scales
        else:
            with pytest.raises(BadBundle, match=r"S in 1\.\.255"):
                Tables(**fields)
    for width, allowed in ((1023, True), (1024, False)):
        wide = quantized_pmf(np.ones(2 * width + 2))
        fields = {"half_width": np.array([[width], [0], [0]]), "freqs": [*wide, *uniform, *uniform]}
        if allowed:
            assert small(**fields).sizes.tolist() == [2048, 2, 2]
        else:
            with pytest.raises(BadBundle, match="half width 1024"):
                small(**fields)


def test_tables_are_their_own_copies():
    given = np.array([[1], [1], [0]], np.uint16)
    tables = small(half_width=given)
    given[:] = 9
    assert tables.half_width.tolist() == [[1], [1], [0]]
    turned = Tables(
        half_width=np.asfortranarray(np.zeros((3, 2), np.int64)),
        freqs=np.full(12, 1 << 14),
        off=np.asfortranarray(np.zeros((3, 2, 4), np.int64)),
        trellis_step=np.int64(20),
    )
    for name, dtype in (("half_width", np.uint16), ("freqs", np.uint16), ("off", np.int16)):
        array = getattr(turned, name)
        assert array.flags.c_contiguous
        assert not array.flags.writeable
        assert array.dtype == dtype
    assert type(turned.trellis_step) is int


def test_there_is_one_class_at_least():
    assert FrequencyTables(np.zeros((1, 1), np.uint16), np.full(2, 1 << 14)).scales == 1
    with pytest.raises(BadBundle, match=r"half widths of shape \(0, 3\)"):
        FrequencyTables(np.zeros((0, 3), np.uint16), np.zeros(0, np.uint16))


def test_a_wrong_sum_is_named_with_its_table():
    freqs = np.array([8192, 16384, 4096, 4096, 1, 32765, 1, 1, 32766, 1], np.uint16)
    with pytest.raises(BadBundle, match="table 2 sums to 32767"):
        small(freqs=freqs)


def test_entries_of_a_coder():
    """Cumulative, frequency and index of each symbol, a closing entry, the first of each bucket."""
    made = small().coding
    entries = [[], [], []]
    for entry in made.entry.tolist():
        cumulative, freq, k = entry & 0xFFFF, entry >> 16 & 0x7FFF, entry >> 32
        entries[entry >> 31 & 1].append((cumulative, freq, k - (1 << 32) * (k >> 31)))
    end = (1 << 15, 0, 0)
    assert entries[0] == [
        *((0, 8192, -1), (8192, 16384, 0), (24576, 4096, 1), end),
        *((0, 1, -1), (1, 32765, 0), (32766, 1, 1), end),
        *((0, 32767, 0), end),
    ]
    assert entries[1] == [(28672, 4096, 2), (32767, 1, 2), (32767, 1, 1)]  # escapes
    assert made.zero.tolist() == [1, 6, 10]
    assert made.half_width.tolist() == [1, 1, 0]
    firsts = made.first.reshape(3, 256)
    assert firsts[0].tolist() == [0] * 64 + [1] * 128 + [2] * 32 + [3] * 32
    assert firsts[1].tolist() == [5] + [6] * 255
    assert firsts[2].tolist() == [10] * 256
    dtypes = [array.dtype for array in made]
    assert dtypes == [np.uint64, np.int32, np.int32, np.uint32]


def test_other_arrays_of_a_file_are_not_read():
    """A bundle holds more in the same file; of objects nothing is unpickled."""
    file = io.BytesIO()
    np.savez(file, **small().to_arrays(), other=np.array([None], object), tablesx=np.zeros(1))
    file.seek(0)
    assert Tables.load(file).freqs.tolist() == small().freqs.tolist()
    file = io.BytesIO()
    broken = small().to_arrays() | {"tables.freqs": np.array([None], object)}
    np.savez(file, **broken)
    file.seek(0)
    with pytest.raises(BadBundle, match="cannot be read"):
        Tables.load(file)


def test_steps_are_one_integer():
    arrays = small(trellis_step=20).to_arrays()
    assert arrays["tables.trellis_step"].tolist() == [20]
    assert arrays["tables.precision"].tolist() == [15]
    assert arrays["tables.trellis_step"].dtype == arrays["tables.precision"].dtype == np.uint16
    for wrong in (np.zeros(2, np.uint16), np.array([20.0]), np.uint16(20)):
        with pytest.raises(BadBundle, match=r"tables\.trellis_step"):
            Tables.from_arrays(arrays | {"tables.trellis_step": wrong})


def test_save_and_load():
    file = io.BytesIO()
    small(trellis_step=20).save(file)
    file.seek(0)
    again = Tables.load(file)
    assert again.trellis_step == 20
    for name in ("half_width", "freqs", "off"):
        np.testing.assert_array_equal(getattr(again, name), getattr(small(), name))
        assert getattr(again, name).dtype == getattr(small(), name).dtype


@pytest.mark.parametrize("name", ["half_width", "freqs", "off", "trellis_step", "precision"])
def test_missing_or_misshapen_arrays(name):
    arrays = small().to_arrays()
    with pytest.raises(BadBundle):
        Tables.from_arrays({k: v for k, v in arrays.items() if k != f"tables.{name}"})
    with pytest.raises(BadBundle):
        Tables.from_arrays(arrays | {f"tables.{name}": np.zeros((2, 2), np.float32)})


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK no zip")
    with pytest.raises(BadBundle):
        Tables.load(tmp_path / "a.npz")
    with pytest.raises(BadBundle):
        Tables.load(tmp_path / "missing.npz")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=60).filter(lambda w: sum(w) > 1e-9))
def test_rounding_is_valid_and_no_swap_is_better(weights):
    freq = quantized_pmf(weights).astype(np.int64)
    assert freq.sum() == 1 << 15
    assert freq.min() >= 1
    p = np.array(weights) / sum(weights)
    gain = (p * np.log2(1 + 1 / freq)).max()
    many = freq > 1
    loss = (p[many] * np.log2(freq[many] / (freq[many] - 1))).min()
    assert gain <= loss * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_units_are_added_taken_or_swapped_to_one_optimum(seed):
    """Each way by itself, from a start that is far away: from too few, too many, and from any."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(rng.integers(2, 10), 0.4))
    best = quantized_pmf(p, precision=6).tolist()

    def cost(freq) -> float:
        assert sum(freq) == 64
        assert min(freq) >= 1
        return float(-(p * np.log2(freq)).sum())

    few, many = [1] * len(p), [64] * len(p)
    tables._add_units(few, p.tolist(), 64 - len(p))
    tables._take_units(many, p.tolist(), 64 * len(p) - 64)
    found = [few, many]
    for more in (2, 3, 9):  # units too many of some
        found.append([f + int(rng.integers(0, more)) for f in best])
        tables._take_units(found[-1], p.tolist(), sum(found[-1]) - 64)
    for _ in range(4):
        found.append((1 + rng.multinomial(64 - len(p), rng.dirichlet(np.ones(len(p))))).tolist())
        tables._swap_units(found[-1], p.tolist())
    assert [cost(freq) for freq in found] == pytest.approx([cost(best)] * len(found), rel=1e-9)


def test_rounding_optimum_by_brute_force():
    p = np.array([0.7, 0.2, 0.07, 0.03])
    best = min(
        ((a, b, c, 16 - a - b - c) for a in range(1, 14) for b in range(1, 15 - a)
         for c in range(1, 16 - a - b)),
        key=lambda f: -(p * np.log2(f)).sum(),
    )  # fmt: skip
    assert quantized_pmf(p, precision=4).tolist() == list(best)


@pytest.mark.parametrize("bad", [[1.0], [0.0, 0.0], [-0.1, 1.1], [np.nan, 1], [[0.5, 0.5]], []])
def test_unusable_distributions(bad):
    with pytest.raises(BadParameter):
        quantized_pmf(bad)


def test_as_many_symbols_as_there_are_units():
    """The finest and the coarsest rounding that there is."""
    assert quantized_pmf([3, 1], precision=1).tolist() == [1, 1]
    assert quantized_pmf(np.arange(4), precision=2).tolist() == [1, 1, 1, 1]
    assert quantized_pmf([0, 1], precision=15).tolist() == [1, 32767]
    for weights, precision in (([1] * 5, 2), ([1, 1], 0), ([1, 1], 16)):
        with pytest.raises(BadParameter, match="a pmf that cannot be rounded"):
            quantized_pmf(weights, precision=precision)


def test_weights_of_any_type_are_rounded_in_double_precision():
    halves = quantized_pmf(np.full(2, 60_000, np.float16))  # whose sum is no float16
    assert halves.tolist() == [1 << 14] * 2
    assert halves.dtype == np.uint16


def test_rounding_loses_at_most_a_thousandth():
    # The mixture of DESIGN.md R3: 24 scales, most of them small.
    sigmas = np.geomspace(0.11, 12, 24)
    weight = np.exp(-0.5 * ((np.log(sigmas) - np.log(0.35)) / 0.9) ** 2)
    ideal = actual = 0.0
    for sigma, w in zip(sigmas, weight, strict=True):
        k = np.arange(0, int(np.ceil(5 * sigma)) + 2)
        side = np.exp(-k * np.sqrt(2) / sigma)
        pmf = np.concatenate([side[:0:-1], side, [side[-1] / 10]])
        pmf /= pmf.sum()
        cost = 15 - np.log2(quantized_pmf(pmf).astype(np.float64))
        ideal += w * -(pmf * np.log2(pmf)).sum()
        actual += w * (pmf * cost).sum()
    assert actual - ideal <= 0.001 * ideal


def test_choose_lanes():
    assert [choose_lanes(n) for n in (0, 599, 1199, 1200, 2399, 2400)] == [1, 1, 1, 2, 2, 4]
    assert choose_lanes(614_399) == 512
    assert choose_lanes(614_400) == choose_lanes(10**12) == 1024
    assert {type(choose_lanes(n)) for n in (0, 1200, 614_400)} == {int}


def test_max_compressed_size_grows():
    assert max_compressed_size(0, 1) == 14
    assert max_compressed_size(10, 64) == 60 + 384 + 16


# ---- words of groups ----


def test_numbers_of_words_are_one_word_or_two():
    """Two from 2**15 on; the last group needs none, since it has the rest."""
    groups = [np.arange(n).astype(np.uint16) for n in (0x7FFF, 0x8000, 70_000, 5)]
    data = lanes.pack([], groups)
    head = [0x7FFF, 0x8000, 0x8000, 0x8001, 70_000 - 65_536]
    assert np.frombuffer(data, "<u2", len(head)).tolist() == head
    words, bounds = lanes.unpack(data, 128, False)
    assert lanes.split(words, bounds) == [group.tolist() for group in groups]
    assert len(words) == len(data) // 2 + lanes.GROUP
    assert not words[-lanes.GROUP :].any()
    assert (words.dtype, bounds.dtype) == (np.uint16, np.int64)


def test_the_first_segment_begins_with_states():
    states = [1 << 16, 0xFFFFFFFF]
    data = lanes.pack(states, [np.array([7, 8], np.uint16), np.array([9], np.uint16)])
    assert np.frombuffer(data, "<u4", 2).tolist() == states
    assert lanes.unpack_states(data, 64).tolist() == states
    assert lanes.unpack_states(data, 64).dtype == np.uint32
    assert lanes.split(*lanes.unpack(data, 64, True)) == [[7, 8], [9]]
    with pytest.raises(TruncatedStream, match="at least 8 for the states of 64 lanes"):
        lanes.unpack_states(data[:7], 64)
    with pytest.raises(CorruptStream, match="a segment of 6 bytes"):
        lanes.unpack(data[:6], 64, True)
    with pytest.raises(CorruptStream, match="an initial rANS state of 65535"):
        lanes.unpack_states(lanes.pack([65_535], []), 1)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ([0x8000, 0x7FFF], CorruptStream, "32767 words in the long form"),
        ([0x8000, 0x8000], TruncatedStream, "a segment of 2 words"),
        ([0x8001], TruncatedStream, "a segment of 1 words"),
        ([3, 1, 1], TruncatedStream, "a segment of 3 words"),
        ([], TruncatedStream, "a segment of 0 words"),
    ],
)
def test_groups_that_do_not_fit_are_refused(words, error, message):
    data = np.array(words, "<u2").tobytes()
    with pytest.raises(error, match=message):
        lanes.unpack(data, 64, False)


def test_groups_may_just_fit():
    for words, expected in (([2, 1, 1], [[1, 1], []]), ([0], [[], []]), ([1, 5, 6], [[5], [6]])):
        data = np.array(words, "<u2").tobytes()
        assert lanes.split(*lanes.unpack(data, 64, False)) == expected


def test_segments_are_whole_words_and_hold_their_states():
    for size, first in ((3, False), (7, True), (6, True), (9, True)):
        with pytest.raises(CorruptStream, match=f"a segment of {size} bytes"):
            lanes.check_size(bytes(size), 64, first)
    for size, first in ((0, False), (2, False), (8, True), (10, True)):
        lanes.check_size(bytes(size), 64, first)


def test_states_of_a_trellis_are_1_to_256():
    lanes.check_next_state(np.zeros((1, 2), np.uint8))
    lanes.check_next_state(next_state(256))
    for after in (0, 1):  # an even index in state 1
        lanes.check_next_state(np.array([[0, 1], [after, 1 - after]], np.uint8))
    for wrong in ((0, 2), (257, 2), (4, 3), (4, 1), (4,)):
        with pytest.raises(BadParameter, match="expected uint8"):
            lanes.check_next_state(np.zeros(wrong, np.uint8))
    with pytest.raises(BadParameter, match="leads to 4 of 4 states"):
        lanes.check_next_state(np.full((4, 2), 4, np.uint8))
    for place in ((0, 1), (1, 0), (3, 1)):
        changed = next_state(4).copy()
        changed[place] ^= 1
        with pytest.raises(BadParameter, match="not linear"):
            lanes.check_next_state(changed)


def test_lanes_end_where_they_began():
    states = np.full(3, 1 << 16, np.uint32)
    lanes.check_final(states)
    states[1:] += 1
    with pytest.raises(CorruptStream, match="lane 1 ended in state 65537"):
        lanes.check_final(states)


def test_tables_do_not_load_numba():
    code = (
        "import sys, trellic.entropy as e; e.Tables, e.quantized_pmf, e.Segment;"
        "assert 'numba' not in sys.modules; e.encode; assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    import trellic.entropy

    with pytest.raises(AttributeError, match="nothing"):
        _ = trellic.entropy.nothing
