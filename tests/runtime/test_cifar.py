"""The shipped model for small pictures: strides of 4 and 8, and a family of decoders."""

import json

import numpy as np
import pytest
from PIL import Image

from trellic import bitstream
from trellic.codec import Codec

LABELS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(scope="module")
def cifar() -> Codec:
    return Codec.load("cifar", device="cpu", threads=1)


def ship(height: int = 32, width: int = 32) -> np.ndarray:
    """A dark hull on blue water under a bright sky, more or less."""
    y, x = np.mgrid[:height, :width] / 32
    picture = np.empty((height, width, 3))
    picture[:] = np.where((y < 0.6)[..., None], (170, 200, 235), (40, 80, 120))
    picture[(y > 0.45) & (y < 0.7) & (0.15 + 0.3 * (y - 0.45) < x) & (x < 0.85)] = (60, 40, 40)
    noise = np.random.default_rng(0).normal(0, 3, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def test_the_layout(cifar):
    layout = cifar.bundle.manifest.layout
    assert (layout.stride, layout.cell, len(layout.steps)) == (4, 2, 2)
    assert layout.plane(32, 32).latents == (8, 8)
    assert set(cifar.decoders) >= {"quality", "class"}
    assert cifar.decoders["class"].labels == LABELS


@pytest.mark.parametrize("trellis", [0, 8])
def test_quality_buys_bits_and_decibels(cifar, trellis):
    files = [cifar.encode(ship(), quality=q, trellis=trellis) for q in (5, 40, 75, 100)]
    sizes = [len(data) for data in files]
    distances = [psnr(ship(), cifar.decode(data)) for data in files]
    assert sizes == sorted(sizes)
    assert distances == sorted(distances)
    assert sizes[0] < 90
    assert distances[-1] > 30


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (40, 9), (90, 130)])
def test_other_sizes(cifar, size):
    data = cifar.encode(ship(*size), quality=80)
    assert cifar.decode(data).shape == (*size, 3)
    assert psnr(ship(*size), cifar.decode(data)) > 25
    assert bitstream.read_header(data).slices == 1


def test_labels_come_without_a_picture(cifar):
    """A ship is seen as one of the two things that are found on blue, at a file of 160 bytes."""
    data = cifar.encode(ship(), quality=60)
    found = cifar.classify(data, decoder="class")
    assert sorted(label for label, _ in found) == LABELS
    assert sum(chance for _, chance in found) == pytest.approx(1, abs=1e-5)
    assert found[0][0] in ("ship", "airplane")


def test_the_command_line(tmp_path, trellic):
    source, stream, back = (tmp_path / name for name in ("x.png", "x.tlc", "y.png"))
    Image.fromarray(ship()).save(source)
    assert trellic("encode", source, stream, "--model", "cifar", "--device", "cpu").code == 0
    assert trellic("decode", stream, back, "--device", "cpu").code == 0  # finds its model
    with Image.open(back) as picture:
        assert picture.size == (32, 32)
    seen = json.loads(trellic("decode", stream, "--decoder", "class", "--json").out)
    assert seen["labels"][0]["label"] in LABELS
    listed = [json.loads(line) for line in trellic("models", "--json").out.splitlines()]
    assert "cifar" in {model["name"] for model in listed}
