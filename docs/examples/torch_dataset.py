"""A data set of .tlc files that are decoded on the GPU, batch by batch, where training needs them.

Files are read by the loader's workers as bytes; the training process decodes a batch at once with
`decode_to`, and the pictures never leave the GPU. Without a GPU the same code decodes on the CPU.

    python docs/examples/torch_dataset.py FOLDER
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from trellic.codec import Codec


class TlcFiles(Dataset[bytes]):
    """The bytes of the .tlc files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.tlc"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> bytes:
        return self.paths[number].read_bytes()


def decode_to(codec: Codec, streams: Sequence[bytes]) -> list[torch.Tensor]:
    """Decode to uint8 tensors (H, W, 3) or (H, W), on the codec's device."""
    if codec.device == "cpu":
        return [torch.from_numpy(picture) for picture in codec.decode_batch(streams)]
    return [torch.as_tensor(p, device="cuda") for p in codec.decode_batch(streams, out="cuda")]


def main(folder: str) -> None:
    """Go through a folder once."""
    codec = Codec.load("photo", device="auto")
    loader = DataLoader(TlcFiles(Path(folder)), batch_size=16, collate_fn=list, num_workers=2)
    for streams in loader:
        for picture in decode_to(codec, streams):
            print(tuple(picture.shape), picture.device, picture.float().mean().item())


if __name__ == "__main__":
    main(sys.argv[1])
