"""What a choice among several adapters could pay, for each picture and for each slice.

::

    python -m benchmarks.choice --train DIR --images DIR [--images DIR ...] --adapters DIR \\
        [--minutes 9] [--photos 12] [--pictures 3]

Training photos are clustered by the model's own latents. Each cluster makes an adapter; they are
kept in the folder of ``--adapters``, so that an interrupted run goes on. Photos of the validation
split, which trained nothing, and pictures of each folder are coded with each adapter and with
none. docs/experiments/choice.md has what came out.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks._machine import describe
from benchmarks.choice_clusters import features, k_means, paths_of, photos
from benchmarks.choice_measure import QUALITIES, SLICE, STATES, measured
from benchmarks.choice_tables import clusters, markdown, slices
from benchmarks.measure import find_images, read_pixels, spread
from trellic.codec import Codec
from trellic.constants import DEFAULT_MODEL
from trellic.geometry import BLOCK
from trellic.model import adapters
from trellic.model.bundle import Bundle, find
from trellic_export.adapters.check import middle
from trellic_export.adapters.pictures import Pictures
from trellic_export.adapters.settings import Settings
from trellic_export.adapters.training import Trainer
from trellic_training.cli.train import use_threads

RESULT = Path(__file__).resolve().parent / "results" / "choice.json"
CLUSTERS, SEED = 3, 1
MOST = 600  # training photos; their middles are held in memory
LARGEST = 512, 768  # rows and columns at most of what is tested: the middle of a picture
Row = dict[str, Any]


def train(bundle: Bundle, folder: Path, out: Path, minutes: float) -> list[Row]:
    """Make the adapters that are not in a folder yet; returns what is known of each cluster."""
    record = out / "clusters.json"
    rows: list[Row] = json.loads(record.read_text()) if record.exists() else []
    if len(rows) == CLUSTERS:
        return rows
    held = list(photos(spread(paths_of(folder, validation=False), MOST)))
    own = k_means(features(bundle, held), CLUSTERS, SEED)
    for i in range(len(rows), CLUSTERS):
        members = [photo for photo, cluster in zip(held, own, strict=True) if cluster == i]
        trainer = Trainer(bundle, Settings(minutes=minutes, seed=SEED + i))
        steps = trainer.train(Pictures([photo.pixels for photo in members], []))
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{i}.tla").write_bytes(trainer.adapter(f"cluster-{i + 1}").to_bytes())
        sources = Counter(photo.source for photo in members)
        row = {"photos": len(members), "sources": sources, "minutes": minutes, "steps": steps}
        rows.append(row)
        record.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def by_size(paths: Sequence[Path]) -> list[Path]:
    """Return pictures in order of their pixels, the largest first."""

    def pixels(path: Path) -> int:
        with Image.open(path) as picture:
            return -picture.width * picture.height

    return sorted(paths, key=pixels)


def in_turn(sets: Mapping[str, Sequence[Path]]) -> Iterator[tuple[str, Path]]:
    """Yield the sets' pictures so that each set is done to the same share at any time."""
    ranked = [
        ((number + 1) / len(paths), name, path)
        for name, paths in sets.items()
        for number, path in enumerate(paths)
    ]
    for _, name, path in sorted(ranked, key=lambda one: one[0]):
        yield name, path


def chosen(asked: argparse.Namespace) -> dict[str, list[Path]]:
    """Return the pictures to test on: the largest validation photos, and some of each folder."""
    own = by_size(paths_of(asked.train, validation=True))[: asked.photos]
    folders = {folder.name: spread(find_images(folder), asked.pictures) for folder in asked.images}
    return {"validation photos": own, **folders}


def run(asked: argparse.Namespace) -> None:
    """Train and measure what is missing, and write it picture by picture."""
    use_threads(asked.threads)
    bundle, out = Bundle(find(DEFAULT_MODEL)), asked.out
    rows = train(bundle, asked.train, asked.adapters, asked.minutes)
    made = [None, *(adapters.read(asked.adapters / f"{i}.tla") for i in range(CLUSTERS))]
    codecs = [Codec(bundle.path, "cpu", 1, adapter=adapter) for adapter in made]
    result: Row = json.loads(out.read_text()) if out.exists() else {"sets": {}}
    for name, path in in_turn(chosen(asked)):
        done = result["sets"].setdefault(name, [])
        if any(row["name"] == path.name for row in done):
            continue
        pixels = middle(read_pixels(path), *LARGEST)
        done.append({"name": path.name, **measured(codecs, pixels)})
        result |= {
            "machine": describe(("numpy", "torch")),
            "model": bundle.manifest.stream_id,
            "qualities": QUALITIES,
            "trellis": STATES,
            "slice_pixels": SLICE * BLOCK,
            "clusters": rows,
        }
        out.write_text(json.dumps(result, indent=1) + "\n")
    print(clusters(result), markdown(result), slices(result), sep="\n\n")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--images", type=Path, action="append", default=[])
    parser.add_argument("--adapters", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
