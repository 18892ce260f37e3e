"""The example of a data set: batches of files become tensors."""

import importlib.util
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader

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
