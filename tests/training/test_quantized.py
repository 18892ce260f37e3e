"""The quantized-latent stage: the runtime's quantizer in the loop, and a few seconds of it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from trellic.errors import BadParameter
from trellic.geometry import Plane
from trellic.latents.decoder import LatentDecoder
from trellic.latents.encoder import NOT_CODED
from trellic.latents.quantizer import Quantizer
from trellic_training.cli import finetune as finetune_cli
from trellic_training.data.photos import PackedPhotos
from trellic_training.data.pool import Pool
from trellic_training.losses import rates
from trellic_training.losses.pmf import SymbolRates
from trellic_training.models.photo import PhotoModel
from trellic_training.models.principal import start_from_components
from trellic_training.models.weights import average_of, load_weights, save_weights
from trellic_training.pixels import to_network
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import (
    LoopQuantizer,
    _reach,
    latents_for_synthesis,
    sigmas_of,
)
from trellic_training.recipes.codec import QuantizedPhase, load_quantized_recipe
from trellic_training.stages.identity import moved
from trellic_training.stages.learning_curve import LearningCurve
from trellic_training.stages.quantized import QuantizedStage, finetune
from trellic_training.stages.stage import Clock

from .conftest import RECIPES


@pytest.fixture
def recipe():
    return load_quantized_recipe(RECIPES / "finetune-tiny.yaml")


@pytest.fixture
def started(model, packed):
    """The tiny model with latents that are worth coding."""
    crops = PackedPhotos(packed).crops(np.random.default_rng(1), 200, 64)
    start_from_components(model, to_network(crops))
    return model.eval()


@pytest.fixture
def crops(packed):
    return to_network(PackedPhotos(packed).crops(np.random.default_rng(2), 2, 128))


@pytest.fixture
def seeing(started):
    """The same model, but its blocks see the quality, and make something of it."""
    torch.manual_seed(5)
    model = PhotoModel(started.config.model_copy(update={"modulated": True}))
    model.load_state_dict(model.state_dict() | started.state_dict())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modulation" in name:
                parameter.normal_(0, 0.1)
    return model.eval()


@pytest.mark.slow("every quantizer on a model")
@pytest.mark.parametrize(
    "quantizer", [Quantizer(8, 28), Quantizer(0, 26), Quantizer(0, 0, "round")]
)
@pytest.mark.parametrize("name", ["started", "seeing"])
def test_the_loop_quantizes_as_files_are_quantized(request, name, crops, quantizer):
    started = request.getfixturevalue(name)
    tables = parametric_tables(sigmas_of(started.config.scales), 21)
    loop = LoopQuantizer(started, tables, 4)
    quality = torch.tensor([30.0, 70.0625])
    decoder = LatentDecoder(loop.coder.layout, tables, loop.coder.predictor.networks)
    batch = loop(crops, quality, quantizer)
    mean, index = loop.predict(batch)
    bits, _ = loop.bits(batch, mean, index)
    f = started.g_a(crops, quality)
    h = started.h_a(f)
    for i in range(2):
        level = loop.levels.at(round(16 * quality[i].item()), quantizer.states)
        y, z = f[i].detach().numpy(), h[i].detach().numpy()
        coded = loop.coder.encode(y, z, Plane(128, 128), level, quantizer)
        decoded = decoder.decode(
            coded.segments, coded.lanes, Plane(128, 128), level, quantizer.states
        )
        assert np.array_equal(decoded, (batch.y_hat[i] * 32).numpy())
        size = 8 * sum(map(len, coded.segments[1:]))
        assert bits[i].item() == pytest.approx(size, rel=0.01, abs=100)
    # the pass with gradients predicts what the coder predicted
    skipped = batch.cls == NOT_CODED
    assert torch.equal((index + 0.5).floor() < 4, skipped)
    assert (mean - batch.y_hat)[skipped].abs().max() <= 1 / 64 + 1e-6
    assert torch.equal(latents_for_synthesis(batch, mean), latents_for_synthesis(batch))


def test_rates_are_those_of_the_tables_and_have_their_slopes():
    sigmas = sigmas_of(48)
    tables = parametric_tables(sigmas, 21)
    costs = SymbolRates(tables, sigmas)
    k = torch.tensor([0, 3, -3, 900])
    cls = torch.tensor([0, 1, 2, 0])
    index = torch.tensor([20.0, 22.25, 22.25, 10.0], requires_grad=True)
    shift = torch.zeros(4, requires_grad=True)
    bits = costs(k, cls, index, shift)
    place = tables.start[48 + 22] + int(tables.half_width[1, 22]) + 3
    assert bits[1].item() == pytest.approx(15 - np.log2(tables.freqs[place]), abs=1e-5)
    width = int(tables.half_width[0, 10])
    escape = 15 - np.log2(tables.freqs[tables.start[10] + 2 * width + 1])
    assert bits[3].item() == pytest.approx(escape + 2 * int(899 - width + 1).bit_length(), abs=1e-4)
    bits.sum().backward()
    # a mean nearer to what was seen costs less, and so does a wider scale for a far symbol
    assert shift.grad[1] < 0 < shift.grad[2]
    assert shift.grad[1] == pytest.approx(-shift.grad[2].item(), rel=0.3)
    assert shift.grad[0].abs() < 1e-3
    assert shift.grad[3] == 0
    assert index.grad[0] > 0 > index.grad[1]


def charged(tables, k: int, cls: int, index: int) -> float:
    """Bits of one symbol: those of its frequency, and two for each digit of what escapes."""
    t = cls * tables.scales + index
    width = int(tables.half_width[cls, index])
    escaped = abs(k) > width
    freq = tables.freqs[tables.start[t] + (2 * width + 1 if escaped else k + width)]
    digits = 2 * (abs(k) - width).bit_length() if escaped else 0
    return 15 - math.log2(freq) + digits


@pytest.mark.parametrize("index", [-0.25, 0, 0.25, 0.5, 20.25, 20.5, 20.75, 46.5, 47, 48.5])
def test_a_symbol_costs_what_the_nearest_table_charges(index):
    """Its slope is the difference of the tables on both sides, and 0 beyond the last one."""
    sigmas = sigmas_of(48)
    tables = parametric_tables(sigmas, 21)
    low = min(max(math.floor(index), 0), 47)
    high = min(low + 1, 47)
    near = min(max(math.floor(index + 0.5), 0), 47)
    for cls in (0, 1, 2):
        width = int(tables.half_width[cls, near])
        k = torch.tensor([0, 1, -1, width, -width, width + 1, -width - 2, 5 * width + 7])
        at = torch.full(k.shape, float(index), requires_grad=True)
        bits = SymbolRates(tables, sigmas)(k, torch.full_like(k, cls), at, torch.zeros(len(k)))
        bits.sum().backward()
        slopes = [charged(tables, i, cls, high) - charged(tables, i, cls, low) for i in k.tolist()]
        assert at.grad.tolist() == pytest.approx(slopes, abs=1e-4)
        expected = [charged(tables, i, cls, near) for i in k.tolist()]
        assert bits.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("cls", [0, 1, 2])
def test_the_slope_over_the_mean_is_that_of_a_normal_under_fixed_cells(cls):
    """Cells have the symbols' frequencies, with half of the escapes beyond each end."""
    normal = NormalDist()
    sigmas = sigmas_of(48)
    tables = parametric_tables(sigmas, 21)
    index = 22
    t = cls * 48 + index
    width = int(tables.half_width[cls, index])
    freqs = tables.freqs[tables.start[t] : tables.start[t] + 2 * width + 2] / 2**15
    ends = [normal.inv_cdf(end) for end in np.cumsum([freqs[-1] / 2, *freqs[:-1]])]

    def bits(k: int, moved: float) -> float:
        below, above = (end - moved / sigmas[index] for end in ends[k + width : k + width + 2])
        return -math.log2(normal.cdf(above) - normal.cdf(below))

    k = torch.tensor([-width, -3, -1, 0, 1, 3, width])
    shift = torch.zeros(len(k), requires_grad=True)
    at = torch.full((len(k),), float(index))
    SymbolRates(tables, sigmas)(k, torch.full_like(k, cls), at, shift).sum().backward()
    expected = [(bits(i, 1e-3) - bits(i, -1e-3)) / 2e-3 for i in k.tolist()]
    assert shift.grad.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.long
