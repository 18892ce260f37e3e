"""Measures of perception: what they prefer, and that they are what they say."""

import numpy as np
import pytest
from benchmarks.metrics import Pixels, psnr
from benchmarks.sliced_wasserstein import project, pyramid, sliced_wasserstein
from scipy.stats import wasserstein_distance

from benchmarks import scores


def texture(seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(128, 20, (64, 80, 3))
    return noise.clip(0, 255).astype(np.uint8)


def test_equal_statistics_count_and_not_equal_pixels() -> None:
    original, other = texture(1), texture(2)
    smooth = np.full_like(original, 128)
    assert psnr(original, smooth) > psnr(original, other) + 2
    assert sliced_wasserstein(original, smooth) > 6 * sliced_wasserstein(original, other)
    assert sliced_wasserstein(original, original) == 0


def test_a_loss_of_contrast_is_seen() -> None:
    original = texture(1)
    flat = (128 + 0.7 * (original.astype(float) - 128)).round().astype(np.uint8)
    flatter = (128 + 0.4 * (original.astype(float) - 128)).round().astype(np.uint8)
    distances = [sliced_wasserstein(original, one) for one in (flat, flatter)]
    assert distances[1] == pytest.approx(2 * distances[0], rel=0.05)


def test_along_a_direction_it_is_the_wasserstein_distance() -> None:
    rng = np.random.default_rng(3)
    one, other = (rng.normal(i, 1 + i, (500, 6)).astype(np.float32) for i in range(2))
    directions = rng.normal(size=(6, 4)).astype(np.float32)
    expected = [wasserstein_distance(one @ d, other @ d) for d in directions.T]
    assert project(one, directions, other) == pytest.approx(expected, rel=1e-4)


def test_the_pyramid_holds_the_whole_picture() -> None:
    levels = list(pyramid(texture(4)))
    assert [level.shape for level in levels] == [(64, 80, 3), (32, 40, 3), (16, 20, 3)]
    constant = list(pyramid(np.full((64, 80, 3), 90, np.uint8)))
    assert all(np.abs(level[4:-4, 4:-4]).max() < 1e-3 for level in constant[:-1])
    assert constant[-1] == pytest.approx(90)


def test_a_small_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="16 pixels a side"):
        sliced_wasserstein(texture(1)[:15], texture(1)[:15])


def test_scores_of_piq_without_torchvision() -> None:
    if missing := scores.SCORES["vsi"].needs():
        pytest.skip(f"VSI needs {missing}")
    original = texture(5)
    slightly, badly = ((original // d * d).astype(np.uint8) for d in (8, 32))
    for name in ("haarpsi", "vsi"):
        score = scores.SCORES[name]
        assert score.compute(original, original) == pytest.approx(1, abs=1e-5)
        assert 1 > score.compute(original, slightly) > score.compute(original, badly) > 0


def test_scores_say_what_is_better_and_where_they_are_defined() -> None:
    table = scores.SCORES
    assert table["psnr"].gain(31, 30) == 1
    assert table["sliced_wasserstein"].gain(20, 30) == 10
    assert table["ms_ssim"].gain(0.98, 0.99) == pytest.approx(-0.01)
    assert not table["ms_ssim"].defined(np.zeros((160, 400, 3), np.uint8))
    assert table["psnr"].defined(np.zeros((8, 8, 3), np.uint8))
