"""Adapters on pictures that are no photos: some to adapt to, the rest to test on, random splits.

::

    python -m benchmarks.domains --images DIR [--images DIR ...] [--splits 5] [--share 0.5] \\
        [--minutes 10] [--threads 1]
    python -m benchmarks.domains --images DIR --adapter FILE.tla --name "screens, by drawn ones"
    python -m benchmarks.domains --images DIR --whole [--splits 1] [--minutes 5]

Each folder is a kind of pictures. In each split a share of them, drawn at random, makes an adapter
as ``trellic adapt`` does; the others are coded with it and without it at several qualities. The
table has BD-rates against the model without the adapter, means over the tested pictures of all
splits, and their 95 % intervals. Splits that are in the JSON file already are kept, so an
interrupted run goes on. With ``--adapter`` nothing is trained: all pictures of the folder test an
adapter that other pictures made. With ``--whole`` each split makes an adapter, and beside it trains
all weights of the decoders on the same pictures for as long (`benchmarks.whole`).
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks import whole
from benchmarks._machine import describe
from benchmarks.adapter_tables import drawn, paired
from benchmarks.codecs import Pixels
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from trellic.codec import Codec
from trellic.constants import DEFAULT_MODEL
from trellic.model import adapters
from trellic.model.bundle import Bundle, find
from trellic.scored import ssimulacra2
from trellic_export.adapters.pictures import read
from trellic_export.adapters.settings import Settings
from trellic_export.adapters.training import Trainer
from trellic_training.cli.train import use_threads

RESULT = Path(__file__).resolve().parent / "results" / "domains.json"
QUALITIES = (20, 35, 50, 65, 80)
MEASURES: dict[str, Callable[[Pixels, Pixels], float]] = {"ssimulacra2": ssimulacra2, "psnr": psnr}
Row = dict[str, Any]


def parted(paths: Sequence[Path], share: float, split: int) -> tuple[list[Path], list[Path]]:
    """Draw the pictures to adapt to; the others are to test on."""
    order = np.random.default_rng(split).permutation(len(paths))
    count = round(share * len(paths))
    return [paths[i] for i in order[:count]], [paths[i] for i in order[count:]]


def points(codec: Codec, pixels: Pixels) -> list[Row]:
    """Code a picture at all qualities."""
    rows = []
    for quality in QUALITIES:
        data = codec.encode(pixels, quality=quality)
        shown = codec.decode(data)
        scores = {name: measure(pixels, shown) for name, measure in MEASURES.items()}
        rows.append({"quality": quality, "bytes": len(data)} | scores)
    return rows


def tested(plain: Codec, adapted: Codec, path: Path) -> Row:
    """Measure one picture with the adapter and without it."""
    pixels = read_pixels(path)
    own = {"plain": points(plain, pixels), "adapted": points(adapted, pixels)}
    return {"name": path.name, **own}


def measure(bundle: Bundle, paths: Sequence[Path], split: int, asked: argparse.Namespace) -> Row:
    """Make the adapter of one split and test it."""
    own, others = parted(paths, asked.share, split)
    settings = Settings(minutes=asked.minutes, seed=split + 1)
    pictures, start = read(own, settings.crop, seed=split + 1), time.perf_counter()
    trainer = Trainer(bundle, settings)
    steps = trainer.train(pictures)
    seconds = time.perf_counter() - start
    adapter = trainer.adapter("benchmark")
    codecs = Codec(bundle.path, "cpu", 1), Codec(bundle.path, "cpu", 1, adapter=adapter)
    return {
        "split": split,
        "adapted_to": len(own),
        "trained_on": len(pictures.training),
        "minutes": asked.minutes,
        "steps": steps,
        "training_seconds": round(seconds, 1),
        "parameters": adapter.parameters,
        "bytes": len(adapter.to_bytes()),
        "pictures": [tested(*codecs, path) for path in track(others, "testing")],
    }


def measure_pair(
    bundle: Bundle, paths: Sequence[Path], split: int, asked: argparse.Namespace
) -> Row:
    """Make the adapter of a split, train all weights on its pictures, and test both."""
    own, others = parted(paths, asked.share, split)
    settings = Settings(minutes=asked.minutes, seed=split + 1)
    pictures = read(own, settings.crop, seed=split + 1)
    with TemporaryDirectory() as folder:
        best, tried = whole.best(bundle, pictures, settings, Path(folder))
        codecs = Codec(bundle.path, "cpu", 1), Codec(best.path, "cpu", 1)
        tests = [tested(*codecs, path) for path in track(others, "testing")]
    row = {**best.facts, "tried": tried, "pictures": tests}
    return {"split": split, "adapter": measure(bundle, paths, split, asked), "whole": row}


def measure_made(bundle: Bundle, asked: argparse.Namespace) -> Row:
    """Test an adapter that was made before, on all pictures of a folder."""
    adapter = adapters.read(asked.adapter)
    codecs = Codec(bundle.path, "cpu", 1), Codec(bundle.path, "cpu", 1, adapter=adapter)
    paths = [path for folder in asked.images for path in find_images(folder)]
    return {
        "split": 0,
        "parameters": adapter.parameters,
        "bytes": len(adapter.to_bytes()),
        "pictures": [tested(*codecs, path) for path in track(paths, "testing")],
    }


def run(asked: argparse.Namespace) -> None:
    """Measure what is missing, and write it split by split."""
    bundle, out = Bundle(find(DEFAULT_MODEL)), asked.out
    result: Row = json.loads(out.read_text()) if out.exists() else {"sets": {}}
    use_threads(asked.threads)
    if asked.adapter is not None:
        result["sets"][asked.name] = [measure_made(bundle, asked)]
        result["machine"] = describe()
        out.write_text(json.dumps(result, indent=1) + "\n")
    sets = result.setdefault("pairs", {}) if asked.whole else result["sets"]
    one = measure_pair if asked.whole else measure
    for folder in asked.images if asked.adapter is None else []:
        rows = sets.setdefault(folder.name, [])
        for split in range(asked.splits):
            if any(row["split"] == split for row in rows):
                continue
            rows.append(one(bundle, find_images(folder), split, asked))
            result |= {
                "pairs_machine" if asked.whole else "machine": describe(("numpy", "torch")),
                "model": bundle.manifest.stream_id,
                "qualities": QUALITIES,
            }
            out.write_text(json.dumps(result, indent=1) + "\n")
    print(paired(result) if asked.whole else drawn(result))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--adapter", type=Path, help="test this one, and make none")
    parser.add_argument("--name", default="adapted elsewhere", help="of the row of --adapter")
    parser.add_argument("--whole", action="store_true", help="train all weights too, as a pair")
    parser.add_argument("--out", type=Path, default=RESULT)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
