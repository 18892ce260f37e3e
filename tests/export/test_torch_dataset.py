"""The example of a data set: batches of files become tensors."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from trellic.errors import BadImage

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "torch_dataset.py"


def test_files_become_tensors(tiny, tmp_path):
    spec = importlib.util.spec_from_file_location("torch_dataset", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    pictures = [np.full((20 + i, 30, 3), 40 * i, np.uint8) for i in range(3)]
    for i, data in enumerate(tiny.encode_batch(pictures, quality=50, trellis=0)):
        (tmp_path / f"{i}.tlc").write_bytes(data)
    loader = DataLoader(example.TlcFiles(tmp_path), batch_size=2, collate_fn=list)
    found = [t for streams in loader for t in example.decode_to(tiny, streams)]
    assert [tuple(tensor.shape) for tensor in found] == [p.shape for p in pictures]
    assert abs(float(found[2].float().mean()) - 80) < 15


def test_tensors_on_the_cpu_are_encoded_as_arrays_are(tiny):
    pixels = np.arange(40 * 56 * 3, dtype=np.uint8).reshape(40, 56, 3)
    data = tiny.encode(torch.from_numpy(pixels), quality=50)
    assert data == tiny.encode(pixels, quality=50)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.zeros(3, 40, 56, dtype=torch.uint8), "move the channels last"),
        (torch.zeros(40, 56, 3), "scale the values to 0..255"),
        (torch.zeros(40, 56, 3, requires_grad=True), r"tensor\.detach\(\)\.cpu\(\)"),
        (torch.zeros(40, 56, 3, dtype=torch.bfloat16), "dtype torch.uint8"),
    ],
    ids=["channels first", "floats", "gradient", "bfloat16"],
)
def test_other_tensors_are_refused_with_what_to_do(tiny, tensor, said):
    with pytest.raises(BadImage, match=said):
        tiny.encode(tensor, quality=50)
