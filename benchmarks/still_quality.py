"""libavif's quality and the score that drawn screens get: what `trellic.pipeline.alone` follows.

::

    python -m trellic_training.data.screens DIR --count 320 --fonts FONTS --photos PHOTOS --seed 11
    python -m benchmarks.still_quality --images DIR --limit 40

Codes each picture in AV1 as patches alone are, and prints the mean SSIMULACRA 2 of each quality.
"""

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from benchmarks._machine import describe
from benchmarks.measure import find_images, read_pixels
from trellic.images.av1 import pack_still, unpack_still
from trellic.scored import ssimulacra2

RESULT: Final = Path(__file__).resolve().parent / "results" / "still-quality.json"
QUALITIES: Final = (4, 10, 16, 24, 32, 40, 50, 60, 72, 85, 94)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    paths = find_images(asked.images)[: asked.limit]
    rows = [points(path) for path in track(paths, "measuring")]
    size, score = np.mean(rows, axis=0).T
    found = [
        {"quality": quality, "bytes": round(float(n)), "ssimulacra2": round(float(s), 2)}
        for quality, n, s in zip(QUALITIES, size, score, strict=True)
    ]
    result = {"machine": describe(), "pictures": len(paths), "qualities": found}
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    for row in found:
        print("{quality:>3}  {bytes:>7} bytes  SSIMULACRA 2 {ssimulacra2:.1f}".format(**row))


def points(path: Path) -> list[tuple[int, float]]:
    """Bytes and score of a picture at each quality."""
    pixels, found = read_pixels(path), []
    for quality in QUALITIES:
        data = pack_still(pixels, quality)
        shown = unpack_still(data, *pixels.shape[:2], grey=False)
        found.append((len(data), ssimulacra2(pixels, shown)))
    return found


if __name__ == "__main__":
    main()
