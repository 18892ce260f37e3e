"""Crops on pure white and black."""

from __future__ import annotations

import torch

from trellic_training.data.cutouts import cut_out

CROPS = torch.randint(40, 200, (200, 64, 48, 3), dtype=torch.uint8)


def test_none_are_cut_without_a_share_and_no_number_is_drawn():
    before = torch.get_rng_state()
    assert cut_out(CROPS, 0.0) is CROPS
    assert torch.equal(before, torch.get_rng_state())


def test_outside_is_exactly_white_or_black_and_inside_is_the_photo():
    torch.manual_seed(3)
    cut = cut_out(CROPS, 1.0)
    changed = (cut != CROPS).any(3)
    pure = ((cut == 255) | (cut == 0)).all(3)
    assert changed.any(2).any(1).float().mean() > 0.95
    # what is neither untouched nor pure is an edge of about a pixel
    edge = (changed & ~pure).flatten(1).sum(1)
    assert edge.max() <= 2 * (64 + 48)
    white = (cut == 255).all(3).flatten(1).any(1)
    black = (cut == 0).all(3).flatten(1).any(1)
    assert not (white & black).any()
    assert 0.7 < white.sum() / (white | black).sum() < 0.9
    # some of the photo is left, and most crops have a background worth the name
    assert (~changed).flatten(1).any(1).float().mean() > 0.95
    assert pure.float().mean() > 0.3


def test_about_the_share_is_cut():
    torch.manual_seed(4)
    cut = (cut_out(CROPS, 0.25) != CROPS).flatten(1).any(1).float().mean().item()
    assert 0.15 < cut < 0.35
    assert CROPS.max() < 200  # given crops stay as they are
