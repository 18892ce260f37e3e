"""What a step of the first stage adds up, and which qualities it draws."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trellic.errors import BadParameter
from trellic_training.data.photos import PackedPhotos
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.models.weights import save_weights
from trellic_training.pixels import to_network
from trellic_training.recipes.distortion import Mixture
from trellic_training.recipes.terms import Perception
from trellic_training.stages import end_to_end
from trellic_training.stages.end_to_end import CropStream, EndToEnd, sample_quality, train
from trellic_training.stages.stage import Clock


@pytest.fixture
def stage(tiny_recipe, monkeypatch):
    """Make a stage of the tiny recipe that notes what it shows and logs."""

    def made(**terms):
        torch.manual_seed(7)
        stage = EndToEnd(tiny_recipe.model_copy(update=terms), Clock(1))
        stage.seen = {}
        monkeypatch.setattr(stage, "show", stage.seen.__setitem__)
        monkeypatch.setattr(stage, "log", stage.seen.__setitem__)
        return stage

    return made


@pytest.fixture
def crops(packed):
    """Two crops that are wider than high."""
    return PackedPhotos(packed).crops(np.random.default_rng(5), 2, 128)[:, :64]


def test_a_step_counts_pixels_and_what_variants_add_and_says_what_it_found(
    stage, crops, monkeypatch
):
    module, asked = stage(), []
    monkeypatch.setattr(module, "beside", lambda output, quality: quality + 0 * output.y_bits)

    def distortion(x_hat, x, quality, lmbda):
        asked.append(quality)
        return lmbda * squared_error(x_hat, x)

    monkeypatch.setattr(module.distortion, "forward", distortion)
    torch.manual_seed(6)
    loss = module.training_step(crops, 0)
    torch.manual_seed(6)
    x = to_network(crops)
    quality = sample_quality(2, x.device)
    output = module.model(x, quality, autocast=module.recipe.autocast)
    lmbda, weight = module.weights_of_quality(quality)
    bpp = (output.y_bits + output.z_bits) / (64 * 128)
    error = squared_error(output.x_hat, x)
    torch.testing.assert_close(loss, (weight * (bpp + lmbda * error + quality)).mean())
    assert torch.equal(asked[0], quality)
    bits = output.y_bits + output.z_bits
    expected = {
        "loss": loss,
        "bpp": bpp.mean(),
        "psnr": decibels(error),
        "z_share": output.z_bits.sum() / bits.sum(),
    }
    assert set(module.seen) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(module.seen[name], value)


def test_the_critic_sees_each_decoded_picture_and_learns_before(stage, crops, monkeypatch):
    module, called = stage(perception=Perception(lambda_p=0.25, from_share=0.5)), []
    x, x_hat = to_network(crops), to_network(crops) + 0.1

    def belief(picture):
        called.append(picture)
        return torch.ones(2)

    monkeypatch.setattr(module.critic, "learn", lambda *given: called.append(given) or 0.75)
    monkeypatch.setattr(module.critic, "belief", belief)
    shares = iter((0.49, 0.5))
    monkeypatch.setattr(module.clock, "share", lambda: next(shares))
    assert module._perceived(x_hat, x).tolist() == [0, 0]
    assert module._perceived(x_hat, x).tolist() == [-0.25, -0.25]
    assert module.seen == {"critic_apart": 0.75}
    learned, again, judged = called
    assert learned[0] is again[0] is x
    assert learned[1] is again[1] is judged is x_hat


def test_the_critic_judges_one_picture_at_once_in_the_precision_of_the_recipe(stage):
    for autocast in (False, True):
        critic = stage(perception=Perception(lambda_p=0.25), autocast=autocast).critic
        assert critic.autocast is autocast
        assert critic(torch.zeros(1, 3, 64, 64)).shape[:2] == (1, 1)


def test_half_of_the_qualities_are_drawn_from_15_to_85():
    torch.manual_seed(0)
    quality = sample_quality(400_000, torch.device("cpu"))

    def density(low):
        return ((quality >= low) & (quality < low + 1)).float().mean().item()

    everywhere, middle = 0.5 / 99, 0.5 / 70
    outside = pytest.approx(everywhere, rel=0.05)
    inside = pytest.approx(everywhere + middle, rel=0.05)
    assert [density(low) for low in (14, 15, 84, 85)] == [outside, inside, inside, outside]


def test_qualities_are_drawn_on_the_device_that_is_asked_for():
    assert sample_quality(3, torch.device("meta")).device.type == "meta"


def test_crops_with_labels_are_cut_out_as_the_recipe_says(tiny_recipe, monkeypatch):
    recipe = tiny_recipe.model_copy(update={"cutouts": 0.25})
    photos = SimpleNamespace(labelled=lambda rng, batch, crop: ((batch, crop), rng.integers(9)))
    monkeypatch.setattr(end_to_end, "cut_out", lambda *given: given)
    device = torch.device("cpu")
    stream = CropStream(photos, recipe, Clock(1), lambda: [3], device, labelled=True)
    phase = recipe.phase_at(0)
    expected = ((phase.batch, phase.crop), 0.25), np.random.default_rng([3]).integers(9)
    assert next(iter(stream)) == expected


@pytest.mark.parametrize("labelled", [False, True])
def test_a_run_hands_on_what_it_is_told(labelled, tiny_recipe, packed, tmp_path, monkeypatch):
    trainers, started, checked, ran = [], [], [], []

    class Noted(EndToEnd):
        def __init__(self, *given):
            super().__init__(*given)
            check = lambda pack, crops: checked.append((pack, [*crops]))  # noqa: E731
            self.classification = SimpleNamespace(check=check) if labelled else None

        def started(self):
            assert started[-1][0] is self

    def make(out, **given):
        trainers.append((out, given))
        return SimpleNamespace(strategy=SimpleNamespace(root_device="device"))

    monkeypatch.setattr(end_to_end, "make_trainer", make)
    monkeypatch.setattr(end_to_end, "run", lambda *given: ran.append(given) or "newest")
    monkeypatch.setattr(end_to_end, "_start", lambda *given: started.append(given) or "restored")
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")  # what Lightning takes if it is told no seed
    now, watchers = SimpleNamespace(value=0.0), ["watcher"]
    made = train(
        tiny_recipe, packed, tmp_path, 2, resume=tmp_path / "a.ckpt", steps=7, progress=False,
        stage=Noted, now=lambda: now.value, watchers=watchers,
    )  # fmt: skip
    assert made == "newest"
    assert torch.initial_seed() == tiny_recipe.seed
    ((_, module, loader, out, checkpoint),) = ran
    assert (out, checkpoint) == (tmp_path, "restored")
    assert trainers == [(tmp_path, {"steps": 7, "progress": False, "watchers": watchers})]
    ((stage, pack, *rest),) = started
    assert stage is module
    assert rest == [tmp_path, tmp_path / "a.ckpt"]
    assert pack.training == PackedPhotos(packed).training
    assert checked == ([(pack, [phase.crop for phase in tiny_recipe.phases])] if labelled else [])
    now.value = 30.0
    assert module.clock.share() == 0.25
    assert module.recipe is tiny_recipe
    stream = loader.dataset
    assert (stream.photos, stream.recipe, stream.clock) == (pack, tiny_recipe, module.clock)
    assert (stream.device, stream.labelled, loader.batch_size) == ("device", labelled, None)
    assert stream.seed() == [tiny_recipe.seed, 0]
    train(tiny_recipe, packed, tmp_path, 2)
    assert trainers[1] == (tmp_path, {"steps": None, "progress": True, "watchers": ()})


def test_photos_of_other_bands_are_refused(tiny_recipe, packed, tmp_path):
    four = tiny_recipe.model.model_copy(update={"bands": 4})
    with pytest.raises(BadParameter, match="bands"):
        train(tiny_recipe.model_copy(update={"model": four}), packed, tmp_path, 1, steps=1)


def test_labels_without_a_classifier_and_a_critic_of_weight_0_are_left_alone(
    stage, crops, monkeypatch
):
    loss = stage().training_step((crops, torch.tensor([0, 1])), 0)
    assert loss.isfinite()
    module = stage(perception=Perception(lambda_p=0.0))
    monkeypatch.setattr(module.critic, "learn", None)  # it is not called
    assert module._perceived(to_network(crops), to_network(crops)).tolist() == [0, 0]


def test_weights_of_the_same_model_are_taken_and_of_another_grown(
    tiny_recipe, model, packed, tmp_path, monkeypatch
):
    path, given = tmp_path / "weights.pt", []
    save_weights(model, {"recipe": tiny_recipe.model_dump(mode="json")}, path)
    monkeypatch.setattr(end_to_end, "stretched", None)  # neither is called: lambda is the same
    monkeypatch.setattr(end_to_end, "grown", None)
    pack = PackedPhotos(packed)
    assert end_to_end._start(EndToEnd(tiny_recipe, Clock(1)), pack, tmp_path, path) is None
    config = tiny_recipe.model.model_copy(update={"encoder_blocks": (3, 3)})
    larger = EndToEnd(tiny_recipe.model_copy(update={"model": config}), Clock(1))
    monkeypatch.setattr(end_to_end, "grown", lambda *of: given.append(of) or larger.model)
    for _ in range(2):
        assert end_to_end._start(larger, pack, tmp_path, path) is None
    (wanted, trained, crops), (*_, again) = given
    assert wanted == config
    assert trained.config == model.config
    assert torch.equal(crops, again)  # of the recipe's seed

    def refused(*_):
        raise KeyError("g_a")

    monkeypatch.setattr(end_to_end, "grown", refused)
    with pytest.raises(BadParameter, match=r"weights\.pt cannot be resumed from"):
        end_to_end._start(larger, pack, tmp_path, path)
    with pytest.raises(KeyError, match="g_a"):  # there is no file to blame
        end_to_end._start(larger, pack, tmp_path, None)


def test_a_curve_is_measured_on_as_many_photos_as_it_needs(
    tiny_recipe, packed, tmp_path, monkeypatch
):
    own = tiny_recipe.model_copy(update={"distortion": Mixture(squared_error=0.5, jod=0.5)})
    module, given, followed, old = EndToEnd(own, Clock(1)), [], [], tmp_path / "a.ckpt"
    monkeypatch.setattr(end_to_end, "PHOTOS", 8)
    monkeypatch.setattr(end_to_end, "validation_crops", lambda pack, n: (pack, n))
    monkeypatch.setattr(end_to_end, "measured_reference", lambda *of: of)
    monkeypatch.setattr(end_to_end, "reference_of", lambda *of: given.append(of) or "curve")
    monkeypatch.setattr(module.distortion, "follow", followed.append)
    pack = PackedPhotos(packed)
    assert end_to_end._start(module, pack, tmp_path, old) == old
    ((mixture, out, resume, measured),) = given
    assert (mixture, out, resume) == (own.distortion, tmp_path, old)
    assert measured() == (None, None, (pack, 8))
    assert followed == ["curve"]
