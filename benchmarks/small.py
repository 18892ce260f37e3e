"""How close small pictures come to the photo at the same size, by decoder.

::

    python -m benchmarks.small --images KODAK [--quality 60,90] [--out FILE]

A decoder's picture and the photo are both scaled down to 1/2, 1/4, 1/8 and 1/16, by means over
squares. Writes ``benchmarks/results/small.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._machine import REPOSITORY, describe
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import Pixels, psnr
from trellic import Codec
from trellic.scored import ssimulacra2

RESULT = REPOSITORY / "benchmarks" / "results" / "small.json"
SIZES = (2, 4, 8, 16)
MEASURES = ("psnr", "ssimulacra2")
Scores = dict[str, dict[int, list[float]]]  # by decoder and size


def reduced(pixels: Pixels, by: int) -> Pixels:
    """Return means over squares of ``by`` pixels a side."""
    return np.asarray(Image.fromarray(pixels).reduce(by))


def scores(codec: Codec, pixels: Pixels, quality: float) -> Scores:
    """Return PSNR and SSIMULACRA 2 of one photo, by decoder and size."""
    data = codec.encode(pixels, quality=quality)
    found: Scores = {}
    for name, info in codec.decoders.items():
        shown = codec.decode(data, decoder=name)
        found[name] = {}
        for size in SIZES:
            if info.scale <= size:
                small, expected = reduced(shown, size // info.scale), reduced(pixels, size)
                found[name][size] = [psnr(expected, small), ssimulacra2(expected, small)]
    return found


def means(photos: list[Scores]) -> dict[str, dict[int, dict[str, float]]]:
    """Return means over photos, by decoder, size and measure."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, sizes in photos[0].items():
        found[name] = {}
        for size in sizes:
            mean = np.mean([photo[name][size] for photo in photos], 0).round(3).tolist()
            found[name][size] = dict(zip(MEASURES, mean, strict=True))
    return found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Small pictures by decoder.")
    parser.add_argument("--images", type=Path, default=REPOSITORY / "samples")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--quality", default="60,90")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    codec, images = Codec.load(options.model, "cpu", 1), find_images(options.images)
    qualities = [float(text) for text in options.quality.split(",")]
    every: dict[str, list[Scores]] = {f"{quality:g}": [] for quality in qualities}
    for path in images:
        pixels = read_pixels(path)
        rows, columns = (side // max(SIZES) * max(SIZES) for side in pixels.shape[:2])
        pixels = np.ascontiguousarray(pixels[:rows, :columns])
        for quality in qualities:
            every[f"{quality:g}"].append(scores(codec, pixels, quality))
        print(path.name, flush=True)
    record = {
        "machine": describe(("numpy", "onnxruntime", "pillow")),
        "stream_id": codec.bundle.manifest.stream_id,
        "photos": [path.name for path in images],
        "means": {quality: means(photos) for quality, photos in every.items()},
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