@pytest.mark.slow("trains, stops and goes on")
def test_a_short_run_changes_only_what_it_trains_and_can_be_resumed(
    started, recipe, packed, tmp_path
):
    before = {name: value.clone() for name, value in started.state_dict().items()}
    one = finetune(recipe, started, packed, tmp_path / "a", 10, steps=6, progress=False)
    tuned, steps = average_of(one, started.config)
    assert steps == 6
    changed = {n.partition(".")[0] for n, v in tuned.state_dict().items() if (v != before[n]).any()}
    assert changed == {"g_s"}  # of ten minutes, six steps are the first phase
    joint = recipe.model_copy(update={"phases": recipe.phases[1:]})
    two = finetune(joint, tuned, packed, tmp_path / "b", 10, steps=6, progress=False)
    tuned, _ = average_of(two, started.config)
    changed = {n.partition(".")[0] for n, v in tuned.state_dict().items() if (v != before[n]).any()}
    assert changed == {"g_s", "h_s", "contexts"}
    more = finetune(joint, tuned, packed, tmp_path / "c", 10, resume=two, steps=8, progress=False)
    assert average_of(more, started.config)[1] == 8
    assert list((tmp_path / "c" / "log").rglob("events.*"))


@pytest.mark.slow("trains a model that sees the quality")
def test_a_model_that_sees_the_quality_is_tuned_with_it(seeing, recipe, packed, tmp_path):
    before = {name: value.clone() for name, value in seeing.state_dict().items()}
    made = finetune(recipe, seeing, packed, tmp_path / "a", 10, steps=4, progress=False)
    tuned, _ = average_of(made, seeing.config)
    changed = {n for n, v in tuned.state_dict().items() if (v != before[n]).any()}
    assert {n.partition(".")[0] for n in changed} == {"g_s"}
    assert any("modulation" in name for name in changed)


