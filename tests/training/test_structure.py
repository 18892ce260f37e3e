"""The differentiable SSIMULACRA 2 against the package that benchmarks use."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import ssimulacra2
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from trellic_training.losses import structure
from trellic_training.losses.structure import (
    blur,
    contrast_error,
    linear,
    opponents,
    structural_error,
)

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "spices.png"


def photo() -> Image.Image:
    """Return a photo with an odd side, large enough for six scales.

    Of fewer (a side under 225 pixels) the package misplaces its weights.
    """
    with Image.open(SAMPLE) as image:
        return image.convert("RGB").crop((60, 40, 60 + 261, 40 + 240))


def distorted(image: Image.Image) -> Iterator[Image.Image]:
    for quality in (15, 40, 85):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        yield Image.open(buffer).convert("RGB")
    yield image.filter(ImageFilter.GaussianBlur(1.2))
    pixels: npt.NDArray[np.float64] = np.asarray(image).astype(float)
    noisy = pixels + np.random.default_rng(1).normal(0, 9, pixels.shape)
    yield Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    yield Image.fromarray((pixels * (0.99, 1.0, 0.96)).astype(np.uint8))


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255 - 0.5


def scores(tmp_path: Path) -> tuple[list[float], list[float]]:
    original = photo()
    original.save(tmp_path / "a.png")
    theirs, ours = [], []
    for image in distorted(original):
        image.save(tmp_path / "b.png")
        found = ssimulacra2.compute_ssimulacra2(str(tmp_path / "a.png"), str(tmp_path / "b.png"))
        theirs.append(float(found))
        ours.append(100 - float(structural_error(tensor(image), tensor(original))))
    return theirs, ours


@pytest.mark.slow("compared with the package on whole photos")
def test_scores_are_those_of_the_package_with_its_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = torch.exp(-((torch.arange(11) - 5) ** 2) / (2 * 1.5**2))
    taps = taps / taps.sum()

    def blur(x: Tensor) -> Tensor:
        """Zeros at the sides; above and below the edge is mirrored, itself twice."""
        rows = torch.arange(-5, x.shape[2] + 5)
        rows = torch.where(rows < 0, -1 - rows, rows)
        rows = torch.where(rows >= x.shape[2], 2 * x.shape[2] - 1 - rows, rows)
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 11, 11)
        return functional.conv2d(functional.pad(x[:, :, rows], (5, 5)), kernel, groups=x.shape[1])

    monkeypatch.setattr(structure, "blur", blur)
    theirs, ours = scores(tmp_path)
    assert ours == pytest.approx(theirs, abs=0.1)


def test_mirrored_edges_change_the_score_little_and_the_order_not(tmp_path: Path) -> None:
    theirs, ours = scores(tmp_path)
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist()
    assert ours == pytest.approx(theirs, abs=8)
    assert max(theirs) - min(theirs) > 30


def test_gradients_point_at_the_photo() -> None:
    x = tensor(photo())[..., :192, :192]
    x_hat = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    x_hat.requires_grad_()
    error = structural_error(x_hat, x)
    (slope,) = torch.autograd.grad(error.sum(), x_hat)
    with torch.no_grad():
        nearer = x_hat - 0.02 * slope / slope.abs().max()
        assert float(structural_error(nearer, x)) < float(error) - 0.1


def test_gradients_are_finite_for_equal_and_for_flat_pictures() -> None:
    for x in (tensor(photo()), torch.zeros(2, 3, 64, 64), torch.full((1, 3, 16, 16), -0.5)):
        x_hat = x.clone().requires_grad_()
        error = structural_error(x_hat, x)
        assert float(error.detach().max()) < 1
        error.sum().backward()  # type: ignore[no-untyped-call]
        assert x_hat.grad is not None
        assert bool(torch.isfinite(x_hat.grad).all())


def test_small_pictures_have_fewer_scales() -> None:
    x = tensor(photo())[..., :24, :16]
    assert float(structural_error((x * 0.9).clone(), x)) > 0


@pytest.mark.parametrize(
    ("size", "scales"), [((8, 8), 1), ((8, 32), 1), ((32, 8), 1), ((15, 16), 2), ((14, 32), 1)]
)
def test_a_scale_has_eight_pixels_a_side_at_least(
    size: tuple[int, int], scales: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An odd side of 15 is 8 at half the size; one of 14 is 7."""
    x = tensor(photo())[..., : size[0], : size[1]]
    whole = structural_error(x * 0.5, x)
    found = []
    for count in range(scales + 2):
        monkeypatch.setattr(structure, "WEIGHTS", structure.WEIGHTS[:count])
        found.append(structural_error(x * 0.5, x))
        monkeypatch.undo()
    assert [bool(one == whole) for one in found] == [count >= scales for count in range(scales + 2)]


@pytest.mark.parametrize("size", [(24, 16), (11, 40)])
def test_the_blur_is_a_gaussian_of_eleven_taps_with_mirrored_edges(size: tuple[int, int]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, *size))).float()
    expected = gaussian_filter(x.numpy(), 1.5, mode="mirror", radius=(5, 5), axes=(2, 3))
    assert blur(x).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("size", [(3, 16), (16, 3)])
