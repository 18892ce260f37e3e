"""The stage for the eye: what its loss is made of, and which way its critic learns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from trellic_training.losses.eye import squared_error
from trellic_training.losses.structure import contrast_error, structural_error
from trellic_training.recipes.decoder import Adversary, load_decoder_recipe
from trellic_training.recipes.terms import CriticSettings
from trellic_training.stages.decoder import LabelStage
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


def test_a_decoder_of_labels_learns_by_softened_cross_entropy(monkeypatch):
    recipe = load_decoder_recipe(RECIPES / "decoders-cifar.yaml", "class")
    own = recipe.model_copy(update={"label_smoothing": 0.2})
    stage = LabelStage(own, Clock(1), torch.nn.Identity())
    logits, label = torch.randn(4, 10), torch.tensor([0, 3, 9, 3])
    monkeypatch.setattr(stage, "decode", lambda batch: logits)
    monkeypatch.setattr(stage, "log", lambda *_, **__: None)
    likely = logits.log_softmax(1)
    expected = -(0.8 * likely[torch.arange(4), label] + 0.2 * likely.mean(1)).mean()
    assert float(stage.training_step({"label": label}, 0)) == pytest.approx(float(expected))