@pytest.mark.slow("the command trains")
def test_the_command_writes_weights(started, photos, tmp_path, capsys):
    weights = tmp_path / "first.pt"
    save_weights(started, {"steps": 1}, weights)
    out = tmp_path / "run"
    arguments = ["finetune-tiny", "--weights", weights, "--photos", photos, "--out", out]
    assert finetune_cli.main([*map(str, arguments), "--minutes", "0.02"]) == 0
    assert "weights.pt: export it" in capsys.readouterr().out
    _, facts = load_weights(out / "weights.pt")
    assert facts["steps"] == 1
    assert facts["finetuning"]["recipe"]["name"] == "finetune-tiny"
    assert facts["finetuning"]["steps"] > 0
    arguments[2], arguments[-1] = tmp_path / "none.pt", tmp_path / "another"
    with pytest.raises(BadParameter, match="is not a Trellic checkpoint"):
        finetune_cli.main([*map(str, arguments)])


@pytest.mark.long
@pytest.mark.slow("the second stage runs")
def test_the_second_stage_leaves_a_curve_too(started, recipe, packed, tmp_path):
    curve = LearningCurve(PackedPhotos(packed), tmp_path / "curve.csv", 2)
    curve.crops = to_network(PackedPhotos(packed).crops(np.random.default_rng(1), 2, 192))
    finetune(recipe, started, packed, tmp_path, 10, steps=3, progress=False, watchers=[curve])
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1::6]] == ["0", "2", "3"]


def test_code_lengths_have_the_tail_that_real_latents_have():
    """The mass of a unit interval: 98 % Gaussian, 2 % of an exponential on either side."""
    for x, sigma in ((0.0, 0.2), (1.25, 0.2), (-3.0, 0.5), (40.0, 2.0), (30.0, 0.11)):
        gauss = NormalDist(0, sigma).cdf(abs(x) + 0.5) - NormalDist(0, sigma).cdf(abs(x) - 0.5)
        width = 1.5 * sigma + 0.05
        above = math.exp(-min(max((abs(x) - 0.5) / width, 0.0), 80.0))
        mass = 0.98 * gauss + 0.02 * above * 0.5 * (1 - math.exp(-1 / width)) + 1e-12
        found = rates.bits(torch.tensor([x]), torch.tensor([sigma]))
        assert found.tolist() == pytest.approx([-math.log2(mass)], rel=1e-3)
    # Within half a step the exponential is at its top, so it does not depend on the value.
    tail = torch.tensor([7.0, 8.0])
    slope = rates.bits(tail, torch.tensor([0.5, 0.5])).diff().item()
    assert slope == pytest.approx(1 / 0.8 / math.log(2), rel=1e-3)


