from pathlib import Path

import numpy as np
import pytest
from benchmarks.metrics import SCALE_WEIGHTS, Pixels, ms_ssim, psnr
from PIL import Image

from benchmarks import scores
from trellic.cli import measures
from trellic.errors import EngineError


def picture(seed: int, height: int = 176, width: int = 163) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    fine = np.kron(coarse, np.ones((8, 8, 1)))[:height, :width]
    fine += rng.normal(0, 6, fine.shape)
    return fine.clip(0, 255).astype(np.uint8)


def noisy(original: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(99).normal(0, sigma, original.shape)
    return (original + noise).round().clip(0, 255).astype(np.uint8)


def test_psnr_of_known_errors() -> None:
    zero = np.zeros((4, 5, 3), np.uint8)
    assert psnr(zero, np.full_like(zero, 255)) == 0
    assert psnr(zero, np.ones_like(zero)) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(zero, zero) == float("inf")
    one_sample = zero.copy()
    one_sample[1, 2, 0] = 200  # the mean is over samples of all channels
    assert psnr(zero, one_sample) == pytest.approx(10 * np.log10(255**2 * 60 / 200**2))


def test_psnr_does_not_wrap_around_uint8() -> None:
    a, b = np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 250, np.uint8)
    assert psnr(a, b) == psnr(b, a) == pytest.approx(10 * np.log10(255**2 / 240**2))


def plain_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """MS-SSIM by the formula, with the full 11x11 window at each position."""
    t = np.arange(-5, 6)
    window = np.exp(-(t[:, None] ** 2 + t**2) / 4.5)
    window /= window.sum()
    c1, c2 = 6.5025, 58.5225
    result = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        u = np.lib.stride_tricks.sliding_window_view(x, (11, 11))
        v = np.lib.stride_tricks.sliding_window_view(y, (11, 11))

        def mean(z: np.ndarray) -> np.ndarray:
            return np.einsum("ijkl,kl->ij", z, window)

        mu, nu = mean(u), mean(v)
        cs = (2 * (mean(u * v) - mu * nu) + c2) / (mean(u * u) - mu**2 + mean(v * v) - nu**2 + c2)
        luminance = (2 * mu * nu + c1) / (mu**2 + nu**2 + c1)
        result *= float((cs * luminance if scale == 4 else cs).mean()) ** weight
        if scale < 4:
            rows, columns = x.shape[0] // 2, x.shape[1] // 2
            x, y = (z.reshape(rows, 2, columns, 2).mean(axis=(1, 3)) for z in (x, y))
    return result


def test_ms_ssim_is_the_plain_formula() -> None:
    original = picture(0, 176, 192)
    decoded = noisy(original, 25)
    planes = [(original[..., c].astype(float), decoded[..., c].astype(float)) for c in range(3)]
    expected = np.mean([plain_ms_ssim(x, y) for x, y in planes])
    assert ms_ssim(original, decoded) == pytest.approx(expected, abs=1e-9)


def test_ms_ssim_falls_with_noise_and_is_one_for_equals() -> None:
    original = picture(1)
    values = [ms_ssim(original, noisy(original, sigma)) for sigma in (2, 8, 30)]
    assert ms_ssim(original, original) == pytest.approx(1)
    assert 1 > values[0] > values[1] > values[2] > 0


def test_grey_counts_as_one_channel() -> None:
    grey = picture(2)[..., 0]
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert ms_ssim(grey, noisy(grey, 5)) == pytest.approx(
        ms_ssim(colour, np.repeat(noisy(grey, 5)[..., None], 3, axis=2))
    )


@pytest.mark.parametrize("metric", [psnr, ms_ssim])
def test_unequal_pictures_are_refused(metric) -> None:
    original = picture(3)
    with pytest.raises(ValueError, match="shape"):
        metric(original, original[:-1])
    with pytest.raises(ValueError, match="uint8"):
        metric(original, original.astype(np.float32))


def test_ms_ssim_refuses_pictures_without_five_scales() -> None:
    small = picture(4, 160, 300)
    with pytest.raises(ValueError, match="161"):
        ms_ssim(small, small)


def samples() -> tuple[Pixels, Pixels]:
    """A crop of a sample photo, and what is left of it after steps of 24."""
    path = Path(__file__).parents[2] / "samples" / "osprey.png"
    with Image.open(path) as photo:
        original = np.asarray(photo.convert("RGB"))[100:356, 200:520]
    return original, (original // 24 * 24 + 12).clip(0, 255).astype(np.uint8)


def test_ms_ssim_is_that_of_published_results() -> None:
    # pytorch-msssim 1.0.0: ms_ssim(x, y, data_range=255, size_average=True) on float64 tensors
    assert ms_ssim(*samples()) == pytest.approx(0.956447170, abs=1e-6)


def test_ssimulacra2_is_that_of_its_files(tmp_path: Path) -> None:
    package = pytest.importorskip("ssimulacra2")
    pictures = samples()
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, pixels in zip(paths, pictures, strict=True):
        Image.fromarray(pixels).save(path)
    expected = package.compute_ssimulacra2(*map(str, paths))
    assert scores.ssimulacra2(*pictures) == pytest.approx(expected)
    assert scores.ssimulacra2(pictures[0], pictures[0]) == pytest.approx(100)


def test_butteraugli_reads_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / measures.BUTTERAUGLI
    program.write_text('#!/bin/sh\ntest -s "$1" && test -s "$2" && printf "3.3\\n3-norm: 1.4\\n"\n')
    monkeypatch.setenv("PATH", "")
    with pytest.raises(scores.ScoreUnavailableError, match="libjxl-devtools"):
        scores.parse("butteraugli")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert scores.parse("butteraugli") == ("psnr", "butteraugli")
    assert scores.butteraugli(*samples()) == 1.4
    program.write_text("#!/bin/sh\necho no\nexit 1\n")
    with pytest.raises(EngineError, match="no"):
        scores.butteraugli(*samples())


def test_scores_grow_with_quality_where_they_are_compared() -> None:
    original, coarse = samples()
    fine = (original // 6 * 6 + 3).astype(np.uint8)
    for name in ("psnr", "ms_ssim"):
        score = scores.SCORES[name]
        assert score.scale(score.compute(original, fine)) > score.scale(
            score.compute(original, coarse)
        )
    assert scores.SCORES["ms_ssim"].scale(0.99) == pytest.approx(20)
    assert scores.SCORES["butteraugli"].scale(0.5) > scores.SCORES["butteraugli"].scale(1.5)