def test_the_blur_of_a_thin_plane_takes_the_taps_that_fit(size: tuple[int, int]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, *size))).float()
    expected = gaussian_filter(x.numpy(), 1.5, mode="mirror", radius=(2, 2), axes=(2, 3))
    assert blur(x).numpy() == pytest.approx(expected, abs=1e-5)


def test_colours_are_linear_light_and_cube_roots_of_mixtures() -> None:
    levels = (0.0, 0.04, 0.05, 0.5, 1.0)
    light = linear(torch.tensor(levels) - 0.5).tolist()
    curve = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in levels]
    assert light == pytest.approx(curve, rel=1e-5, abs=1e-8)
    bias = structure.BIAS
    colour = (0.8, 0.1, 0.3)
    mixed = [sum(m * c for m, c in zip(row, colour, strict=True)) for row in structure.MIX]
    red, green, blue = ((cone + bias) ** (1 / 3) - bias ** (1 / 3) for cone in mixed)
    luma = (red + green) / 2
    found = opponents(torch.tensor(colour)[None, :, None, None])[0, :, 0, 0].tolist()
    expected = [7 * (red - green) + 0.42, luma + 0.01, blue - luma + 0.55]
    assert found == pytest.approx(expected, rel=1e-4)


def checks(block: int, height: float) -> Tensor:
    """A chess board of blocks, of +height and -height."""
    rows = (torch.arange(128) // block) % 2
    board = (rows[:, None] + rows) % 2
    return (height * (2.0 * board - 1)).expand(1, 3, -1, -1).clone()


def test_contrast_that_is_missing_counts_band_by_band() -> None:
    fine, coarse = checks(1, 0.25), checks(2, 0.25)
    assert float(contrast_error(fine, fine)) == 0
    # All of the finest band, whose mean is 0; the floor of a deviation is 0.001.
    assert float(contrast_error(torch.zeros_like(fine), fine)) == pytest.approx(0.249, abs=1e-4)
    assert float(contrast_error(fine / 2, fine)) == pytest.approx(0.125, abs=1e-4)
    assert float(contrast_error(fine, fine / 2)) == pytest.approx(0.125, abs=1e-4)
    # Interpolated, a board is a quarter as high: 3/4 of it are in the first band, all in the next.
    whole = 0.25 * (0.75 + 1) - 2 * 0.001
    assert float(contrast_error(torch.zeros_like(coarse), coarse)) == pytest.approx(whole, rel=0.03)
    # Of blocks of 4, the third band has all; the fourth, of blocks of 8, is not looked at.
    third = float(contrast_error(torch.zeros_like(coarse), checks(4, 0.25)))
    fourth = float(contrast_error(torch.zeros_like(coarse), checks(8, 0.25)))
    assert third > whole > fourth > 0
    pair = torch.cat([fine, torch.zeros_like(fine)])
    assert contrast_error(pair, torch.cat([fine, fine])).tolist() == pytest.approx(
        [0, 0.249], abs=1e-4
    )


def test_deviations_are_of_neighbourhoods_of_eight_every_four_samples() -> None:
    band = torch.zeros(1, 1, 16, 16)
    band[0, 0, 5, 2] = 8.0  # in the first window of a row, and in the first two of a column
    found = structure._deviation(band)
    expected = torch.full((1, 1, 3, 3), 0.001)
    expected[0, 0, :2, 0] = 1.0
    torch.testing.assert_close(found, expected)


def test_points_are_the_published_curve() -> None:
    t = structure.SHARE * 40.0
    expected = 10 * (
        2.326765642916932 * t - 0.020884521182843837 * t**2 + 6.248496625763138e-05 * t**3
    )
    found = float(structure._points(torch.tensor(40.0)))
    assert found == pytest.approx(10 * (expected / 10) ** 0.6276336467831387, rel=1e-4)


def test_differences_that_are_added_and_lost_are_told_apart() -> None:
    flat, textured = torch.zeros(1, 1, 32, 32), checks(1, 0.25)[:, :1, :32, :32]
    added, lost = structure._maps(textured, flat), structure._maps(flat, textured)
    assert float(added[:, :, 1].mean()) == pytest.approx(0.25, abs=0.01)
    assert float(lost[:, :, 2].mean()) == pytest.approx(1 - 1 / 1.25, abs=0.01)
    assert float(added[:, :, 2].max()) == float(lost[:, :, 1].max()) == 0


def test_maps_and_their_norms_in_numbers() -> None:
    flat = torch.zeros(1, 1, 16, 16)
    unlike = structure._maps(flat, flat + 0.5)[0, 0, 0]
    assert float(unlike.mean()) == pytest.approx(0.5**2, rel=1e-3)
    maps = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 1, 2, 2)
    found = structure._norms(maps)[0, 0].tolist()
    assert found == pytest.approx([6 / 4, ((1 + 16 + 81) / 4) ** 0.25], rel=1e-5)
    odd = torch.tensor([[1.0, 3.0, 5.0]])[None, None]
    assert structure._halved(odd)[0, 0].tolist() == [[2.0, 5.0]]


def test_each_picture_counts_alone() -> None:
    x = tensor(photo())[..., :64, :64]
    pair = torch.cat([x * 0.9, x * 0.5])
    alone = [float(structural_error(one[None], x)) for one in pair]
    assert structural_error(pair, torch.cat([x, x])).tolist() == pytest.approx(alone, rel=1e-4)
    assert alone[0] < alone[1]
