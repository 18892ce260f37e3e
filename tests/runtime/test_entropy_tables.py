"""Tables: their rules, their rates, rounding of distributions; lanes; the lazy import."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellic.entropy import Tables, choose_lanes, max_compressed_size, quantized_pmf
from trellic.errors import BadBundle, BadParameter


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


def test_max_compressed_size_grows():
    assert max_compressed_size(0, 1) == 14
    assert max_compressed_size(10, 64) == 60 + 384 + 16


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
