"""What tests of models that grew share."""

from __future__ import annotations

import torch

from trellic_training.models.grow import grown
from trellic_training.models.photo import PhotoModel


def grown_and_equal(config, wider, crops):
    """Grow a model; returns what the larger one makes of the crops, which is what it did before."""
    torch.manual_seed(4)
    before = PhotoModel(config).eval()
    model = grown(wider, before, crops).eval()
    quality = torch.full((len(crops),), 50.0)
    mine, its = model(crops, quality), before(crops, quality)
    assert torch.equal(mine.x_hat, its.x_hat)
    assert torch.equal(mine.y_bits, its.y_bits)
    assert torch.equal(mine.z_bits, its.z_bits)
    return model, mine
