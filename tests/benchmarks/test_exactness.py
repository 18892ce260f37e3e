"""Every engine computes the integers that decide symbols, and the comparison can fail."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.exactness import __main__ as program
from benchmarks.exactness.compare import Comparison
from benchmarks.exactness.engines import Variant, cpu_variants, gpu_variants
from benchmarks.exactness.inputs import KINDS, round_of
from benchmarks.exactness.integers import evaluate

from trellic.integer.networks import NO_TABLE, IntegerLayer, IntegerNetwork
from trellic.model.bundle import Bundle, find
from trellic_export.graphs import integer_graph
from trellic_export.proof import prove

MILLION = 1_000_000


@pytest.mark.long
@pytest.mark.slow("a million indices from every engine")
def test_a_million_scale_indices(tiny):
    comparison = Comparison(tiny.bundle, cpu_variants())
    rounds = len(list(comparison.run(MILLION)))
    assert rounds >= len(KINDS)
    assert [tally.name for tally in comparison.wrong] == []
    assert all(t.scale_indices >= MILLION for t in comparison.tallies)
    asserted = [t.name for t in comparison.tallies if t.exact]
    assert sum("onnxruntime CPU" in name for name in asserted) == 12
    assert sum("torch cpu" in name for name in asserted) == 5
    # The same sum finds what is not exact: 8 bits of a mantissa are too few.
    assert all(t.different > 0 for t in comparison.tallies if "bfloat16" in t.name)


@pytest.mark.slow("the shipped model in every engine")
def test_the_photo_model_in_every_engine():
    bundle = Bundle(find("photo"))
    comparison = Comparison(bundle, cpu_variants())
    for number in range(len(KINDS)):
        comparison.round(number, small=8)
    assert [tally.name for tally in comparison.wrong] == []
    predicted = sum(step.last - step.first for step in bundle.manifest.layout.steps)
    assert comparison.scale_indices == len(KINDS) * predicted * 8 * 8


@pytest.mark.gpu
@pytest.mark.parametrize("model", ["tiny", "photo"])
def test_a_gpu_computes_the_same(tiny, model, record_property):
    found = gpu_variants()
    if not found:
        pytest.skip("neither torch nor onnxruntime is a CUDA build here")
    bundle = tiny.bundle if model == "tiny" else Bundle(find("photo"))
    comparison = Comparison(bundle, [cpu_variants()[0], *found])
    list(comparison.run(10 * MILLION))
    for tally in comparison.tallies:
        record_property(tally.name, f"{tally.different} of {tally.integers} differ")
    assert [tally.name for tally in comparison.wrong] == []


# ---- the judge, and whether anything can be found ----


def small_network() -> IntegerNetwork:
    def layer(kind, weight, bias, shift, low=-127, high=127):
        arrays = np.array(weight, np.int8), np.array(bias, np.int32), np.array(shift, np.uint8)
        return IntegerLayer(kind, *arrays, low, high)

    wide = layer("pointwise", [[1], [-2], [3], [127]], [0, 5, -7, 1], [1, 2, 1, 3], -9999, 9999)
    blur = layer("depthwise", [[[1, 2, 1], [2, 4, 2], [1, 2, 1]]], [3], [4])
    shuffle = layer("shuffle", [], [], [], 0, 0)
    head = layer("pointwise", [[-128]], [64], [7])
    return IntegerNetwork((wide, shuffle, blur), (head,))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_judge_by_hand(channels_last):
    a, b, c, d = (100 + 1) >> 1, (-200 + 7) >> 2, (300 - 6) >> 1, (12700 + 5) >> 3
    shuffled = np.array([[a, b], [c, d]])
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    padded = np.pad(shuffled, 1)
    blurred = [(kernel * padded[y : y + 3, x : x + 3]).sum() for y in (0, 1) for x in (0, 1)]
    blurred = [min((int(v) + 3 + 8) >> 4, 127) for v in blurred]
    assert 127 in blurred
    (seen,) = evaluate(small_network(), np.array([[[100]]]), channels_last=channels_last)
    assert seen.dtype == np.int64
    assert seen.ravel().tolist() == [(-128 * v + 64 + 64) >> 7 for v in blurred]


def convolutions(seed: int) -> IntegerNetwork:
    """A model's layers of every kind, as imported models have them: dense kernels, tables."""
    rng = np.random.default_rng(seed)

    def layer(kind, shape, low, high, table=False):
        return IntegerLayer(
            kind,
            rng.integers(-127, 128, shape, dtype=np.int8),
            rng.integers(-999, 999, shape[0], dtype=np.int32),
            rng.integers(7, 13, shape[0], dtype=np.uint8),
            low,
            high,
            rng.integers(-999, 999, high - low + 1, dtype=np.int32) if table else NO_TABLE,
        )

    shuffle = IntegerLayer(
        "shuffle", *(np.empty(0, t) for t in (np.int8, np.int32, np.uint8)), 0, 0
    )
    trunk = (
        layer("conv", (8, 3, 5, 5), -127, 127, table=True),
        shuffle,
        layer("conv", (6, 2, 3, 3), 0, 127),
        layer("depthwise", (6, 3, 3), -127, 127, table=True),
    )
    return IntegerNetwork(trunk, (layer("pointwise", (4, 6), -1023, 1023),))


