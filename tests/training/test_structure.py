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
from torch import Tensor
from torch.nn import functional

from trellic_training.losses import structure
from trellic_training.losses.structure import structural_error

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
