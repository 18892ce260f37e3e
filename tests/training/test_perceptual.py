"""Stages of decoders: what their losses are made of and what they show; how the critic learns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trellic_training.losses.eye import decibels, squared_error
from trellic_training.losses.structure import contrast_error, structural_error
from trellic_training.pixels import to_network
from trellic_training.recipes.decoder import Adversary, load_decoder_recipe
from trellic_training.recipes.terms import CriticSettings
from trellic_training.stages.decoder import DecoderStage, LabelStage
from trellic_training.stages.perceptual import PerceptualStage
from trellic_training.stages.stage import Clock
from trellic_training.stages.terms import LearningCritic

from .conftest import RECIPES

WEIGHTS = {"critic": 0.25, "structure": 0.5, "contrast": 2.0, "from_share": 0.3}


@pytest.fixture
def stage(monkeypatch):
    """A stage that is handed pictures in place of pixels and latents."""
    torch.manual_seed(0)
    recipe = load_decoder_recipe(RECIPES / "decoders-tiny.yaml", "perceptual")
    own = {"adversary": Adversary(hidden=4, **WEIGHTS), "autocast": False}
    made = PerceptualStage(recipe.model_copy(update=own), Clock(1), torch.nn.Identity())
    monkeypatch.setattr(made, "target", lambda pixels: pixels)
    monkeypatch.setattr(made, "decode", lambda batch: batch["made"])
    monkeypatch.setattr(made, "log", lambda *_, **__: None)
    return made


def pictures():
    torch.manual_seed(1)
    x = torch.rand(3, 3, 64, 64) - 0.5
    return {
        "x": x,
        "teacher": x + 0.1 * torch.randn(x.shape),
        "made": x + 0.2 * torch.randn(x.shape),
    }


def test_errors_count_relative_to_the_teachers(stage):
    batch = pictures()
    x, teacher, made = batch["x"], batch["teacher"], batch["made"]
    measures = (squared_error, structural_error, contrast_error)
    shares = [measure(made, x) / measure(teacher, x) for measure in measures]
    assert all(float(share.min()) > 1 for share in shares)
    expected = (shares[0] + 0.5 * shares[1] + 2 * shares[2]).mean()
    assert float(stage.lost(batch)) == pytest.approx(float(expected), rel=1e-4)


def test_the_critic_counts_from_its_share_of_the_run_on(stage, monkeypatch):
    batch = pictures()
    verdict = torch.full((3, 1, 8, 8), 3.0)
    monkeypatch.setattr(stage.critic, "verdict", lambda picture, teacher: verdict)
    monkeypatch.setattr(stage.critic, "learn", lambda *_: torch.zeros(()))
    without = float(stage.lost(batch))
    for share, expected in ((0.29, without), (0.3, without - 0.25 * 3)):
        stage.clock = SimpleNamespace(share=lambda share=share: share)
        assert float(stage.training_step(batch, 0).detach()) == pytest.approx(expected, rel=1e-4)
    assert all(p.requires_grad for p in stage.critic.parameters())


def test_a_step_hands_the_critic_what_it_judges_and_shows_what_it_found(stage, monkeypatch):
    batch, told, taught, judged = pictures(), {}, [], []
    x, teacher, made = batch["x"], batch["teacher"], batch["made"]
    monkeypatch.setattr(stage, "log", lambda name, value: told.update({name: float(value)}))
    learn = lambda *given: taught.append(given) or torch.tensor(0.7)  # noqa: E731
    belief = lambda *given: judged.append(given) or torch.tensor([1.0, 2.0, 3.0])  # noqa: E731
    monkeypatch.setattr(stage.critic, "learn", learn)
    monkeypatch.setattr(stage.critic, "belief", belief)
    monkeypatch.setattr(stage, "classified", lambda _, given: given["classified"])
    stage.clock = SimpleNamespace(share=lambda: 1.0)
    batch["classified"] = torch.tensor([0.0, 5.0, 1.0])
    loss = float(stage.training_step(batch, 0))
    assert [*map(id, taught[0])] == [*map(id, (x, made, teacher))]
    assert [*map(id, judged[0])] == [*map(id, (made, teacher))]
    mse, structure, contrast = (
        measure(made, x) / measure(teacher, x)
        for measure in (squared_error, structural_error, contrast_error)
    )
    shown = {
        "psnr_over_teacher": float(-10 * mse.log10().mean()),
        "structure": float(structure.mean()),
        "contrast": float(contrast.mean()),
        "critic_apart": 0.7,
        "loss": float((mse + 0.5 * structure + 2 * contrast).mean()) + 2 - 0.25 * 2,
    }
    assert loss == told["loss"]
    assert told == pytest.approx(shown, rel=1e-4)


def test_the_stage_keeps_the_clock_that_it_is_given(stage):
    clock = Clock(1)
    assert PerceptualStage(stage.recipe, clock, torch.nn.Identity()).clock is clock


def test_a_perceptual_decoder_needs_an_adversary(stage):
    without = stage.recipe.model_copy(update={"adversary": None})
    with pytest.raises(ValueError, match="needs an adversary"):
        PerceptualStage(without, Clock(1), torch.nn.Identity())


def test_the_critic_learns_to_keep_photos_from_pictures(stage):
    batch = pictures()
    apart = [
        float(stage.critic.learn(batch["x"], batch["made"], batch["teacher"])) for _ in range(20)
    ]
    assert apart[-1] > apart[0] + 0.01


def test_the_critic_takes_a_step_of_the_hinge_loss():
    """Of a score w times the mean, from w = 0 on: the slope is the means' difference."""

    class Mean(LearningCritic):
        def __init__(self):
            super().__init__(CriticSettings(hidden=1), 1, autocast=False)
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.optimizer = torch.optim.SGD([self.weight], 1.0)

        def forward(self, picture, other):
            return self.weight * picture.mean((1, 2, 3))

    critic = Mean()
    real, made = torch.full((2, 3, 8, 8), 0.3), torch.full((2, 3, 8, 8), 0.1)
    assert float(critic.learn(real, made, made)) == 0
    assert float(critic.weight.detach()) == pytest.approx(0.2)
    assert float(critic.learn(real, made, made)) == pytest.approx(0.2 * 0.2)


