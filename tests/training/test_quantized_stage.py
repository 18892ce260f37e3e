"""The quantized-latent stage step by step: what it counts, when it fits, what it hands on.

Its quantizer is replaced here; tests of the real one are in test_quantized.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trellic.errors import BadParameter
from trellic.latents.quantizer import Quantizer
from trellic_training.data.photos import PackedPhotos
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.photo import PhotoModel
from trellic_training.pixels import to_network
from trellic_training.quantization.fit import parametric_tables
from trellic_training.quantization.loop import sigmas_of
from trellic_training.recipes.codec import QuantizedPhase, load_quantized_recipe
from trellic_training.recipes.distortion import Mixture
from trellic_training.stages import quantized
from trellic_training.stages.end_to_end import CropStream
from trellic_training.stages.identity import moved
from trellic_training.stages.quantized import QuantizedStage, finetune
from trellic_training.stages.stage import Clock

from .conftest import RECIPES

QUALITY = torch.tensor([30.0, 80.0])
JOINT = QuantizedPhase(until=1.0, crop=64, batch=2, train="g_s+entropy")


@pytest.fixture
def recipe():
    own = {"autocast": False, "fit_crops": 3, "refit_crops": 2, "refit_every": 2}
    tiny = load_quantized_recipe(RECIPES / "finetune-tiny.yaml")
    mixture = Mixture(flat=0.1)  # so that the quality counts
    more = {"validate_every": 3, "pool": 100, "seed": 11, "distortion": mixture}
    return tiny.model_copy(update=own | more)


@pytest.fixture
def model(model):
    """The tiny model, whose decoder sees the quality."""
    made = PhotoModel(model.config.model_copy(update={"modulated": True}))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "modulation" in name:
                parameter.normal_(0, 0.1)
    return made


@pytest.fixture
def pack(packed):
    return PackedPhotos(packed)


@pytest.fixture
def told():
    return {}


@pytest.fixture
def stage(recipe, model, pack, told):
    made = QuantizedStage(recipe, Clock(1), model, pack)
    made.log = lambda name, value: told.update({name: float(torch.as_tensor(value).detach())})
    return made


@pytest.fixture
def crops(pack):
    return pack.crops(np.random.default_rng(4), 2, 64)


def latents_of(stage, x, quality):
    """What a quantizer without loss would make of crops."""
    y_hat = stage.model.g_a(x, quality).detach()
    return SimpleNamespace(y_hat=y_hat, gain=torch.ones_like(y_hat[:, :, :1, :1]), quality=quality)


def expected_loss(stage, x_hat, x, bpp):
    lmbda, weight = stage.weights_of_quality(QUALITY)
    return (weight * (bpp + stage.distortion(x_hat, x, QUALITY, lmbda))).mean()


# ---- its parts ----


def test_the_stage_is_made_of_what_it_is_given(recipe, model, pack):
    tables = parametric_tables(sigmas_of(48), 13)
    clock = Clock(1)
    made = [QuantizedStage(recipe, clock, model, pack, each) for each in (None, tables)]
    assert made[0].clock is clock
    assert made[0].pack is pack
    assert not made[0].fitted
    assert made[1].fitted
    assert made[0].quantizer.tables is made[0].prior
    assert made[1].quantizer.tables is tables
    assert made[0].pool.size == recipe.pool
    assert made[0].pool.rng is made[0].rng
    numbers = [stage.rng.integers(1 << 30) for stage in made]
    assert numbers == [np.random.default_rng(recipe.seed).integers(1 << 30)] * 2


@pytest.mark.parametrize(
    ("phases", "parts"),
    [((0,), {"g_s"}), ((1,), {"g_s", "h_s", "contexts"}), ((0, 1), {"g_s", "h_s", "contexts"})],
)
def test_only_what_a_phase_trains_has_gradients(phases, parts, recipe, model, pack):
    own = recipe.model_copy(update={"phases": tuple(recipe.phases[i] for i in phases)})
    trained = QuantizedStage(own, Clock(1), model, pack).model
    names = {name.partition(".")[0]: [] for name, _ in trained.named_parameters()}
    for name, parameter in trained.named_parameters():
        names[name.partition(".")[0]].append(parameter.requires_grad)
    assert all(all(seen) or not any(seen) for seen in names.values())
    assert {name for name, seen in names.items() if all(seen)} == parts


# ---- steps ----


def test_the_phase_decides_which_step_is_made(stage, monkeypatch):
    monkeypatch.setattr(stage, "_synthesis_step", lambda *given: given)
    monkeypatch.setattr(stage, "_joint_step", lambda *given: given)
    for share, expected in ((0.4, ("crops", stage.recipe.phases[0])), (0.5, ("crops",))):
        stage.clock = SimpleNamespace(share=lambda share=share: share)
        assert stage.training_step("crops", 0) == expected


@pytest.mark.parametrize("identity", [0.0, 2.0])
def test_a_step_of_the_decoder_alone_is_its_weighted_distortion(
    identity, stage, crops, told, monkeypatch
):
    stage.recipe = stage.recipe.model_copy(update={"identity": identity})
    x = to_network(crops)
    latents = stage.model.g_a(x, QUALITY).detach()
    drawn = {"x": crops, "latents": latents.half(), "quality": QUALITY}
    monkeypatch.setattr(stage, "_refill", lambda _: stage.pool.samples.extend([None] * 100))
    monkeypatch.setattr(stage.pool, "draw", lambda count: drawn if count == 2 else None)
    loss = stage._synthesis_step(crops, stage.recipe.phases[0])
    given = latents.half().float()
    x_hat = stage.model.g_s(given, QUALITY)
    _, weight = stage.weights_of_quality(QUALITY)
    again = moved(stage.model, x_hat, given, QUALITY, autocast=False)
    expected = expected_loss(stage, x_hat, x, 0.0) + identity * (weight * again).mean()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    psnr = float(decibels(squared_error(x_hat.detach(), x)))
    assert told == pytest.approx({"loss": float(loss.detach()), "psnr": psnr}, rel=1e-4)
    loss.backward()
    assert all(p.grad is not None for p in stage.model.g_s.parameters())


@pytest.mark.parametrize(("size", "held"), [(100, 24), (10, 10)])
def test_the_pool_is_filled_first_and_then_renewed_as_crops_are_reused(
    size, held, stage, crops, monkeypatch
):
    """Six batches for each reuse, 2 here, or as many as it holds; one batch every second step."""
    stage.recipe = stage.recipe.model_copy(update={"pool": size})
    stage.pool.size = size
    phase = QuantizedPhase(until=1.0, crop=64, batch=2, train="g_s", reuse=2)
    seen = []

    def quantize(x, quality):
        seen.append(x)
        return latents_of(stage, x, quality)

    monkeypatch.setattr(stage, "_quantize", quantize)
    counts = []
    for stage.warm in range(4):
        stage._synthesis_step(crops, phase)
        counts.append(len(seen))
    assert counts == [held // 2, held // 2, held // 2 + 1, held // 2 + 1]
    assert len(stage.pool.samples) == (24 + 2 if size == 100 else 10)
    assert torch.equal(seen[0], to_network(crops))
    assert torch.equal(seen[-1], to_network(crops))
    assert {tuple(x.shape) for x in seen} == {(2, 3, 64, 64)}
    assert not torch.equal(seen[1], seen[0])
    sample = stage.pool.samples[-1]
    assert sample["latents"].dtype == torch.float16
    larger = crops.repeat(1, 2, 2, 1)
    wide = phase.model_copy(update={"crop": 128})
    stage._synthesis_step(larger, wide)  # the pool holds none of this size
    assert stage.pool.samples[0]["x"].shape == (128, 128, 3)


def test_fresh_crops_are_cut_out_as_the_recipe_says(stage, monkeypatch):
    seen = []
    monkeypatch.setattr(quantized, "cut_out", lambda *given: seen.append(given) or given[0])
    stage.recipe = stage.recipe.model_copy(update={"cutouts": 0.25})
    assert stage._fresh(3, 64).shape == (3, 64, 64, 3)
    assert seen[0][1] == 0.25


def test_the_quantizer_is_given_crops_and_qualities(stage):
    stage.quantizer = lambda *given: given
    x, quality, search = stage._quantize("x", "quality")
    assert (x, quality) == ("x", "quality")
    assert search in {Quantizer(8, 24), Quantizer(0, 20)}


def test_a_joint_step_adds_the_bits_per_pixel(stage, crops, told, monkeypatch):
    crops = torch.cat([crops, crops.flip(1)], 2)
    x, mean = to_network(crops), object()
    batch = latents_of(stage, x, QUALITY)
    charged = torch.tensor([9000.0, 500.0])
    stage.quantizer = SimpleNamespace(
        predict=lambda given: (mean, "index") if given is batch else None,
        bits=lambda *given: (
            (torch.tensor([8192.0, 4096.0]), charged) if given == (batch, mean, "index") else None
        ),
    )
    given = []
    monkeypatch.setattr(quantized, "sixteenths", lambda count: QUALITY if count == 2 else None)
    monkeypatch.setattr(stage, "_quantize", lambda *inputs: given.append(inputs) or batch)
    latents = batch.y_hat
    monkeypatch.setattr(
        quantized, "latents_for_synthesis", lambda *of: latents if of == (batch, mean) else None
    )
    loss = stage._joint_step(crops)
    assert torch.equal(given[0][0], x)
    assert torch.equal(given[0][1], QUALITY)
    x_hat = stage.model.g_s(latents, QUALITY)
    expected = float(expected_loss(stage, x_hat, x, charged / (64 * 128)).detach())
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    psnr = float(decibels(squared_error(x_hat.detach(), x)))
    assert told == pytest.approx({"loss": expected, "psnr": psnr, "y_bpp": 0.75}, rel=1e-4)
    assert "y_bpp" in stage.shown


def test_qualities_are_multiples_of_a_sixteenth():
    quality = quantized.sixteenths(500)
    assert torch.equal(quality * 16, (quality * 16).round())
    assert len(quality.unique()) > 200
    assert quality.min() >= 1
    assert 95 < quality.max() <= 100


# ---- tables ----


@pytest.mark.parametrize(
    ("quantizers", "searches"),
    [
        ((32, 0, 8, "round"), (Quantizer(32, 48), Quantizer(0, 40))),
        (("round", 0, 8, 32), (Quantizer(0, 0, "round"), Quantizer(8, 48))),
    ],
)
def test_tables_are_fitted_to_the_first_of_each_family_with_the_thriftier_search(
    quantizers, searches, stage, monkeypatch
):
    stage.recipe = stage.recipe.model_copy(update={"quantizers": quantizers})
    fits, used = [], []

    class Collected(list):
        def refit(self, tables, prior):
            fits.append((len(self), tables, prior))
            return f"tables {len(fits)}"

    class Fake:
        tables = "start"

        def __call__(self, x, quality, search, collected):
            assert x.shape == (1, 3, 64, 64)
            assert quality.shape == (1,)
            collected.append(search)
            used.append((search, self.tables))

        def use(self, tables):
            self.tables = tables

    stage.quantizer = Fake()
    monkeypatch.setattr(quantized, "Collector", Collected)
    stage.fit_tables(2, 3)
    order = [*zip(2 * searches, ("start", "tables 1", "tables 2", "tables 3"), strict=True)]
    assert used == [each for each in order for _ in range(3)]
    assert fits == [(3, tables, stage.prior) for _, tables in order]
    assert stage.quantizer.tables == "tables 4"


def test_tables_are_fitted_to_the_largest_crops(stage, monkeypatch):
    larger = JOINT.model_copy(update={"crop": 128})
    stage.recipe = stage.recipe.model_copy(update={"phases": (stage.recipe.phases[0], larger)})
    sizes = []
    stage.quantizer = lambda x, *_: sizes.append(x.shape[2])
    stage.quantizer.use, stage.quantizer.tables = lambda _: None, None
    monkeypatch.setattr(quantized.Collector, "refit", lambda *_: None)
    stage.fit_tables(1, 1)
    assert sizes == [128, 128]


def test_the_first_fit_shows_how_far_it_is_and_later_ones_are_silent(stage, monkeypatch, capsys):
    stage.quantizer = lambda *_: None
    stage.quantizer.use, stage.quantizer.tables = lambda _: None, None
    monkeypatch.setattr(quantized.Collector, "refit", lambda *_: None)
    stage.fit_tables(1, 3)
    assert capsys.readouterr() == ("", "")
    stage.fit_tables(2, 3)
    out, shown = capsys.readouterr()
    assert out == ""
    assert shown.startswith("fitting tables, before --minutes")
    assert "100%" in shown


def test_tables_that_are_given_are_not_fitted_again(stage, monkeypatch):
    fitted = []
    monkeypatch.setattr(stage, "fit_tables", lambda *given: fitted.append(given))
    monkeypatch.setattr(stage, "validate_on", lambda model: (2.5 if model is stage.model else 0, 1))
    stage.on_fit_start()
    assert fitted == [(3, 3)]  # rounds, and crops of the recipe
    assert stage.start_loss == 2.5
    stage.fitted = True
    stage.on_fit_start()
    assert len(fitted) == 1


def test_tables_are_fitted_anew_while_entropy_networks_learn(stage, told, monkeypatch):
    fitted, shown = [], []
    monkeypatch.setattr(
        stage, "fit_tables", lambda *given: fitted.append((share, stage.warm, *given))
    )
    losses = {id(stage.average): (3.0, 0.5, 31.0)}
    monkeypatch.setattr(stage, "validate_on", lambda model: losses[id(model)])
    stage.start_loss = 2.0
    for share in (0.4, 0.5):
        stage.clock = SimpleNamespace(share=lambda share=share: share)
        for stage.warm in range(1, 7):
            told.clear()
            stage.on_train_batch_end()
            shown.append(dict(told))
    assert fitted == [(0.5, 2, 1, 2), (0.5, 4, 1, 2), (0.5, 6, 1, 2)]
    seldom = {"validation_loss": 1.5, "validation_bpp": 0.5, "validation_psnr": 31.0}
    assert shown == [{}, {}, seldom] * 4
    assert stage.ema.count == 12


def test_tables_go_with_a_checkpoint(stage, recipe, model, pack):
    tables = parametric_tables(sigmas_of(48), 13)
    stage.quantizer.use(tables)
    checkpoint = {}
    stage.on_save_checkpoint(checkpoint)
    again = QuantizedStage(recipe, Clock(1), model, pack)
    again.on_load_checkpoint(checkpoint)
    assert again.fitted
    for name, array in tables.to_arrays().items():
        assert np.array_equal(again.quantizer.tables.to_arrays()[name], array), name
    assert checkpoint["trellic"]["stage"] == "QuantizedStage"


def test_a_learning_curve_codes_with_the_present_tables(stage, monkeypatch):
    changed = {"skip_index": 7, "quantizers": (8, 0), "widening": 5}
    stage.recipe = stage.recipe.model_copy(update=changed)
    stage.quantizer = SimpleNamespace(tables="tables")
    monkeypatch.setattr(quantized, "coded_as_files", lambda *given: given)
    monkeypatch.setattr(quantized, "LoopQuantizer", lambda *given: given)
    assert stage.coded("model", "crops", 30.0) == (
        *(("model", "tables", 7, 5), Quantizer(8, 24), "crops", 30.0),
    )


# ---- what is validated ----


def a_pack(validation, training, side):
    """Photos that differ, with a gradient, so that a crop tells where it was cut."""
    rows, columns = np.mgrid[: side + 9, :side]
    photos = [
        np.stack([rows % 251, columns % 241, np.full_like(rows, i)], 2).astype(np.uint8)
        for i in range(validation + training)
    ]
    places = [*range(validation)], [*range(validation, validation + training)]
    return SimpleNamespace(validation=places[0], training=places[1], photo=photos.__getitem__)


@pytest.mark.parametrize(
    ("validation", "training", "side", "seen", "cut"),
    [
        (20, 3, 300, range(0, 16, 2), 256),  # every second one, and eight of them
        (5, 3, 300, range(5), 256),
        (0, 3, 300, range(3), 256),  # no photo to validate on
        (3, 0, 250, range(3), 192),  # a multiple of 64
    ],
)
def test_eight_corners_of_photos_are_validated(validation, training, side, seen, cut):
    pack = a_pack(validation, training, side)
    crops = quantized.validation_crops(pack, 64)
    expected = [pack.photo(i)[:cut, :cut] for i in seen]
    assert np.array_equal(crops.numpy(), np.stack(expected))


def test_photos_smaller_than_a_hyper_latent_are_refused():
    """A pack that a recipe of smaller pictures left in the same folder was a traceback."""
    with pytest.raises(BadParameter, match="packed photos smaller than 64x64 pixels"):
        quantized.validation_crops(a_pack(2, 3, 32), 64)


# ---- the run ----


@pytest.mark.parametrize("needs_curve", [False, True])
def test_a_run_hands_on_what_it_is_told(needs_curve, recipe, model, packed, tmp_path, monkeypatch):
    mixture = Mixture(squared_error=0.5, jod=0.5) if needs_curve else Mixture()
    own = recipe.model_copy(update={"distortion": mixture, "lmbda": (0.002, 0.05)})
    ran, trainers, references, followed = [], [], [], []

    def reference(*given):
        references.append(given[:3])
        assert given[3]() == (model, (0.002, 0.05), "middles of 8")
        return "curve"

    tables = parametric_tables(sigmas_of(48), 13)
    monkeypatch.setattr(quantized, "reference_of", reference)
    monkeypatch.setattr(quantized, "measured_reference", lambda *given: given)
    monkeypatch.setattr(quantized, "PHOTOS", 8)
    monkeypatch.setattr(quantized, "middles", lambda pack, n: f"middles of {n}" if pack else "")
    monkeypatch.setattr(quantized.QuantizedStage, "show", lambda *_: None)
    follow = lambda self, curve: followed.append(curve)  # noqa: E731
    monkeypatch.setattr("trellic_training.losses.eye.Distortion.follow", follow)
    make = lambda out, **given: trainers.append((out, given)) or "trainer"  # noqa: E731
    monkeypatch.setattr(quantized, "make_trainer", make)
    monkeypatch.setattr(quantized, "run", lambda *given: ran.append(given) or "checkpoint")
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")  # what Lightning takes if it is told no seed
    resume, watchers = tmp_path / "old.ckpt", ["watcher"]
    now = SimpleNamespace(value=0.0)
    made = finetune(
        own, model, packed, tmp_path, 2, resume=resume, steps=7, progress=False,
        now=lambda: now.value, tables=tables, watchers=watchers,
    )  # fmt: skip
    assert made == "checkpoint"
    ((trainer, module, loader, out, resumed),) = ran
    assert (trainer, out, resumed) == ("trainer", tmp_path, resume)
    assert module.model is model
    assert module.recipe is own
    assert module.quantizer.tables is tables
    assert module.pack.training == PackedPhotos(packed).training
    now.value = 30.0
    assert module.clock.share() == 0.25
    settings = {"steps": 7, "progress": False, "accelerator": "cpu", "watchers": watchers}
    assert trainers == [(tmp_path, settings | {"save_every": 250})]
    assert references == ([(mixture, tmp_path, resume)] if needs_curve else [])
    assert followed == (["curve"] if needs_curve else [])
    assert torch.initial_seed() == own.seed
    same = CropStream(PackedPhotos(packed), own, Clock(2), lambda: [11, 0], torch.device("cpu"))
    assert torch.equal(next(iter(loader)), next(iter(same)))
    finetune(own, model, packed, tmp_path, 2)
    settings = {"steps": None, "progress": True, "accelerator": "cpu", "watchers": ()}
    assert trainers[1] == (tmp_path, settings | {"save_every": 250})
    assert not ran[1][1].fitted
