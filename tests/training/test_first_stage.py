"""What a step of the first stage adds up, and which qualities it draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trellic_training.data.photos import PackedPhotos
from trellic_training.losses.eye import decibels, squared_error
from trellic_training.pixels import to_network
from trellic_training.recipes.terms import Perception
from trellic_training.stages.end_to_end import EndToEnd, sample_quality
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