def test_a_pool_forgets_the_oldest_and_crops_of_another_size():
    pool = Pool(3, np.random.default_rng(0))
    for start in (0, 2):
        values = torch.arange(start, start + 2)
        pool.add({"x": values[:, None], "quality": values})
    assert sorted(int(sample["quality"]) for sample in pool.samples) == [1, 2, 3]
    drawn = pool.draw(5)
    assert drawn["x"].shape == (5, 1)
    assert torch.equal(drawn["x"][:, 0], drawn["quality"])
    pool.add({"x": torch.zeros(1, 2), "quality": torch.zeros(1)})
    assert len(pool.samples) == 1


def test_quantized_latents_are_reused_only_where_they_stay_the_same():
    with pytest.raises(ValueError, match="reuse 2 needs train: g_s"):
        QuantizedPhase(until=1.0, crop=64, batch=1, reuse=2)


def test_moved_is_nothing_for_a_picture_of_its_own_latents(recipe, started, packed):
    stage = QuantizedStage(
        recipe.model_copy(update={"autocast": False}), Clock(1), started, PackedPhotos(packed)
    )
    x = to_network(PackedPhotos(packed).crops(np.random.default_rng(3), 2, 64))
    quality = torch.tensor([20.0, 80.0])
    with torch.no_grad():
        latents = stage.model.g_a(x)
    assert moved(stage.model, x, latents, quality, autocast=False).max() < 1e-6
    decoded = (x + 0.05 * torch.randn(x.shape)).requires_grad_()
    found = moved(stage.model, decoded, latents, quality, autocast=False)
    assert found.min() > 1e-3
    assert found[1] > found[0]  # steps are finer
    found.sum().backward()
    assert decoded.grad.abs().sum() > 0


def test_the_search_is_the_recipes(recipe, started, packed, monkeypatch):
    own = {
        "quantizers": ("round", 0, 8, 32),
        "lam": {"scalar": 21, "trellis": 25},
        "fit_lam": {"scalar": 41, "trellis": 49},
    }
    stage = QuantizedStage(recipe.model_copy(update=own), Clock(1), started, PackedPhotos(packed))
    expected = {Quantizer(0, 0, "round"), Quantizer(0, 21), Quantizer(8, 25), Quantizer(32, 25)}
    seen = []
    monkeypatch.setattr(stage, "quantizer", lambda x, quality, *rest: seen.append(rest))
    for _ in range(60):
        stage._quantize(torch.zeros(1), torch.zeros(1))
    assert {one for (one,) in seen} == expected
    assert min(seen.count((one,)) for one in expected) > 3
    fitted = [stage._search(kind, fit=True) for kind in ("round", 0, 8)]
    assert fitted == [Quantizer(0, 0, "round"), Quantizer(0, 41), Quantizer(8, 49)]


def test_the_loop_searches_as_it_is_told(started, crops):
    """Each quantizer has classes of its own, and what thinks of the rate costs less of it."""
    loop = LoopQuantizer(started, parametric_tables(sigmas_of(started.config.scales), 21), 4)
    classes, cost = {}, {}
    for name, quantizer in {
        "round": Quantizer(0, 0, "round"),
        "rdoq": Quantizer(0, 40),
        "trellis": Quantizer(8, 40),
    }.items():
        batch = loop(crops[:1, :, :64, :64], torch.tensor([70.0]), quantizer)
        classes[name] = set(batch.cls[batch.cls != NOT_CODED].unique().tolist())
        cost[name] = float(loop.bits(batch, *loop.predict(batch))[0])
    assert classes == {"round": {0}, "rdoq": {0}, "trellis": {1, 2}}
    assert 0 < cost["rdoq"] < cost["round"]


def test_files_have_wider_scales_and_tables_are_fitted_to_those_as_predicted(started, crops):
    tables = parametric_tables(sigmas_of(started.config.scales), 21)
    loop, quality = LoopQuantizer(started, tables, 4, widening=96), torch.tensor([40.0])
    small, rounding = crops[:1, :, :64, :64], Quantizer(0, 0, "round")
    written = loop(small, quality, rounding)
    seen = loop(small, quality, rounding, lambda *step: None)
    assert torch.equal(written.shift, seen.shift + 96)
    shift = torch.from_numpy(loop.levels.at(16 * 40, 0).scale_shift).float()
    assert torch.equal(written.shift[0, :, 0, 0], shift)
    narrow = LoopQuantizer(started, tables, 4)(small, quality, rounding)
    assert torch.equal(narrow.shift, seen.shift)


