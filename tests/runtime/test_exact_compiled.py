"""Integer networks in bytes give the integers of the plain ones, on any number of threads."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellic.codec import Codec
from trellic.engines import pool
from trellic.engines.ort import OrtEngine
from trellic.errors import EngineError
from trellic.integer import vectors
from trellic.integer.compiled import CompiledNetwork, gives_bytes, runs_compiled
from trellic.integer.networks import IntegerLayer, IntegerNetwork
from trellic.latents import cpu, reference

SEEDS = st.integers(0, 2**32 - 1)
needs_vectors = pytest.mark.skipif(
    vectors.found() is None, reason="needs a processor with AVX-512 VNNI or AVX2"
)


def layer(rng, kind, channels, low, high):
    if kind == "shuffle":
        empty = np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0, np.uint8)
        return IntegerLayer("shuffle", *empty, 0, 0)
    count = channels if kind == "depthwise" else int(rng.integers(1, 160))
    size = int(rng.choice([1, 3, 5]))
    shape = (count, size, size) if kind == "depthwise" else (count, channels)
    return IntegerLayer(
        kind,
        rng.integers(-128, 128, shape, dtype=np.int8),
        rng.integers(-9999, 10000, count, dtype=np.int32),
        rng.integers(1, 31 if rng.random() < 0.1 else 14, count, dtype=np.uint8),
        low,
        high,
    )


def network(rng, heads):
    channels = first = int(rng.integers(1, 70))
    layers = []
    kinds = ["pointwise", *rng.choice(["pointwise", "depthwise", "shuffle"], rng.integers(0, 5))]
    for kind in kinds:
        kind = "pointwise" if kind == "shuffle" and channels % 4 else kind
        low = int(rng.choice([0, -128, rng.integers(-128, 127)]))
        limits = low, int(rng.integers(low, 128))
        layers.append(layer(rng, str(kind), channels, *limits))
        channels = channels // 4 if kind == "shuffle" else len(layers[-1].bias)
    ends = [layer(rng, "pointwise", channels, -65535, 65535) for _ in range(heads or 1)]
    if heads:
        return IntegerNetwork(tuple(layers), tuple(ends)), first
    return IntegerNetwork((*layers, *ends)), first


@needs_vectors
@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(0, 2), st.integers(1, 40), st.integers(1, 20), st.integers(1, 4))
def test_integers_are_those_of_the_plain_network(seed, heads, height, width, threads):
    rng = np.random.default_rng(seed)
    plain, channels = network(rng, heads)
    assert runs_compiled(plain)
    extremes = rng.random() < 0.3
    x = rng.choice([-127, 127], (channels, height, width)) if extremes else None
    x = rng.integers(-127, 128, (channels, height, width)) if x is None else x
    expected = plain(x)
    seen = CompiledNetwork(plain, threads)({"x": x[None].astype(np.float32)})
    assert len(seen) == len(expected)
    for a, b in zip(seen, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a[0], b)


def test_what_does_not_fit_bytes_is_refused():
    rng = np.random.default_rng(0)
    inner, end = layer(rng, "pointwise", 3, 0, 127), layer(rng, "pointwise", 8, -9999, 9999)
    inner = dataclasses.replace(inner, weight=inner.weight[:8], bias=inner.bias[:8])
    good = IntegerNetwork((inner, end))
    assert runs_compiled(good) is (vectors.found() is not None)
    table = np.zeros(128, np.int32)
    for change in ({"high": 128}, {"low": -129}, {"table": table}, {"kind": "conv"}):
        assert not runs_compiled(IntegerNetwork((dataclasses.replace(inner, **change), end)))
    for bias, shift in ((2**31 - 1, 1), (2**31 - 2000 - 2**29, 30), (-(2**31), 1)):
        huge = {"bias": np.full(8, bias, np.int32), "shift": np.full(8, shift, np.uint8)}
        assert not runs_compiled(IntegerNetwork((dataclasses.replace(inner, **huge), end)))
    bad = IntegerNetwork((inner, layer(rng, "depthwise", 8, 0, 9)))
    assert not runs_compiled(bad)
    with pytest.raises(EngineError, match="does not run in bytes"):
        CompiledNetwork(bad)
    assert not gives_bytes(good)
    assert gives_bytes(IntegerNetwork((inner,)))
    assert not gives_bytes(IntegerNetwork((inner,), (inner, end)))


@needs_vectors
def test_features_beyond_bytes_take_the_other_engine(tiny_path, monkeypatch):
    codec = Codec(tiny_path, "cpu", 1)
    h_s = codec.bundle.networks["h_s"]
    wide = dataclasses.replace(h_s.trunk[-1], high=255)
    h_s = dataclasses.replace(h_s, trunk=(*h_s.trunk[:-1], wide))
    codec.bundle.networks["h_s"] = h_s
    with warnings.catch_warnings(action="ignore"):  # the probe is not of this h_s
        engines = codec._pool.exact()
    assert isinstance(engines["h_s"]._engine, CompiledNetwork | None)
    assert isinstance(engines["context_0"]._engine, OrtEngine)


@needs_vectors
def test_a_failure_is_our_error():
    network = IntegerNetwork((layer(np.random.default_rng(0), "pointwise", 3, 0, 127),))
    with pytest.raises(EngineError, match="an integer network failed"):
        CompiledNetwork(network)({"x": np.zeros((1, 3), np.float32)})


@needs_vectors
def test_streams_are_the_same_with_and_without(tiny, tiny_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    used = []

    class Watched(CompiledNetwork):
        def __call__(self, inputs):
            used.append(self)
            return super().__call__(inputs)

    monkeypatch.setattr(pool, "CompiledNetwork", Watched)
    data = Codec(tiny_path, "cpu", 2).encode(pixels)
    assert used
    used.clear()
    monkeypatch.setattr(vectors, "found", lambda: None)
    other = Codec(tiny_path, "cpu", 1)
    assert other.encode(pixels) == data
    assert not used


@pytest.mark.parametrize(
    ("setting", "value"),
    [("CPU_NAME", "generic"), ("CPU_FEATURES", "+avx2"), ("ENABLE_AVX", 0), ("DISABLE_JIT", 1)],
)
def test_another_target_of_numba_has_no_such_instruction(monkeypatch, setting, value):
    vectors.found.cache_clear()
    monkeypatch.setattr(f"numba.config.{setting}", value)
    assert vectors.found() is None
    vectors.found.cache_clear()


# ---- latents in fixed point ----


@given(SEEDS, st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_fixed_point_agrees(seed, channels, height, width):
    rng = np.random.default_rng(seed)
    f = (rng.standard_t(2, (channels, height, width)) * 10.0 ** rng.uniform(-2, 4)).astype("f4")
    gain = (2 ** rng.uniform(-6, 6, channels)).astype(np.float32)
    plain, fast = (module.to_fixed(f, gain) for module in (reference, cpu))
    assert plain.dtype == fast.dtype == np.int64
    np.testing.assert_array_equal(plain, fast)
    assert reference.log_sum(plain) == cpu.log_sum(fast)


def test_logarithms_cross_chunks():
    y32 = np.arange(-3 * cpu.CHUNK, 3 * cpu.CHUNK + 5) ** 3
    assert reference.log_sum(y32) == cpu.log_sum(y32) == cpu.log_sum(y32[::-1])


@given(SEEDS, st.integers(0, 30))
def test_filling_agrees(seed, count):
    rng = np.random.default_rng(seed)
    before, recon32 = (rng.integers(-9999, 9999, n, dtype=np.int32) for n in (40, count))
    position = rng.permutation(40)[:count].astype(np.int32)
    plain, fast = before.copy(), before.copy()
    reference.fill(plain, position, recon32)
    cpu.fill(fast, position, recon32)
    np.testing.assert_array_equal(plain, fast)
