"""Measures of perception: what they prefer, and that they are what they say."""

import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.metrics import Pixels, psnr
from benchmarks.sliced_wasserstein import project, pyramid, sliced_wasserstein
from PIL import Image
from scipy.stats import wasserstein_distance

from benchmarks import scores
from trellic_training.measures import colorvideo


def texture(seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(128, 20, (64, 80, 3))
    return noise.clip(0, 255).astype(np.uint8)


def photo() -> Pixels:
    path = Path(__file__).parents[2] / "samples" / "osprey.png"
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))[100:356, 200:520]


def coarse(original: Pixels, step: int) -> Pixels:
    return (original // step * step + step // 2).clip(0, 255).astype(np.uint8)


def available(name: str) -> scores.Score:
    if missing := scores.SCORES[name].needs():
        pytest.skip(f"{name} needs {missing}")
    return scores.SCORES[name]


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


@pytest.mark.parametrize("name", ["haarpsi", "fsim", "vsi"])
def test_scores_of_piq_without_torchvision(name: str) -> None:
    score = available(name)
    original = texture(5)
    slightly, badly = ((original // d * d).astype(np.uint8) for d in (8, 32))
    assert score.compute(original, original) == pytest.approx(1, abs=1e-5)
    assert 1 > score.compute(original, slightly) > score.compute(original, badly) > 0


def test_cvvdp_is_that_of_its_package() -> None:
    # cvvdp 0.5.7 with torchvision's own blur, display standard_4k
    score = available("cvvdp")
    original = photo()
    assert score.compute(original, coarse(original, 24)) == pytest.approx(9.0836, abs=2e-3)
    assert score.compute(original, coarse(original, 6)) == pytest.approx(9.9836, abs=2e-3)
    assert score.compute(original, original) == 10
    assert score.compute(original, np.roll(original, 1, 1)) == pytest.approx(8.4835, abs=2e-3)


def test_cvvdp_leaves_imports_as_they_were() -> None:
    available("cvvdp").compute(texture(1), texture(1))
    for name in ("torchvision", "ffmpeg", "interp", "third_party"):
        module = sys.modules.get(name)
        assert module is None or module.__spec__ is not None, f"a stand-in for {name} is left"
    assert not any(entry.endswith("pycvvdp") for entry in sys.path)


def test_stand_ins_give_back_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.ModuleType("ffmpeg")
    monkeypatch.setitem(sys.modules, "ffmpeg", there)
    path = list(sys.path)
    with colorvideo._stand_ins({"ffmpeg": {}, "nowhere": {}, "nowhere.deep": {"x": 1}}):
        from nowhere.deep import x

        assert x == 1
        assert sys.modules["ffmpeg"] is not there
        sys.path.append("somewhere")
    assert sys.modules["ffmpeg"] is there
    assert "nowhere" not in sys.modules
    assert sys.path == path


def test_flip_grows_with_the_error_and_is_negated_for_curves() -> None:
    score = available("flip")
    original = photo()
    values = [score.compute(original, coarse(original, step)) for step in (6, 24)]
    assert 0 < values[0] < values[1] < 1
    assert score.compute(original, original) == 0
    assert score.scale(values[0]) > score.scale(values[1])
    assert score.gain(*values) > 0


def test_eye_stands_for_all_that_judges_what_people_see(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in scores.EYE:
        there = replace(scores.SCORES[name], needs=lambda: None)
        monkeypatch.setitem(scores.SCORES, name, there)
    assert scores.parse("eye") == ("psnr", *scores.EYE)
    assert scores.parse("flip,eye")[:2] == ("psnr", "flip")
    monkeypatch.setitem(scores.SCORES, "flip", replace(there, needs=lambda: "the package such"))
    with pytest.raises(scores.ScoreUnavailableError, match="flip needs the package such"):
        scores.parse("eye")


def test_scores_say_what_is_better_and_where_they_are_defined() -> None:
    table = scores.SCORES
    assert table["psnr"].gain(31, 30) == 1
    assert table["sliced_wasserstein"].gain(20, 30) == 10
    assert table["ms_ssim"].gain(0.98, 0.99) == pytest.approx(-0.01)
    assert not table["ms_ssim"].defined(np.zeros((160, 400, 3), np.uint8))
    assert table["psnr"].defined(np.zeros((8, 8, 3), np.uint8))
