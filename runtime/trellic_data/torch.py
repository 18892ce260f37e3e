"""A data set of ``.tlc`` files for `torch.utils.data`: uint8 batches (N, 3, H, W).

Workers may be forked or spawned: each loads a codec of its own, with one thread. ::

    dataset = TlcDataset("photos", View(256, 256, "random"))
    loader = DataLoader(dataset, batch_size=64, num_workers=2, collate_fn=collate, shuffle=True)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate

from trellic.constants import DEFAULT_MODEL
from trellic.errors import BadParameter
from trellic.pillow import SUFFIX
from trellic.support.files import read_bytes
from trellic_data.codecs import codec_for
from trellic_data.views import View, see


class TlcDataset(Dataset[Any]):
    """Pictures of a folder, or of a list of files.

    Parameters
    ----------
    files : folder, searched with all its folders, or paths
    view : the part or size of each picture to return; None for the whole picture. Random crops
        follow torch's seed
    decoder : None for the fastest that is enough, see `trellic_data.views.see`
    label : from a path to the label to return with its picture; None for pictures without labels
    model : loaded first; streams of other installed models are decoded too

    Raises
    ------
    BadParameter
        When there are no files.
    """

    def __init__(
        self,
        files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        view: View | None = None,
        *,
        decoder: str | None = None,
        label: Callable[[Path], Any] | None = None,
        model: str = DEFAULT_MODEL,
    ) -> None:
        if isinstance(files, (str, os.PathLike)):
            self.paths = sorted(Path(files).rglob(f"*{SUFFIX}"))
        else:
            self.paths = [Path(path) for path in files]
        if not self.paths:
            raise BadParameter(f"no {SUFFIX} files in {files!r}", expected="at least one")
        self._see = (view, decoder)
        self._label, self._model = label, model

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self.paths)

    def __getitem__(self, number: int) -> Any:
        """Return a picture as uint8 tensor (3, H, W), or the pair of it and its label.

        Raises
        ------
        TrellicError
            When the file cannot be decoded.
        OSError
            When it cannot be read.
        """
        path = self.paths[number]
        down, across = torch.rand(2).tolist()
        pixels = see(codec_for(self._model), read_bytes(path), *self._see, (down, across))
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return tensor if self._label is None else (tensor, self._label(path))


def collate(items: Sequence[Any]) -> Any:
    """Put items together: pictures of one size as one tensor (N, 3, H, W), others as a list.

    Parameters
    ----------
    items : of a `TlcDataset`
    """
    if isinstance(items[0], tuple):
        pictures, labels = zip(*items, strict=True)
        return collate(pictures), default_collate(list(labels))
    if len({item.shape for item in items}) > 1:
        return list(items)
    return torch.stack(list(items))
