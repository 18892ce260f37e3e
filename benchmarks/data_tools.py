"""How fast a DataLoader is fed: Trellic beside JPEG and AVIF of equal score, 256x256 from photos.

::

    python -m benchmarks.data_tools [--images DIR] [--workers 2] [--count 48]

Every photo is encoded by Trellic at quality 60, and by JPEG and AVIF at the lowest quality that
reaches its SSIMULACRA 2. `torch.utils.data.DataLoader` with two worker processes then goes over
copies of the files, once by cutting 256x256 out and once by scaling to it, formats in turns, and
the best of the rounds counts. Processor time of a picture is measured in one process, since other
programs disturb it less. Scaled views are also compared with those of the photo, which is scaled as
each format's are: by means over squares for Trellic's decoders of small pictures, by Pillow for
others. Writes ``benchmarks/results/data-tools.json``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks._machine import REPOSITORY, describe
from benchmarks.measure import find_images
from trellic import Codec
from trellic.scored import ssimulacra2
from trellic.support.cores import usable_cores
from trellic_data.torch import TlcDataset, collate
from trellic_data.views import View, choose, resized

RESULT = REPOSITORY / "benchmarks" / "results" / "data-tools.json"
SIDE = 256
ROUNDS = 3
RIVALS = {"jpeg": {"subsampling": "4:2:0"}, "avif": {"speed": 6}}


class PillowFiles(Dataset[torch.Tensor]):
    """Files that Pillow reads, as `TlcDataset` shows them."""

    def __init__(self, folder: Path, view: View) -> None:
        self.paths, self.view = sorted(folder.iterdir()), view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> torch.Tensor:
        image = Image.open(self.paths[number])
        down, across = torch.rand(2).tolist()
        x, y, width, height = self.view.region(image.height, image.width, (down, across))
        if self.view.how == "scale":  # JPEG decodes to a smaller size by itself
            full = image.width
            image.draft("RGB", (SIDE * image.width // width, SIDE * image.height // height))
            shrink = full / image.width
            x, y, width, height = (round(v / shrink) for v in (x, y, width, height))
        part = np.asarray(image.convert("RGB").crop((x, y, x + width, y + height)))
        pixels = resized(part, self.view.height, self.view.width)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def coded(pixels: np.ndarray, name: str, quality: int) -> bytes:
    """Return a photo as a file of a rival."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, quality=quality, **RIVALS[name])
    return file.getvalue()


def lowest(encode: Callable[[int], bytes], pixels: np.ndarray, score: float) -> bytes:
    """Return the file of the lowest quality that reaches a score; the best if none does."""
    low, high = 20, 97
    while low < high:
        middle = (low + high) // 2
        shown = np.asarray(Image.open(io.BytesIO(encode(middle))).convert("RGB"))
        low, high = (low, middle) if ssimulacra2(pixels, shown) >= score else (middle + 1, high)
    return encode(high)


def write_all(images: list[Path], root: Path, count: int) -> dict[str, int]:
    """Write ``count`` files of each format; return the bytes of one of each photo."""
    codec, sizes = Codec.load("photo", "cpu", 1), dict.fromkeys(("tlc", *RIVALS), 0)
    for number, path in enumerate(images):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        files = {"tlc": codec.encode(pixels, quality=60)}
        score = ssimulacra2(pixels, codec.decode(files["tlc"]))
        for name in RIVALS:
            files[name] = lowest(partial(coded, pixels, name), pixels, score)
        for name, data in files.items():
            sizes[name] += len(data)
            (root / name).mkdir(exist_ok=True)
            for copy in range(number, count, len(images)):
                (root / name / f"{copy:04}.{name}").write_bytes(data)
        print(path.name, f"score {score:.1f}", {name: len(data) for name, data in files.items()})
    return sizes


def rate(dataset: Dataset[torch.Tensor], workers: int) -> float:
    """Pictures a second of one pass, after the first batch: workers have started then."""
    loader = DataLoader(dataset, batch_size=8, num_workers=workers, collate_fn=collate)
    batches = iter(loader)
    next(batches)
    start, seen = time.monotonic(), 0
    for batch in batches:
        seen += len(batch)
    return seen / (time.monotonic() - start)


def processor_ms(dataset: Dataset[torch.Tensor], count: int) -> float:
    """Processor time of a picture in this process; other programs disturb it less than seconds."""
    times = []
    for number in range(1 + count):  # the first one loads what is needed
        start = time.process_time()
        dataset[number % count]
        times.append(time.process_time() - start)
    return round(1e3 * statistics.median(times[1:]), 2)


def view_scores(images: list[Path], root: Path, names: Iterable[str]) -> dict[str, float]:
    """Return the mean SSIMULACRA 2 of scaled views of each format."""
    view, codec = View(SIDE, SIDE, "scale"), Codec.load("photo", "cpu", 1)
    scores: dict[str, list[float]] = {name: [] for name in names}
    for number, path in enumerate(images):
        image = Image.open(path).convert("RGB")
        x, y, width, height = view.region(image.height, image.width, (0.5, 0.5))
        seen = image.crop((x, y, x + width, y + height))
        decoder = choose(codec, min(width, height) / SIDE)
        for name, found in scores.items():
            by = codec.decoders[decoder].scale if name == "tlc" else 1
            expected = resized(np.asarray(seen.reduce(by)), SIDE, SIDE)
            shown = dataset_of(root / name, view)[number]
            found.append(ssimulacra2(expected, shown.numpy().transpose(1, 2, 0)))
    return {name: round(statistics.mean(found), 2) for name, found in scores.items()}


def dataset_of(folder: Path, view: View) -> Dataset[torch.Tensor]:
    """Return the files of a folder, which is called as their format is."""
    return TlcDataset(folder, view) if folder.name == "tlc" else PillowFiles(folder, view)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="A DataLoader on three formats.")
    parser.add_argument("--images", type=Path, default=REPOSITORY / "samples")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)  # of other programs
    images = find_images(options.images)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sizes = write_all(images, root, options.count)
        scores = view_scores(images, root, sizes)
        rates: dict[str, dict[str, float]] = {"random": {}, "scale": {}}
        spent: dict[str, dict[str, float]] = {"random": {}, "scale": {}}
        for turn in range(ROUNDS):
            for how, found in rates.items():
                view = View(SIDE, SIDE, how)  # type: ignore[arg-type]
                for name in sizes:
                    made = dataset_of(root / name, view)
                    found[name] = max(found.get(name, 0), round(rate(made, options.workers), 2))
                    if turn == 0:
                        spent[how][name] = processor_ms(made, min(options.count, 12))
    record = {
        "machine": describe(("numpy", "numba", "onnxruntime", "torch", "pillow")),
        "cores": usable_cores(),
        "load": load,
        "workers": options.workers,
        "photos": [path.name for path in images],
        "bytes": sizes,
        "view_ssimulacra2": scores,
        "pictures_per_s": rates,
        "processor_ms": spent,
    }
    print(json.dumps(rates), json.dumps(spent))
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
