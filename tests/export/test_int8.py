"""8-bit variants: the same network but for rounding, in the form that has fast kernels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image
from tests.runtime.family import make_seeing

from trellic.codec import Codec
from trellic.engines.ort import OrtEngine
from trellic.engines.precision import saturates
from trellic.errors import BadParameter, TrellicWarning
from trellic.model.bundle import Bundle
from trellic_export import cli, graphs
from trellic_export.int8 import add_int8, bundles
from trellic_export.int8.choose import Chooser
from trellic_export.int8.equalize import RECIPES, equalize
from trellic_export.int8.flow import Flow
from trellic_export.int8.ranges import Range, Seen, chain_values, observe, ranges
from trellic_export.int8.rewrite import rewrite
from trellic_training.data.photos import PackedPhotos, pack

from .conftest import DETAILED, shaken, synthetic

needs_vnni = pytest.mark.skipif(
    saturates(), reason="this processor has no VNNI: its 8-bit products saturate"
)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "modulated"])
def decoder(request):
    """A g_s of every kind of layer, and latents for it."""
    latents = DETAILED.latents
    model = shaken(DETAILED.model_copy(update={"modulated": request.param}))
    data = graphs.decoder_graph(model.g_s, latents)
    rng = np.random.default_rng(0)
    quality = np.array([60], np.float32)
    inputs = {"latents": rng.normal(size=(1, latents, 6, 8)).astype(np.float32)}
    return data, [{**inputs, "quality": quality}]


def run(data, samples):
    return OrtEngine(data, threads=1)(samples[0])[0].astype(int)


def everything(data, samples):
    flow = Flow(data)
    return flow, ranges(observe(data, chain_values(flow.chains), samples), flow.chains)


def test_chains_are_what_lies_between_sums(decoder):
    kinds = Counter("".join(layer.kind[0] for layer in chain) for chain in Flow(decoder[0]).chains)
    blocks = sum(DETAILED.decoder_blocks)
    assert kinds["pdp"] == kinds["pp"] == blocks
    assert set(kinds) == {"pdp", "pp", "p"}


def test_no_chain_in_8_bits_changes_nothing(decoder):
    data, samples = decoder
    np.testing.assert_array_equal(run(rewrite(Flow(data), [], {}), samples), run(data, samples))


@needs_vnni
def test_all_chains_in_8_bits_are_close(decoder):
    data, samples = decoder
    flow, found = everything(data, samples)
    eight = run(rewrite(flow, list(range(len(flow.chains))), found), samples)
    difference = np.abs(eight - run(data, samples))
    assert 0 < difference.mean() < 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_equalized_graphs_compute_the_same(decoder, recipe):
    data, samples = decoder
    flow = Flow(data)
    seen = observe(data, chain_values(flow.chains), samples)
    equal = equalize(data, dict.fromkeys(range(len(flow.chains)), recipe), seen)
    assert (equal == data) == (recipe == "plain")
    assert len(Flow(equal).chains) == len(flow.chains)
    assert np.abs(run(equal, samples) - run(data, samples)).max() <= 1


def test_the_fast_kernels_are_used(decoder, tmp_path):
    data, samples = decoder
    flow, found = everything(data, samples)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine alone
    chosen = rewrite(flow, list(range(len(flow.chains))), found)
    onnxruntime.InferenceSession(chosen, options, providers=["CPUExecutionProvider"])
    operators = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert operators["QLinearConv"] == sum(len(chain) - 1 for chain in flow.chains)
    assert operators["MatMulIntegerToFloat"] == len(flow.chains)
    assert operators["DequantizeLinear"] == 0


def test_ranges_cut_what_an_activation_makes_small():
    seen = Seen()
    value = np.random.default_rng(0).normal(size=(1, 1, 100, 100)).astype(np.float32)
    for look in (seen.extend, seen.count):
        look(value)
    plain, leaky = seen.range(slope=1.0), seen.range(slope=0.01)
    assert -plain.low == pytest.approx(plain.high, rel=0.3)
    assert plain.low < 1.5 * leaky.low
    assert leaky.high >= plain.high


def test_a_range_holds_zero_exactly():
    found = Range(-0.3, 1.7)
    assert found.rounded(np.zeros(1)) == 0
    assert np.abs(found.rounded(np.array([-0.3, 1.7])) - [-0.3, 1.7]).max() < found.step


@pytest.mark.long
@pytest.mark.slow("layers are chosen by what each costs, measured on pictures")
def test_the_budget_is_kept(decoder):
    data, samples = decoder
    expected = run(data, samples)

    def loss(other):
        return float(np.abs(run(other, samples) - expected).mean())

    chooser = Chooser(data, samples, loss)
    some, every = (chooser.choose(budget) for budget in (0.3, 100.0))
    assert 0 < some.share < every.share <= 1
    assert some.loss == loss(some.data) <= 0.3 < every.loss


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(bundles, "QUALITIES", (40, 80))
    monkeypatch.setattr(bundles, "SIDE", 64)
    monkeypatch.setattr(bundles, "BOUND", 2.0)


@pytest.fixture
def packed(tmp_path, photos):
    for i in range(3, 5):
        Image.fromarray(synthetic(i)).save(photos / f"wave-{i}.png")
    pack(photos, tmp_path / "packed")
    return tmp_path / "packed"


@pytest.mark.slow("whole bundles in 8 bits, compared with those before")
@pytest.mark.parametrize("sees_quality", [False, True])
def test_a_bundle_gets_variants_and_keeps_its_streams(
    tiny_path, packed, quick, tmp_path, sees_quality
):
    if sees_quality:
        tiny_path = make_seeing(tiny_path, tmp_path / "seeing.zip")
    out = tmp_path / "eight.zip"
    old = Bundle(tiny_path)
    made = add_int8(old, PackedPhotos(packed), out, photos=4, budget=1.0)
    assert made
    new = Bundle(out)
    assert new.manifest.stream_id == old.manifest.stream_id
    assert new.manifest.encoder.precisions == (["fp32", "int8"] if "g_a" in made else ["fp32"])
    pixels = synthetic(5, 96)
    data = Codec(tiny_path, "cpu", 1).encode(pixels)
    floating, eight = (Codec(out, "cpu", 1, precision) for precision in ("fp32", "auto"))
    expected = Codec(tiny_path, "cpu", 1).decode(data)
    np.testing.assert_array_equal(floating.decode(data), expected)
    assert np.abs(eight.decode(data).astype(int) - expected).mean() < 3
    assert np.abs(floating.decode(eight.encode(pixels)).astype(int) - expected).mean() < 5


@pytest.mark.slow("the command calibrates a bundle")
def test_the_command_line_adds_them_to_a_bundle(tiny_path, packed, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "BUDGET", 1.0)
    out = tmp_path / "eight.zip"
    arguments = [str(tiny_path), str(out), "--int8", "--photos", str(packed), "--count", "4"]
    assert cli.main(arguments) == 0
    assert "int8" in (Bundle(out).manifest.model_dump_json())


@pytest.mark.slow("a bundle is calibrated")
def test_nothing_within_the_budget_is_an_error(tiny_path, packed, quick, tmp_path):
    with pytest.raises(BadParameter, match="has no int8 variant"):
        add_int8(Bundle(tiny_path), PackedPhotos(packed), tmp_path / "o.zip", photos=4, budget=-10)


@pytest.mark.slow("exports variants")
def test_only_what_is_asked_for(tiny_path, packed, quick, tmp_path):
    pack, out = PackedPhotos(packed), tmp_path / "o.zip"
    made = add_int8(Bundle(tiny_path), pack, out, photos=4, budget=1.0, names=["quality"])
    assert set(made) == {"quality"}
    with pytest.raises(BadParameter, match="graphs best"):
        add_int8(Bundle(tiny_path), pack, out, names=["best"])


def test_too_few_photos(tiny_path, packed, quick, tmp_path):
    with pytest.raises(BadParameter, match="3 photos for int8"):
        add_int8(Bundle(tiny_path), PackedPhotos(packed), tmp_path / "o.zip", photos=3)


@pytest.mark.slow("exports and measures variants")
def test_a_variant_that_fails_on_other_photos_is_left_out(
    tiny_path, packed, quick, tmp_path, monkeypatch
):
    monkeypatch.setattr(bundles, "BOUND", -10.0)
    with (
        pytest.warns(TrellicWarning, match="no int8 variant of"),
        pytest.raises(BadParameter, match="has no int8 variant"),
    ):
        add_int8(Bundle(tiny_path), PackedPhotos(packed), tmp_path / "o.zip", photos=4, budget=1.0)
