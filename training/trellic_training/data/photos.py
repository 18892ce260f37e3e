"""Training photos: packed once into flat uint8 shards, cropped at random from memory.

A folder of photos (any format that the encoder reads, one sub-folder for each source) becomes
``photos.bin`` (all pixels, one after the other) and ``photos.json`` (where each photo lies). A crop
is then a slice of a memory map, which leaves the cores free for the network.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
import torch

from trellic.constants import COLOURS
from trellic.errors import BadParameter
from trellic.support import parts
from trellic.support.files import write_atomically
from trellic_training.bars import shown
from trellic_training.data.bands import array_of
from trellic_training.data.pictures import Pixels, files_under, rgb_of, say_left_out

MIN_SIDE = 192  # pixels of a photo to train on
VALIDATION = 8  # photos at least; a fifth of a pack that has fewer than five times as many


@dataclass(frozen=True)
class Photo:
    """Where one photo lies in the packed file."""

    source: str
    name: str
    offset: int
    height: int
    width: int
    validation: bool
    bands: int = COLOURS

    @property
    def size(self) -> int:
        """Number of its samples, which are bytes."""
        return self.height * self.width * self.bands


def is_validation(name: str, share: float = 0.04) -> bool:
    """Whether a photo belongs to the validation split, which its name alone decides."""
    return _digest(name) < share * 2**32


def _digest(name: str) -> int:
    data = name.encode("utf-8", "surrogatepass")  # a name of a file may be no UTF-8
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def pack(folder: Path, out: Path, *, min_side: int = MIN_SIDE, bands: int = COLOURS) -> int:
    """Pack all photos under ``folder`` into ``out``; returns how many.

    Pictures of other bands than red, green and blue are NumPy files (`array_of`). What is left out
    is said on stderr.

    `is_validation` chooses the photos of the validation split. If it chooses too few, those whose
    names have the next digests are added.

    Raises
    ------
    BadParameter
        When no readable photo of at least ``min_side`` pixels a side is found.
    OSError
        When the pack cannot be written, such as on a full disk.
    """
    if not folder.is_dir():
        raise BadParameter(f"no folder {str(folder)!r}", expected="a folder of photos")
    out.mkdir(parents=True, exist_ok=True)
    paths = files_under(folder)
    target = out / "photos.bin"
    parts.clear(out)
    try:
        with parts.part_in(out, 0o666) as part:
            with open(os.dup(part.descriptor), "wb") as file:
                photos = _pack(folder, paths, file, min_side, bands)
            part.move_to(target)
    except OSError as error:  # name the file that the user knows
        raise OSError(error.errno, error.strerror, str(target)) from error
    entries = json.dumps([vars(p) for p in _split(photos)])
    write_atomically(out / "photos.json", entries.encode())
    return len(photos)


def _pack(
    folder: Path, paths: Sequence[Path], file: IO[bytes], min_side: int, bands: int
) -> list[Photo]:
    """Write the pixels of all photos to a file; returns where each lies."""
    photos: list[Photo] = []
    unread, small, offset = [], 0, 0
    for path in shown(paths, "packing photos"):
        pixels = rgb_of(path) if bands == COLOURS else array_of(path, bands)
        if pixels is None:
            unread.append(path)
            continue
        if min(pixels.shape[:2]) < min_side:
            small += 1
            continue
        height, width = pixels.shape[:2]
        source = path.relative_to(folder).parts[0] if path.parent != folder else "."
        photos.append(Photo(source, path.name, offset, height, width, False, bands))
        file.write(pixels.tobytes())
        offset += pixels.size
    say_left_out(unread if bands == COLOURS else (), small, min_side)
    if not photos:
        kind = "photo" if bands == COLOURS else f"NumPy file of {bands} bands"
        raise BadParameter(f"no {kind} of at least {min_side} px a side under {folder}")
    return photos


def _split(photos: list[Photo]) -> list[Photo]:
    """Choose the validation photos."""
    least = min(VALIDATION, len(photos) // 5)
    ranked = sorted(range(len(photos)), key=lambda i: _digest(photos[i].name))
    first = set(ranked[:least])
    return [
        replace(photo, validation=i in first or is_validation(photo.name))
        for i, photo in enumerate(photos)
    ]


class PackedPhotos:
    """Random crops, and the validation photos, of a packed folder.

    Sources are drawn in proportion to the square root of their size, because large sources are
    often narrow.

    Raises
    ------
    BadParameter
        When all photos belong to the validation split, or `pack` did not write the folder.
    """

    def __init__(self, folder: Path) -> None:
        photos, self.pixels = _read(folder)
        self.training = [p for p in photos if not p.validation]
        self.validation = [p for p in photos if p.validation]
        if not self.training:
            raise BadParameter(
                f"{folder} has no photo to train on",
                expected="at least one outside the validation split",
            )
        self.bands = photos[0].bands
        counts: dict[str, int] = {}
        for photo in self.training:
            counts[photo.source] = counts.get(photo.source, 0) + 1
        weights = np.array([counts[p.source] ** -0.5 for p in self.training])
        self.weights = weights / weights.sum()

    def photo(self, photo: Photo) -> Pixels:
        """Return one whole photo, uint8 (height, width, bands)."""
        samples = self.pixels[photo.offset : photo.offset + photo.size]
        return samples.reshape(photo.height, photo.width, photo.bands)

    def check_bands(self, bands: int) -> None:
        """Check that these are photos for a model of so many bands.

        Raises
        ------
        BadParameter
            When they have others.
        """
        if self.bands != bands:
            raise BadParameter(
                f"packed photos of {self.bands} bands",
                expected=f"{bands}, which the model has",
                remedy="name the folder of the pictures, and another folder with --out",
            )

    def crops(self, rng: np.random.Generator, batch: int, size: int) -> torch.Tensor:
        """Return ``batch`` random crops, flipped and transposed at random.

        Returns
        -------
        uint8 tensor (batch, size, size, bands). Photos smaller than ``size`` are mirrored at the
        edge.
        """
        out = np.empty((batch, size, size, self.bands), np.uint8)
        for i, index in enumerate(rng.choice(len(self.training), batch, p=self.weights)):
            out[i] = _crop(self.photo(self.training[index]), rng, size)
        return torch.from_numpy(out)

    @property
    def labels(self) -> list[str]:
        """Names of the sources: the labels of a labelled set, which has a folder for each."""
        return sorted({photo.source for photo in self.training})

    def check_labelled(self, multiple: int) -> None:
        """Check that this is a labelled set whose pictures can be coded as they are.

        Parameters
        ----------
        multiple : their sides must be multiples of this many pixels

        Raises
        ------
        BadParameter
            When there is only one label, or sizes differ or are not such multiples.
        """
        sizes = sorted({(p.width, p.height) for p in self.training + self.validation})
        if len(self.labels) < 2 or len(sizes) > 1 or any(s % multiple for s in sizes[0]):
            shown = ", ".join(f"{width}x{height}" for width, height in sizes[:3])
            raise BadParameter(
                f"photos of {len(self.labels)} labels (folders), of {len(sizes)} sizes: {shown}",
                expected=f"two labels or more, and one size, a multiple of {multiple} pixels",
            )

    def labelled(
        self, rng: np.random.Generator, batch: int, size: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return random crops, shifted and flipped but never turned, and their labels.

        Returns
        -------
        uint8 tensor (batch, size, size, 3), and int64 (batch,), places in `labels`. Photos are
        mirrored at the edge by an eighth of ``size``, so that photos of that size shift too.
        """
        places = {name: i for i, name in enumerate(self.labels)}
        out = np.empty((batch, size, size, self.bands), np.uint8)
        chosen = [self.training[i] for i in rng.choice(len(self.training), batch, p=self.weights)]
        margin = size // 8
        for i, photo in enumerate(chosen):
            around = [(margin, margin), (margin, margin), (0, 0)]
            wider = np.pad(self.photo(photo), around, "symmetric")
            out[i] = _crop(wider, rng, size, turn=False)
        return torch.from_numpy(out), torch.tensor([places[photo.source] for photo in chosen])