@pytest.fixture
def looped(started, crops):
    """A loop, two crops that it has quantized, and what it said of each step meanwhile."""
    loop = LoopQuantizer(started, parametric_tables(sigmas_of(started.config.scales), 21), 20)
    seen = []
    batch = loop(
        crops[..., :64, :64],
        torch.tensor([30.0, 70.0625]),
        Quantizer(0, 26),
        lambda *step: seen.append(step),
    )
    coded = batch.cls != NOT_CODED
    assert 0.1 < coded.float().mean() < 0.9
    return loop, batch, coded, seen


def test_the_pass_with_gradients_predicts_what_the_coder_predicted(looped):
    loop, batch, coded, seen = looped
    mean, index = loop.predict(batch)
    nearest = (index + 0.5).floor()
    assert torch.equal(nearest < 20, ~coded)
    t32, scale_index, k, _ = (np.concatenate(column) for column in zip(*seen, strict=True))
    assert sorted(nearest[coded].tolist()) == sorted(scale_index.tolist())
    assert sorted(batch.k[coded].tolist()) == sorted(k.tolist())
    assert (mean - batch.y_hat)[~coded].abs().max() <= 1 / 64 + 1e-6
    apart = 32 * (batch.y - mean)[coded].sort().values - torch.from_numpy(np.sort(t32))
    assert apart.abs().max() <= 1 + 1e-3  # both are rounded to 1/32


def test_scale_indices_end_where_the_tables_end(looped):
    loop, batch, _, _ = looped
    for shift, end in ((-1e6, 0), (1e6, 47)):
        batch.shift = torch.full_like(batch.shift, shift)
        _, index = loop.predict(batch)
        assert (index == end).all()


def test_bits_of_a_crop_are_its_symbols_and_for_the_gradient_what_is_skipped(looped):
    """Skipped latents are charged as if rounded, so that it does not pay to skip too much."""
    loop, batch, coded, _ = looped
    mean, index = (each.detach() for each in loop.predict(batch))
    mean.requires_grad_()
    found, charged = loop.bits(batch, mean, index)
    (slope,) = torch.autograd.grad(charged.sum(), mean)
    for i in range(2):
        at = coded[i]
        shift = torch.zeros(int(at.sum()), requires_grad=True)
        symbols = loop.rates(batch.k[i][at], batch.cls[i][at], index[i][at], shift)
        rounded = (batch.y - mean.detach())[i][~at].round().requires_grad_()
        skipped = rates.bits(rounded, loop.model.sigma(index[i][~at]))
        assert found[i].item() == pytest.approx(symbols.sum().item(), rel=1e-4)
        assert charged[i].item() == pytest.approx((symbols.sum() + skipped.sum()).item(), rel=1e-4)
        (symbols.sum() - skipped.sum()).backward()  # a mean that rises lowers the residual
        torch.testing.assert_close(slope[i][at], shift.grad)
        torch.testing.assert_close(slope[i][~at], rounded.grad)
        assert rounded.grad.abs().max() > 0
    assert not found.requires_grad


def test_the_decoder_teaches_the_mean_only_where_it_is_what_is_decoded(looped):
    loop, batch, coded, _ = looped
    mean = loop.predict(batch)[0].detach().requires_grad_()
    decoded = batch.y_hat / batch.gain
    assert torch.equal(latents_for_synthesis(batch), decoded)
    found = latents_for_synthesis(batch, mean)
    assert torch.equal(found, decoded)
    found.sum().backward()
    free = batch.k == 0
    assert free[~coded].all()
    assert 0 < free[coded].float().mean() < 1
    assert torch.equal(mean.grad, free / batch.gain)


def test_the_reach_of_the_hyper_decoder_is_bounded(started):
    reach = _reach(started.h_s)
    assert reach == 3  # three kernels of 3x3
    z = torch.zeros(1, started.config.hyper + 1, 9, 9)
    touched = z.clone()
    touched[..., 4, 4] = 9
    with torch.no_grad():
        changed = (started.h_s(touched) != started.h_s(z)).any(1)[0].nonzero() // 4 - 4
    assert 1 <= changed.abs().max() <= reach


def test_crops_that_do_not_fit_the_model_are_refused(recipe, started, packed, tmp_path):
    odd = recipe.model_copy(update={"phases": (QuantizedPhase(until=1, crop=96, batch=1),)})
    with pytest.raises(BadParameter, match="96 pixels; expected a multiple of 64"):
        finetune(odd, started, packed, tmp_path, 0.1)