@pytest.mark.parametrize("count", [1, 2])
def test_belief_teaches_the_picture_and_not_the_critic(count):
    torch.manual_seed(0)
    critic = LearningCritic(CriticSettings(hidden=4), count, autocast=False)
    x_hat = (torch.rand(2, 3, 32, 32) - 0.5).requires_grad_()
    beside = [torch.zeros(2, 3, 32, 32)] * (count - 1)
    before = critic.belief(x_hat, *beside)
    before.sum().backward()
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())
    after = critic.eval().belief(x_hat + 0.1 * x_hat.grad.sign(), *beside)
    assert bool((after > critic.belief(x_hat, *beside)).all())


class Gain(torch.nn.Module):
    """A decoder that scales latents, which are pictures already, and adds the level."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, latents, level):
        assert latents.dtype == torch.float32
        return (self.factor * latents + level.view(-1, 1, 1, 1)).double()


@pytest.fixture
def scaling():
    """A stage of such a decoder, what it tells, and a batch."""
    recipe = load_decoder_recipe(RECIPES / "decoders-tiny.yaml", "fast")
    clock, told = Clock(1), {}
    own = {"autocast": False, "distill": 0.0, "validate_every": 3}
    stage = DecoderStage(recipe.model_copy(update=own), clock, Gain())
    assert stage.clock is clock
    stage.log = lambda name, value: told.update({name: float(torch.as_tensor(value).detach())})
    torch.manual_seed(2)
    x = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    batch = {"x": x, "latents": to_network(x).half(), "level": torch.tensor([0.0, 0.1])}
    return stage, told, batch | {"quality": torch.tensor([30.0, 80.0])}


def test_a_step_of_a_decoder_shows_its_loss_and_its_psnr(scaling):
    stage, told, batch = scaling
    x = to_network(batch["x"])
    x_hat = 0.5 * batch["latents"].float() + batch["level"].view(2, 1, 1, 1)
    assert stage.decode(batch).dtype == torch.float32
    torch.testing.assert_close(stage.decode(batch), x_hat)
    lmbda, weight = stage.weights_of_quality(batch["quality"])
    expected = (weight * lmbda * 255**2 * squared_error(x_hat, x)).mean()
    loss = stage.training_step(batch, 0)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
    psnr = float(decibels(squared_error(x_hat, x)))
    assert told == pytest.approx({"loss": float(expected), "psnr": psnr}, rel=1e-4)


def test_the_average_is_validated_every_so_many_steps(scaling):
    stage, told, batch = scaling
    stage.model.factor.data.fill_(0.9)  # not yet in the average
    worse = batch | {"level": torch.tensor([0.2, 0.3])}
    stage.validation = [one | {"teacher": one["x"]} for one in (batch, worse)]
    errors = [
        squared_error(
            0.5 * one["latents"].float() + one["level"].view(2, 1, 1, 1), to_network(one["x"])
        )
        for one in (batch, worse)
    ]
    found = stage.validate()
    assert found["validation_psnr"] == pytest.approx(float(decibels(torch.cat(errors))), rel=1e-4)
    assert found["teacher_psnr"] == pytest.approx(90)
    shown = []
    for stage.warm in range(1, 7):
        told.clear()
        stage.on_train_batch_end()
        shown.append(set(told))
    seldom = {"validation_psnr", "teacher_psnr"}
    assert shown == [set(), set(), seldom] * 2
    assert told == pytest.approx(stage.validate())


def test_a_decoder_of_labels_learns_by_softened_cross_entropy(monkeypatch):
    recipe = load_decoder_recipe(RECIPES / "decoders-cifar.yaml", "class")
    own = recipe.model_copy(update={"label_smoothing": 0.2})
    stage = LabelStage(own, Clock(1), torch.nn.Identity())
    logits, label = torch.randn(4, 10), torch.tensor([0, 3, 9, 3])
    told = {}
    monkeypatch.setattr(stage, "decode", lambda batch: batch["logits"])
    monkeypatch.setattr(stage, "log", lambda name, value: told.update({name: float(value)}))
    likely = logits.log_softmax(1)
    expected = -(0.8 * likely[torch.arange(4), label] + 0.2 * likely.mean(1)).mean()
    loss = float(stage.training_step({"label": label, "logits": logits}, 0))
    assert loss == pytest.approx(float(expected))
    assert told == {"loss": loss}
