"""Memory over many pictures: one codec encodes and decodes a thousand of many sizes.

::

    python -m benchmarks.soak [--count 1000] [--model photo] [--threads 1]

Pictures are crops of the shipped samples, of random sizes up to a megapixel, at random qualities
and trellis settings, grey and with alpha among them. After every hundred it notes the memory that
the process holds; a codec that leaks shows as a slope. The first hundred fill caches and arenas.
The result goes to ``benchmarks/results/soak.json``; exit code 1 if memory grows by more than 2 %
of what it is after the first hundred, or 16 MB.
"""

import argparse
import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks._machine import REPOSITORY, describe
from trellic import Codec

EVERY = 100  # pictures between looks at memory
SIDES = (1, 1024)  # pixels
RESULT = REPOSITORY / "benchmarks" / "results" / "soak.json"
TRELLIS = (0, 4, 8, 32)


def resident_mb() -> float:
    """Memory that the process holds now, in MB."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


def samples() -> list[np.ndarray]:
    """Return the shipped photos."""
    paths = sorted((REPOSITORY / "samples").glob("*.png"))
    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def crop(photos: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Return a random crop: mostly RGB, some grey, some with alpha."""
    photo = photos[rng.integers(len(photos))]
    height, width = (
        int(rng.integers(SIDES[0], min(SIDES[1], side) + 1)) for side in photo.shape[:2]
    )
    top, left = (
        int(rng.integers(0, a - b + 1)) for a, b in zip(photo.shape, (height, width), strict=False)
    )
    part = photo[top : top + height, left : left + width]
    kind = rng.integers(8)
    if kind == 0:
        return np.ascontiguousarray(part[..., 1])
    if kind == 1:
        return np.concatenate([part, part[..., :1]], 2)
    return np.ascontiguousarray(part)


def soak(codec: Codec, count: int, seed: int = 1) -> list[float]:
    """Code pictures; return the memory in MB after every `EVERY` of them."""
    rng, photos, seen = np.random.default_rng(seed), samples(), []
    for number in track(range(1, count + 1), "soaking"):
        picture = crop(photos, rng)
        data = codec.encode(
            picture, quality=float(rng.uniform(1, 100)), trellis=int(rng.choice(TRELLIS))
        )
        if codec.decode(data).shape != picture.shape:
            raise AssertionError(f"picture {number} came back with another shape")
        if number % EVERY == 0:
            gc.collect()
            seen.append(round(resident_mb(), 1))
    return seen


def main() -> int:
    """Run from the command line; 1 if memory grew."""
    parser = argparse.ArgumentParser(description="Memory over many pictures.")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    seen = soak(Codec(options.model, device="cpu", threads=options.threads), options.count)
    growth = seen[-1] - seen[0]
    print(f"MB after every {EVERY} pictures: {', '.join(map(str, seen))}; growth {growth:+.1f}")
    record = {
        "machine": describe(("numpy", "numba", "onnxruntime")),
        "model": options.model,
        "pictures": options.count,
        "threads": options.threads,
        "resident_mb": seen,
        "growth_mb": round(growth, 1),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(growth > max(16, 0.02 * seen[0]))


if __name__ == "__main__":
    sys.exit(main())