def _read(folder: Path) -> tuple[list[Photo], Pixels]:
    """Read a packed folder, and check that every photo lies within the pixels."""
    try:
        photos = [Photo(**entry) for entry in json.loads((folder / "photos.json").read_text())]
        pixels: Pixels = np.memmap(folder / "photos.bin", np.uint8, "r")
        ends = [(p.offset, p.offset + p.size) for p in photos]
        if len({p.bands for p in photos}) != 1:
            raise ValueError("its photos have different bands")
        if any(not 0 <= first < last <= len(pixels) for first, last in ends):
            raise ValueError("photos.bin does not hold what photos.json names")
    except (OSError, TypeError, ValueError) as error:
        raise BadParameter(
            f"{folder} is not a folder of packed photos ({error})", remedy="pack the photos again"
        ) from error
    return photos, pixels


class DeviceCrops:
    """Random crops, cut on the device that holds all training photos: for GPUs.

    A GPU trains faster than a few cores can cut crops, and its memory holds the packed photos.

    Parameters
    ----------
    photos : photos to draw from; those smaller than a crop are never drawn
    device : the pixels are copied there once
    seed : of the generator on the device
    """

    def __init__(self, photos: PackedPhotos, device: torch.device, seed: int) -> None:
        self.pixels = torch.from_numpy(np.array(photos.pixels)).to(device).view(-1, photos.bands)
        self.fitting: dict[int, torch.Tensor] = {}  # cumulative weights, for each size of crops
        rows = [(p.offset // p.bands, p.height, p.width) for p in photos.training]
        self.place = torch.tensor(rows, device=device)
        self.weights = torch.from_numpy(photos.weights).to(device)
        self.generator = torch.Generator(device).manual_seed(seed)

    def crops(self, batch: int, size: int) -> torch.Tensor:
        """Return crops as `PackedPhotos.crops` does, uint8 (batch, size, size, 3), on the device.

        Raises
        ------
        BadParameter
            When no photo is as large as a crop.
        """
        if size not in self.fitting:
            self.fitting[size] = self._fitting(size)
        random = torch.rand(batch, device=self.place.device, generator=self.generator)
        drawn = torch.searchsorted(self.fitting[size], random.double(), right=True)
        offset, height, width = self.place[drawn].T[:, :, None, None]
        y, x = self._start(height - size + 1), self._start(width - size + 1)
        down, across = torch.meshgrid(*[torch.arange(size, device=y.device)] * 2, indexing="ij")
        turn, flip = (self._start(torch.full_like(y, 2)) == 1 for _ in range(2))
        row, column = torch.where(turn, across, down), torch.where(turn, down, across)
        column = torch.where(flip, size - 1 - column, column)
        return self.pixels[offset + (y + row) * width + x + column]

    def _fitting(self, size: int) -> torch.Tensor:
        """Cumulative weights of the photos that are large enough; the others add 0."""
        fits = (self.place[:, 1:] >= size).all(1)
        if not bool(fits.any()):
            raise BadParameter(f"no photo has {size} pixels a side", remedy="choose smaller crops")
        weights = (self.weights * fits).cumsum(0)
        return weights / weights[-1]

    def _start(self, count: torch.Tensor) -> torch.Tensor:
        """Return uniform integers under `count`, which is int64 and keeps its shape."""
        random = torch.rand(count.shape, device=count.device, generator=self.generator)
        return torch.minimum((random * count).long(), count - 1)


def _crop(pixels: Pixels, rng: np.random.Generator, size: int, *, turn: bool = True) -> Pixels:
    missing = [max(0, size - side) for side in pixels.shape[:2]]
    if any(missing):
        pixels = np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], "symmetric")
    y, x = (int(rng.integers(side - size + 1)) for side in pixels.shape[:2])
    crop = pixels[y : y + size, x : x + size]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if turn and rng.random() < 0.5:
        crop = crop.transpose(1, 0, 2)
    return crop
