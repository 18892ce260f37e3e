"""What decides symbols is integer arithmetic: the same in every kernel, engine and setting."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellic import bitstream
from trellic.codec import Codec
from trellic.constants import TRELLIS_STATES
from trellic.engines import pool
from trellic.engines.exact import ExactNetwork, digest, probe_input
from trellic.engines.ort import OrtEngine
from trellic.errors import BadBundle, EngineError, TrellicWarning
from trellic.geometry import Plane
from trellic.integer.networks import (
    KINDS,
    IntegerLayer,
    IntegerNetwork,
    from_arrays,
    outputs,
    to_arrays,
)
from trellic.latents import cpu, reference
from trellic.model.quality import LevelTables

SEEDS = st.integers(0, 2**32 - 1)

# ---- latents of a step: compiled against plain ----


@given(SEEDS, st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_context_inputs_agree(seed, channels, height, width):
    rng = np.random.default_rng(seed)
    size = int(2.0 ** rng.uniform(1, 26))
    v32 = rng.integers(-size, size, (channels, height, width), dtype=np.int32)
    scale = np.maximum(1, 2 ** rng.uniform(0, 30, channels)).astype(np.int64)
    plain, fast = np.empty((2, *v32.shape), np.float32)
    reference.context_input(v32, scale, plain)
    cpu.context_input(v32, scale, fast)
    np.testing.assert_array_equal(plain, fast)
    expected = [
        min(max((int(v) * int(scale[c]) + 2**15) >> 16, -127), 127)
        for (c, _, _), v in np.ndenumerate(v32)
    ]
    assert plain.ravel().tolist() == expected


@settings(max_examples=150)
@given(SEEDS, st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_predictions_agree(seed, channels, height, width):
    rng = np.random.default_rng(seed)
    shape = channels, height, width
    mu = rng.integers(-65535, 65536, shape).astype(np.float32)
    scale = rng.integers(-1023, 1024, shape).astype(np.float32)
    member = rng.random((channels, 2)) < 0.6
    gain = (2 ** rng.uniform(0, 31, channels)).astype(np.int64)
    shift = rng.integers(-9000, 9000, channels)
    scales = int(rng.integers(1, 256))
    limits = (
        int(rng.integers(0, 12)),
        int(rng.integers(0, 12)),
        int(rng.integers(0, 256)) if rng.random() < 0.3 else 2,
        scales,
    )
    before = rng.integers(-999, 999, shape, dtype=np.int32)
    results = []
    for module in (reference, cpu):
        v32 = before.copy()
        results.append((*module.predict(mu, scale, member, gain, shift, limits, v32), v32))
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    naive = naive_prediction(mu, scale, member, gain, shift, limits, before)
    for a, b in zip(results[0], naive, strict=True):
        assert a.tolist() == b


def naive_prediction(mu, scale, member, gain, shift, limits, v32):
    """Section 7.4 of the format, one Python integer at a time."""
    rows, columns, skip, scales = limits
    position, mean32, index, filled = [], [], [], v32.astype(int).copy()
    for at, (c, y, x) in enumerate(np.ndindex(mu.shape)):
        if not member[c, (y + x) & 1]:
            continue
        mean = min(max((int(mu[c, y, x]) * int(gain[c]) + 2**15) >> 16, -(2**20)), 2**20)
        i = (int(scale[c, y, x]) * 16 + int(shift[c]) + 64) >> 7
        i = min(max(i, 0), scales - 1)
        filled[c, y, x] = mean
        if i >= skip and y < rows and x < columns:
            position.append(at)
            mean32.append(mean)
            index.append(i)
    return position, mean32, index, filled.tolist()


# ---- integer networks ----


def random_layer(rng, kind, channels):
    if kind == "shuffle":
        empty = np.empty(0, np.int8), np.empty(0, np.int32), np.empty(0, np.uint8)
        return IntegerLayer("shuffle", *empty, 0, 0)
    count = channels if kind == "depthwise" else 4 * int(rng.integers(1, 4))
    size = int(rng.choice([1, 3, 5]))
    shape = {
        "pointwise": (count, channels),
        "depthwise": (count, size, size),
        "conv": (count, channels, size, size),
    }[kind]
    low, high = sorted(rng.integers(-127, 128, 2).tolist())
    table = rng.integers(-127, 128, high - low + 2, dtype=np.int32)
    return IntegerLayer(
        kind,
        rng.integers(-128, 128, shape, dtype=np.int8),
        rng.integers(-9999, 10000, count, dtype=np.int32),
        rng.integers(1, 16, count, dtype=np.uint8),
        low - 1,
        high,
        table[: len(table) * int(rng.integers(2))],
    )


def random_network(seed):
    rng = np.random.default_rng(seed)
    layers, channels = [], int(rng.integers(1, 6))
    first = channels
    for i in range(int(rng.integers(1, 5))):
        possible = ["pointwise", "conv"] + ["depthwise"] * (i > 0)
        kind = str(rng.choice(possible + ["shuffle"] * (i > 0 and channels % 4 == 0)))
        layers.append(random_layer(rng, kind, channels))
        kinds = {"shuffle": channels // 4, "depthwise": channels}  # others: as many as biases
        channels = kinds.get(kind, len(layers[-1].bias))
    heads = [random_layer(rng, "pointwise", channels) for _ in range(int(rng.integers(0, 3)))]
    x = rng.integers(-127, 128, (first, int(rng.integers(1, 7)), int(rng.integers(1, 7))))
    return IntegerNetwork(tuple(layers), tuple(heads)), x


def naive_layer(layer, x):
    """Section 7.5 of the format in int64, sample by sample."""
    _, height, width = x.shape
    if layer.kind == "shuffle":
        out = np.empty((len(x) // 4, 2 * height, 2 * width), np.int64)
        for c, dy, dx in np.ndindex(len(out), 2, 2):
            out[c, dy::2, dx::2] = x[4 * c + 2 * dy + dx]
        return out
    weight = layer.weight.astype(np.int64)
    if layer.kind == "pointwise":
        acc = (weight[:, :, None, None] * x[None]).sum(1) + layer.bias[:, None, None]
    else:
        half = weight.shape[-1] // 2
        acc = np.empty((len(weight), height, width), np.int64)
        for c, y, xx in np.ndindex(acc.shape):
            total = int(layer.bias[c])
            for dy, dx in np.ndindex(weight.shape[-2:]):
                v, u = y + dy - half, xx + dx - half
                if 0 <= v < height and 0 <= u < width:
                    seen = x[c, v, u] if layer.kind == "depthwise" else x[:, v, u]
                    total += int((weight[c, ..., dy, dx] * seen).sum())
            acc[c, y, xx] = total
    shift = layer.shift.astype(np.int64)[:, None, None]
    out = np.clip((acc + (1 << (shift - 1))) >> shift, layer.low, layer.high)
    return layer.table[out - layer.low].astype(np.int64) if layer.table.size else out


def naive_network(network, x):
    value = np.asarray(x, np.int64)
    for layer in network.trunk:
        value = naive_layer(layer, value)
    return [naive_layer(head, value) for head in network.heads] or [value]


@given(SEEDS)
def test_networks_compute_what_the_format_says(seed):
    network, x = random_network(seed)
    for a, b in zip(network(x), naive_network(network, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tiny_networks_compute_what_the_format_says(tiny):
    rng = np.random.default_rng(0)
    for network in tiny.bundle.networks.values():
        x = rng.integers(-127, 128, (network.channels_in, 6, 7))
        for a, b in zip(network(x), naive_network(network, x), strict=True):
            np.testing.assert_array_equal(a, b)
        assert outputs(network) == [len(y) for y in network(x)]


@given(SEEDS)
def test_networks_are_stored_whole(seed):
    network, x = random_network(seed)
    arrays = to_arrays("n", network)
    again = from_arrays("n", arrays)
    assert [layer.kind for layer in again.layers] == [layer.kind for layer in network.layers]
    for a, b in zip(network(x), again(x), strict=True):
        np.testing.assert_array_equal(a, b)
    for key in arrays:
        if key.split(".")[-1] in ("kind", "table"):
            continue  # a network that ends there, a layer without a table
        with pytest.raises(BadBundle, match="damaged"):
            from_arrays("n", {k: v for k, v in arrays.items() if k != key})


def chain():
    """Pointwise 2 -> 8, shuffle, depthwise 3x3, with two heads."""
    rng = np.random.default_rng(4)
    trunk = [random_layer(rng, "pointwise", 2)]
    trunk[0] = dataclasses.replace(
        trunk[0],
        weight=np.ones((8, 2), np.int8),
        bias=np.zeros(8, np.int32),
        shift=np.ones(8, np.uint8),
    )
    trunk += [random_layer(rng, "shuffle", 8), random_layer(rng, "depthwise", 2)]
    heads = [random_layer(rng, "pointwise", 2) for _ in range(2)]
    return to_arrays("n", IntegerNetwork(tuple(trunk), tuple(heads)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trunk.0.kind", np.array([3], np.uint8)),
        ("trunk.0.kind", np.array([4], np.uint8)),
        ("trunk.0.table", np.zeros(1, np.int32)),
        ("trunk.0.table", np.zeros((1, 1), np.int32)),
        ("trunk.2.table", np.zeros(300, np.int16)),
        ("trunk.0.kind", np.array([1], np.uint8)),
        ("trunk.0.kind", np.array([], np.uint8)),
        ("trunk.0.weight", np.ones((8, 2), np.int16)),
        ("trunk.0.weight", np.ones((8, 2), np.float32)),
        ("trunk.0.weight", np.ones((8, 2, 1), np.int8)),
        ("trunk.0.weight", np.ones((7, 2), np.int8)),
        ("trunk.0.weight", np.ones((0, 2), np.int8)),
        ("trunk.0.bias", np.zeros((8, 1), np.int32)),
        ("trunk.0.bias", np.zeros(8, np.int64)),
        ("trunk.0.shift", np.zeros(8, np.uint8)),
        ("trunk.0.shift", np.full(8, 31, np.uint8)),
        ("trunk.0.shift", np.ones(7, np.uint8)),
        ("trunk.0.range", np.array([5, 4], np.int32)),
        ("trunk.0.range", np.array([5], np.int32)),
        ("trunk.0.range", np.array([0, np.inf])),
        ("trunk.2.weight", np.ones((2, 2, 2), np.int8)),
        ("trunk.2.weight", np.ones((2, 3, 5), np.int8)),
        ("head.1.weight", np.ones((4, 3), np.int8)),
    ],
    ids=str,
)
def test_damaged_networks_are_refused(key, value):
    arrays = chain()
    from_arrays("n", arrays)
    with pytest.raises(BadBundle, match="'n' is damaged"):
        from_arrays("n", arrays | {f"n.{key}": value})


def test_a_shuffle_needs_whole_groups_of_four():
    arrays = chain()
    arrays["n.trunk.0.weight"] = np.ones((6, 2), np.int8)
    arrays["n.trunk.0.bias"] = np.zeros(6, np.int32)
    arrays["n.trunk.0.shift"] = np.ones(6, np.uint8)
    with pytest.raises(BadBundle, match="shuffle"):
        from_arrays("n", arrays)


def test_a_missing_network():
    with pytest.raises(BadBundle, match="'m' is missing"):
        from_arrays("m", chain())


def test_kinds_are_numbered_for_ever():
    assert KINDS == ("pointwise", "depthwise", "shuffle", "conv")


# ---- engines (tests/benchmarks/test_exactness.py compares all of them) ----


def test_sizes_are_dynamic(tiny):
    rng = np.random.default_rng(2)
    for name, network in tiny.bundle.networks.items():
        engine = OrtEngine(tiny.bundle.graph(tiny.bundle.manifest.exact[name]), threads=1)
        for size in ((1, 1), (1, 9), (7, 3), (64, 64)):
            x = rng.integers(-127, 128, (network.channels_in, *size)).astype(np.float32)
            for a, b in zip(engine({"x": x[None]}), network(x), strict=True):
                np.testing.assert_array_equal(a[0], b)


def test_probes_of_the_bundle(tiny):
    for name, network in tiny.bundle.networks.items():
        probe = probe_input(network.channels_in)
        assert digest(network(probe)) == tiny.bundle.manifest.probes[name]
        assert tiny._pool.exact()[name].exact_engine


PROBE_START = [125, -11, -57, 83, 73, -22]
PROBE_DIGEST = "c7b063c41b47636686b3517f886f082482539950f37ff960e11b6c85bcc21190"


def test_the_probe_is_the_same_for_ever():
    probe = probe_input(3)
    assert (probe.shape, probe.dtype) == ((3, 12, 12), np.float32)
    assert probe.min() >= -127
    assert probe.max() <= 127
    assert probe[0, 0, :6].tolist() == PROBE_START
    assert digest([probe]) == PROBE_DIGEST
    assert digest([probe[:1], probe[1:]]) == PROBE_DIGEST


def test_the_probe_by_hand():
    def value(i):
        x = i * 0x9E3779B1 & 0xFFFFFFFF
        x = (x ^ x >> 16) * 0x85EBCA6B & 0xFFFFFFFF
        x = (x ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
        return (x ^ x >> 16) % 255 - 127

    assert probe_input(2).ravel().tolist() == [value(i) for i in range(1, 289)]


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, 1e12])
def test_what_is_no_integer_has_no_digest(wrong):
    good = np.arange(6, dtype=np.float32)
    assert len(digest([good])) == 64
    assert digest([good, np.array([wrong], np.float64)]) == ""


class Fake:
    """An engine that gives the plain integers, spoilt in one place."""

    def __init__(self, network, error=0.0):
        self.network, self.error, self.calls = network, error, 0

    def __call__(self, inputs):
        self.calls += 1
        results = [y[None].astype(np.float32) for y in self.network(inputs["x"][0])]
        results[-1][0, -1, -1, -1] += self.error
        return results


def test_a_right_engine_is_used(tiny):
    network = tiny.bundle.networks["context_1"]
    fake = Fake(network)
    exact = ExactNetwork("n", network, tiny.bundle.manifest.probes["context_1"], lambda: fake)
    assert exact.exact_engine
    exact(probe_input(network.channels_in))
    assert fake.calls == 2


@pytest.mark.parametrize("error", [1, -1, 0.25, np.nan, 2**33])
def test_a_wrong_engine_is_replaced_by_the_plain_integers(tiny, error):
    network = tiny.bundle.networks["context_1"]
    probe = tiny.bundle.manifest.probes["context_1"]
    fake = Fake(network, error)
    with pytest.warns(TrellicWarning, match="'n' are wrong on this machine"):
        exact = ExactNetwork("n", network, probe, lambda: fake)
    assert not exact.exact_engine
    x = np.random.default_rng(1).integers(-127, 128, (network.channels_in, 5, 6))
    for a, b in zip(exact(x.astype(np.float32)), network(x), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert fake.calls == 1


def rounded_to_half(results):
    """What fp16 storage leaves of integers beyond 2048."""
    return [y.astype(np.float16).astype(np.float32) for y in results]


def saturating(results):
    """An int8 engine that was calibrated on other data."""
    return [np.clip(y, -128, 127) for y in results]


SABOTAGE = {
    "half": rounded_to_half,
    "saturating": saturating,
    "swapped outputs": lambda results: results[::-1],
    "transposed planes": lambda results: [y.swapaxes(2, 3) for y in results],
    "NHWC outputs": lambda results: [np.moveaxis(y, 1, -1) for y in results],
    "shifted by one": lambda results: [np.roll(y, 1, 3) for y in results],
    "last row lost": lambda results: [y[:, :, :-1] for y in results],
    "one output lost": lambda results: results[:-1],
    "no output": lambda results: [],
    "one channel twice": lambda results: [y[:, [0, *range(len(y[0]) - 1)]] for y in results],
    "rounded up now and then": lambda results: [y + (y % 7 == 3) for y in results],
    "minus one for zero": lambda results: [y - (y == 0) for y in results],
}


@pytest.mark.parametrize("kind", SABOTAGE)
def test_a_deliberately_wrong_engine_is_caught(tiny, kind):
    network = tiny.bundle.networks["context_1"]
    probe = tiny.bundle.manifest.probes["context_1"]
    fake = Fake(network)
    with pytest.warns(TrellicWarning, match="'n' are wrong on this machine"):
        exact = ExactNetwork("n", network, probe, lambda: lambda i: SABOTAGE[kind](fake(i)))
    assert not exact.exact_engine


def test_an_engine_that_fails_its_probe_is_replaced(tiny, tiny_path, monkeypatch):
    class Failing(OrtEngine):
        def __call__(self, inputs):
            if "x" in inputs:
                raise EngineError("onnxruntime failed: out of device memory")
            return super().__call__(inputs)

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    data = tiny.encode(pixels)
    monkeypatch.setattr(pool, "OrtEngine", Failing)
    monkeypatch.setattr(pool, "runs_compiled", lambda network: False)
    other = Codec.load(str(tiny_path), device="cpu", threads=1)
    with pytest.warns(TrellicWarning, match=r"cannot be computed \(onnx.*out of device memory"):
        assert other.encode(pixels) == data
    assert not any(network.exact_engine for network in other._pool.exact().values())


def test_a_session_that_lost_its_graph_gives_way(tiny):
    """A real onnxruntime failure: the graph wants another number of channels than the network."""
    network = tiny.bundle.networks["context_1"]
    graph = tiny.bundle.graph(tiny.bundle.manifest.exact["context_2"])
    with pytest.warns(TrellicWarning, match="cannot be computed"):
        exact = ExactNetwork("n", network, "", lambda: OrtEngine(graph, threads=1))
    probe = probe_input(network.channels_in)
    np.testing.assert_array_equal(exact(probe)[0], network(probe)[0])


def test_streams_do_not_depend_on_the_engine(tiny, tiny_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8)
    data = tiny.encode(pixels)

    class Wrong(OrtEngine):
        def __call__(self, inputs):
            results = super().__call__(inputs)
            return [y + (y > 3) for y in results] if "x" in inputs else results

    monkeypatch.setattr(pool, "OrtEngine", Wrong)
    monkeypatch.setattr(pool, "runs_compiled", lambda network: False)
    other = Codec.load(str(tiny_path), device="cpu", threads=1)
    with pytest.warns(TrellicWarning) as warned:
        assert other.encode(pixels) == data
    assert len(warned) == len(tiny.bundle.networks)
    np.testing.assert_array_equal(other.decode(data), tiny.decode(data))


# ---- levels ----


def level_tables(rng, first=-3, levels=40, channels=4, hyper=3):
    return LevelTables(
        first_level=first,
        level_offset=rng.integers(-90, 91, 8).astype(np.int16),
        gain=np.cumsum(rng.integers(1, 5000, (levels, channels)), axis=0).astype(np.int32),
        scale_shift=rng.integers(-3000, 3000, (levels, channels)).astype(np.int32),
        context_gain=rng.integers(1, 2**20, channels).astype(np.int32),
        hyper_mean=rng.integers(-50, 50, (16, hyper)).astype(np.int32),
        hyper_index=rng.integers(0, 48, (16, hyper)).astype(np.uint8),
        hyper_scale=rng.integers(1, 2**21, (16, hyper)).astype(np.int32),
    )


@given(SEEDS, st.integers(16, 1600), st.sampled_from(TRELLIS_STATES), st.integers(-20, 90))
def test_levels_are_what_the_format_says(seed, quality16, trellis, first):
    """Section 7.2, in Python integers."""
    tables = level_tables(np.random.default_rng(seed), first)
    level = tables.at(quality16, trellis)
    last = first + 39
    code = TRELLIS_STATES.index(trellis)
    level16 = min(max(quality16 + int(tables.level_offset[code]), 16 * first), 16 * last)
    i, f = (level16 >> 4) - first, level16 & 15
    j = min(i + 1, last - first)

    def interp(table):
        pairs = zip(table[i].tolist(), table[j].tolist(), strict=True)
        return [(a * (16 - f) + b * f + 8) >> 4 for a, b in pairs]

    g = interp(tables.gain)
    assert level.gain.tolist() == g
    assert level.scale_shift.tolist() == interp(tables.scale_shift)
    contexts = zip(tables.context_gain.tolist(), g, strict=True)
    assert level.context_scale.tolist() == [(c << 15) // gain for c, gain in contexts]
    assert level.plane == min(max(((level16 + 8) >> 4) - 50, -127), 127)
    b = min(max((level16 - 8) // 100, 0), 15)
    for name in ("hyper_mean", "hyper_index", "hyper_scale"):
        assert getattr(level, name).tolist() == getattr(tables, name)[b].tolist()
    np.testing.assert_allclose(level.gain_float, np.array(g) / 4096, rtol=1e-6)
    np.testing.assert_allclose(level.hyper_gain_float, 2**20 / level.hyper_scale, rtol=1e-6)


@given(SEEDS)
def test_gains_grow_with_quality(seed):
    tables = level_tables(np.random.default_rng(seed), first=1, levels=100)
    gains = np.array([tables.at(q, 0).gain for q in range(16, 1601, 7)])
    assert (np.diff(gains, axis=0) >= 0).all()


def test_gains_of_the_tiny_model_grow_with_quality(tiny):
    for trellis in TRELLIS_STATES:
        levels = [tiny.bundle.levels.at(q, trellis) for q in range(16, 1601)]
        gains = np.log([level.gain for level in levels]).mean(1)
        assert (np.diff(gains) >= 0).all()
        assert gains[-1] - gains[0] > 1


def test_levels_are_stored_whole():
    tables = level_tables(np.random.default_rng(3))
    again = LevelTables.from_arrays(tables.to_arrays())
    for name, value in vars(tables).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def damaged_levels():
    arrays = level_tables(np.random.default_rng(3)).to_arrays()
    for name, array in arrays.items():
        yield f"no {name}", {k: v for k, v in arrays.items() if k != name}
        yield f"empty {name}", arrays | {name: array[:0]}
        yield f"text {name}", arrays | {name: np.full(array.shape, "x")}
        if name.endswith(("gain", "hyper_scale")):
            yield f"{name} of 0", arrays | {name: array * 0}
            yield f"negative {name}", arrays | {name: -array}
        if not name.endswith("first_level"):
            yield f"short {name}", arrays | {name: array[..., :-1]}
            yield f"deep {name}", arrays | {name: array[None]}
            yield f"single {name}", arrays | {name: array.ravel()[0]}


@pytest.mark.parametrize(
    "arrays", [pytest.param(arrays, id=name) for name, arrays in damaged_levels()]
)
def test_damaged_levels_are_refused(arrays):
    with pytest.raises(BadBundle, match="quality table"):
        LevelTables.from_arrays(arrays)


def test_one_level_is_not_enough():
    with pytest.raises(BadBundle, match="gain"):
        level_tables(np.random.default_rng(3), levels=1)


# ---- every setting of every symbol, end to end ----


@pytest.mark.parametrize("kernels", [reference, cpu], ids=["reference", "cpu"])
def test_streams_do_not_depend_on_the_kernels(tiny, monkeypatch, kernels):
    for room in ("encoder", "predictor"):
        monkeypatch.setattr(f"trellic.latents.{room}.arithmetic", kernels)
    rng = np.random.default_rng(5)
    sizes = itertools.product((40, 100), (1030, 60))
    for (height, width), trellis in zip(sizes, (0, 4, 8, 256), strict=True):
        pixels = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        pixels = pixels.repeat(8, 0).repeat(8, 1)[:height, :width]
        data = tiny.encode(pixels, trellis=trellis)
        monkeypatch.undo()
        assert tiny.encode(pixels, trellis=trellis) == data
        header = bitstream.read_header(data)
        assert Plane(width, height).coded == (-(-height // 16), -(-width // 16))
        assert header.steps == 3
        for room in ("encoder", "predictor"):
            monkeypatch.setattr(f"trellic.latents.{room}.arithmetic", kernels)
