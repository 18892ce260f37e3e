"""Blocks that see the quality: nothing at first, and what interpolation asks for."""

from __future__ import annotations

import pytest
import torch

from trellic_training.models.photo import PhotoModel
from trellic_training.models.transforms import ANCHORS, Chain, DepthBlock, Modulation


@pytest.fixture
def modulation():
    torch.manual_seed(0)
    made = Modulation(4, ANCHORS)
    with torch.no_grad():
        for table in (made.scale, made.shift):
            table.copy_(torch.randn_like(table))
    return made


def test_tables_are_interpolated_and_held_beyond_their_ends(modulation):
    x = torch.randn(5, 4, 3, 2)
    step = 99 / (ANCHORS - 1)
    quality = torch.tensor([1.0, 100.0, 1 + 2.25 * step, -20.0, 140.0])
    seen = modulation(x, quality)
    rows = (0, 0), (-1, -1), (2, 3), (0, 0), (-1, -1)
    for picture, result, (low, high) in zip(x, seen, rows, strict=True):
        scale, shift = (
            0.75 * t[low] + 0.25 * t[high] for t in (modulation.scale, modulation.shift)
        )
        expected = picture * (1 + scale[:, None, None]) + shift[:, None, None]
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)


def test_it_is_float32_whatever_runs_around_it(modulation):
    """A shift of a thousandth survives beside a value that bfloat16 could not add it to."""
    with torch.no_grad():
        modulation.scale.zero_()
        modulation.shift.fill_(1e-3)
    x = torch.ones(1, 4, 1, 1, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        seen = modulation(x, torch.tensor([50.0]))
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, torch.full_like(seen, 1.001))


def test_a_fresh_one_changes_nothing(tiny_config):
    torch.manual_seed(1)
    plain = PhotoModel(tiny_config).eval()
    model = PhotoModel(tiny_config.model_copy(update={"modulated": True})).eval()
    model.load_state_dict(model.state_dict() | plain.state_dict())
    x, quality = torch.rand(2, 3, 64, 64) - 0.5, torch.tensor([3.0, 90.0])
    a, b = model(x, quality), plain(x, quality)
    torch.testing.assert_close(a.x_hat, b.x_hat)
    torch.testing.assert_close(a.y_bits, b.y_bits)


def test_gradients_reach_the_qualities_that_were_used(tiny_config):
    model = PhotoModel(tiny_config.model_copy(update={"modulated": True}))
    output = model(torch.rand(2, 3, 64, 64) - 0.5, torch.tensor([1.0, 30.0]))
    (output.x_hat.square().mean() + output.y_bits.mean()).backward()
    tables = [p for n, p in model.named_parameters() if "modulation" in n]
    assert len(tables) == 2 * sum(
        isinstance(m, DepthBlock) for part in (model.g_a, model.g_s) for m in part.modules()
    )
    for table in tables:
        used = table.grad.abs().sum(1) > 0
        assert used.tolist() == [True, False, True, True, *[False] * (ANCHORS - 4)]


def test_a_missing_quality_is_an_error():
    chain = Chain(DepthBlock(4, anchors=3))
    with pytest.raises(ValueError, match="without a quality"):
        chain(torch.zeros(1, 4, 2, 2))
    assert Chain(DepthBlock(4))(torch.zeros(1, 4, 2, 2)).shape == (1, 4, 2, 2)
