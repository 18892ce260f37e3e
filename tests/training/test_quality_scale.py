"""What a quality stands for: lmbda over quality, and weights that move to another scale."""

from functools import partial

import numpy as np
import pytest
import torch

from trellic_training.models.photo import ModelConfig, PhotoModel
from trellic_training.models.stretch import stretched
from trellic_training.recipes.lmbda import lmbda_at, quality_of, same_lmbda

ENDS = (0.0006, 0.2)
BENT = (0.0002, 0.002, 0.6)
SMALL = {"wide": 16, "deep": 24, "groups": [{"channels": 12, "steps": [0, 1]}], "hyper": 4}


def test_lmbda_is_geometric_between_evenly_spaced_qualities():
    weights = lmbda_at(ENDS, torch.tensor([1.0, 50.5, 100.0])).tolist()
    assert weights[::2] == pytest.approx(ENDS)
    assert weights[1] ** 2 == pytest.approx(ENDS[0] * ENDS[1])
    bent = lmbda_at(BENT, torch.tensor([1.0, 25.75, 50.5, 100.0])).tolist()
    assert bent == pytest.approx([BENT[0], (BENT[0] * BENT[1]) ** 0.5, BENT[1], BENT[2]])


@pytest.mark.parametrize("values", [ENDS, BENT])
def test_the_quality_of_a_lmbda_is_its_inverse(values):
    qualities = np.linspace(1, 100, 34)
    weights = lmbda_at(values, torch.from_numpy(qualities)).numpy()
    np.testing.assert_allclose(quality_of(values, weights), qualities)
    beyond = quality_of(values, np.array([values[0] / 1.01, values[-1] * 1.01]))
    assert beyond[0] < 1
    assert beyond[1] > 100


def bent_model() -> PhotoModel:
    """A model whose tables and level weights are no constants."""
    torch.manual_seed(3)
    model = PhotoModel(ModelConfig.model_validate({**SMALL, "modulated": True}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modulation" in name or "gain" in name:
                parameter += 0.1 * torch.randn(parameter.shape)
    return model.eval()


@pytest.mark.parametrize("new", [ENDS, (0.0004, 0.4), BENT])
def test_weights_on_another_scale_do_at_each_lmbda_what_they_did(new):
    model = bent_model()
    anchors = torch.linspace(1, 100, model.config.anchors)
    before = partial(same_lmbda, new, ENDS)
    moved = stretched(model, before)
    was = torch.from_numpy(before(anchors.double().numpy())).float()
    x = torch.rand(len(anchors), 3, 64, 64) - 0.5
    with torch.no_grad():
        torch.testing.assert_close(moved.gains(anchors), model.gains(was))
        inside = (was >= 1) & (was <= 100)  # a modulation is clipped beyond
        assert inside.sum() >= 3
        old, found = model.g_a(x, was)[inside], moved.g_a(x, anchors)[inside]
    torch.testing.assert_close(found, old, rtol=1e-3, atol=1e-4)


def test_the_hyper_synthesis_hears_the_level_that_it_knew():
    model = bent_model()
    z = torch.randn(2, 4, 4, 4)
    moved = stretched(model, lambda quality: 2.0 * quality - 50.0)  # level l was level 2 l
    with torch.no_grad():
        seen = moved.features(z, torch.tensor([40.0, 60.0]))
        known = model.features(z, torch.tensor([30.0, 70.0]))
        other = model.features(z, torch.tensor([40.0, 60.0]))
    # The larger weights of the level make the steps of the layer's 8-bit weights coarser.
    assert (seen - known).abs().mean() < 0.2 * (other - known).abs().mean()


def test_the_model_that_is_moved_stays_as_it_was():
    model = bent_model()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    stretched(model, lambda quality: quality + 5.0)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
