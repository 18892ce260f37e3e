"""Examples in docstrings and in the README run as they stand, with the model that ships."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trellic

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "module", ["trellic", "trellic.codec", "trellic.entropy.tables", "trellic.images.sniff"]
)
def test_docstring_examples(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_readme_example(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    code = code.replace('Image.open("a.tlc").show()', 'Image.open("a.tlc").load()')
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        image = np.array(sample.convert("RGB"))
    Image.fromarray(image[:128, :192]).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    exec(code, {"image": image, "images": [image[:64, :64], image[64:200, :80]]})
    assert (tmp_path / "a.tlc").stat().st_size > 100


def test_the_shipped_model_is_worth_shipping():
    """Far below what it reaches, far above what a broken bundle gives."""
    with Image.open(ROOT / "samples" / "osprey.png") as sample:
        image = np.array(sample.convert("RGB"))
    data = trellic.encode(image, quality=60)
    error = np.square(trellic.decode(data).astype(float) - image).mean()
    assert 8 * len(data) / image[..., 0].size < 0.6
    assert 10 * np.log10(255**2 / error) > 32