@pytest.mark.slow("every engine compiles")
def test_engines_agree_on_dense_kernels_and_tables():
    for seed in range(5):
        network = convolutions(seed)
        assert prove("n", network) < 2**22
        graph = integer_graph(network)
        x = np.random.default_rng(seed).integers(-127, 128, (3, 13, 17)).astype(np.float32)
        expected = evaluate(network, x, channels_last=False)
        assert len(np.unique(expected)) > 20
        for variant in cpu_variants():
            if variant.exact:
                (seen,) = variant.load(network, graph)(x)
                np.testing.assert_array_equal(seen, expected[0], variant.name)


def test_a_model_without_contexts_has_its_indices_from_h_s(tiny):
    comparison = Comparison(tiny.bundle, cpu_variants()[:2])
    alone = {"h_s": tiny.bundle.networks["h_s"]}
    comparison.bundle = SimpleNamespace(manifest=tiny.bundle.manifest, networks=alone)
    comparison.round(0)
    assert comparison.scale_indices == 24 * 64 * 96


def test_the_judge_uses_no_float():
    """Sums that float32, and even float64, would round."""
    weight = np.full((1, 3), 127, np.int8)
    layer = IntegerLayer("pointwise", weight, np.array([1], np.int32), np.ones(1, np.uint8), 0, 1)
    wide = dataclasses.replace(layer, low=-(2**62), high=2**62)
    x = np.full((3, 1, 1), 2**53 + 1)
    for last in (False, True):
        (seen,) = evaluate(IntegerNetwork((wide,)), x, channels_last=last)
        assert seen.item() == (3 * 127 * (2**53 + 1) + 2) >> 1


def off_by_one(network, graph):
    """The engine of a machine that is wrong in one integer of a plane."""

    def run(x):
        *rest, last = network(x)
        last[-1, -1, -1] += 1
        return [*rest, last]

    return run


def not_a_number(network, graph):
    return lambda x: [y + np.nan for y in network(x)]


@pytest.mark.parametrize("load", [off_by_one, not_a_number])
def test_one_wrong_integer_is_found(tiny, load):
    comparison = Comparison(tiny.bundle, [cpu_variants()[0], Variant("wrong", load)])
    comparison.round(0, small=8)
    assert [tally.name for tally in comparison.wrong] == ["wrong"]
    assert comparison.wrong[0].different >= 4


def test_missing_outputs_are_no_agreement(tiny):
    short = Variant("short", lambda network, graph: lambda x: network(x)[:-1])
    with pytest.raises(ValueError, match="short gives"):
        Comparison(tiny.bundle, [cpu_variants()[0], short]).round(0, small=8)


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_inputs_are_what_networks_may_see(tiny, number):
    for name, x in round_of(tiny.bundle.networks, number).items():
        assert x.dtype == np.float32
        assert len(x) == tiny.bundle.networks[name].channels_in
        assert x.shape[1:] == ((16, 24) if name == "h_s" else (64, 64))
        assert np.array_equal(x, np.rint(x).clip(-127, 127))


def test_the_worst_inputs_reach_the_bound(tiny):
    """Each output of the first layer takes its largest accumulator somewhere, and its least."""
    network = tiny.bundle.networks["context_2"]
    weight = network.trunk[0].weight.astype(np.int64)
    worst = 127 * np.abs(weight).sum(1)
    x = [round_of(tiny.bundle.networks, n)["context_2"] for n in range(KINDS.index("worst"), 40, 5)]
    acc = np.concatenate([weight @ one.reshape(len(one), -1).astype(np.int64) for one in x], 1)
    assert acc.max(1).tolist() == worst.tolist()
    assert acc.min(1).tolist() == (-worst).tolist()


def test_the_program_writes_what_it_found(tiny_path, tmp_path, monkeypatch):
    out = tmp_path / "exactness.json"
    threads = torch.get_num_threads()
    asked = ["exactness", "--indices", "1", "--model", str(tiny_path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", asked)
    monkeypatch.setattr(program, "cpu_variants", lambda: cpu_variants()[:3])
    assert program.main() == 0
    monkeypatch.setattr(
        program, "cpu_variants", lambda: [cpu_variants()[0], Variant("wrong", off_by_one)]
    )
    assert program.main() == 1
    assert '"wrong": [\n    "wrong"' in out.read_text()
    assert '"commit"' in out.read_text()
    assert torch.get_num_threads() == threads
