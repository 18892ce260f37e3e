"""Files made smaller in the latents, beside decoding and encoding again.

::

    python -m benchmarks.transcode --images DIR [--count 4] [--model NAME|PATH.zip]

Each photo is encoded at a first quality. From that file come files of a second quality: by
`Codec.transcode`, and through pixels (decoded to 8 bits, encoded), there at three qualities. The
gain is what transcoding has over the line through these three at its own number of bytes. The
ceiling is what encoding the original has over that line: a way that loses nothing would reach it.
Times are the shortest of three, of both ways in turn, one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks._machine import describe
from benchmarks._rows import Report
from benchmarks.codecs import Pixels
from benchmarks.measure import find_images, read_pixels
from benchmarks.metrics import psnr
from benchmarks.speed_tables import table
from trellic.codec import Codec
from trellic.scored import ssimulacra2

RESULT = Path(__file__).resolve().parent / "results" / "transcode.json"
PAIRS = ((90, 60), (75, 50), (75, 40))
AROUND = (-6, 0, 6)  # qualities of the line, beside the second one
REPEAT = 3
MEASURES: dict[str, Callable[[Pixels, Pixels], float]] = {"psnr": psnr, "ssimulacra2": ssimulacra2}
Row = dict[str, Any]


def above(line: list[tuple[int, float]], point: tuple[int, float]) -> float:
    """Return how far a point (bytes, score) lies above a line over the logarithm of bytes."""
    x, y = np.array(line).T
    slope, start = np.polyfit(np.log(x), y, 1)
    return float(point[1] - (slope * np.log(point[0]) + start))


def measure(codec: Codec, pixels: Pixels, first: int, second: int) -> Row:
    """Transcode one photo from one quality to another, both ways."""
    data = codec.encode(pixels, quality=first)
    times: dict[str, list[float]] = {"latents": [], "pixels": []}
    for _ in range(REPEAT):
        start = time.perf_counter()
        small = codec.transcode(data, quality=second)
        middle = time.perf_counter()
        again = codec.decode(data)
        codec.encode(again, quality=second)
        times["latents"].append(middle - start)
        times["pixels"].append(time.perf_counter() - middle)
    row: Row = {"from": first, "to": second, "bytes_before": len(data), "bytes": len(small)}
    row |= {f"seconds_{way}": round(min(taken), 4) for way, taken in times.items()}
    lines = {
        way: [codec.encode(source, quality=second + step) for step in AROUND]
        for way, source in (("pixels", again), ("original", pixels))
    }
    row |= {f"bytes_{way}": len(files[1]) for way, files in lines.items()}
    for name, score in MEASURES.items():
        own = score(pixels, codec.decode(small))
        drawn = {
            way: [(len(file), score(pixels, codec.decode(file))) for file in files]
            for way, files in lines.items()
        }
        row[name] = round(own, 3)
        row |= {f"{name}_{way}": round(line[1][1], 3) for way, line in drawn.items()}
        row[f"{name}_gain"] = round(above(drawn["pixels"], (len(small), own)), 3)
        row[f"{name}_ceiling"] = round(above(drawn["pixels"], drawn["original"][1]), 3)
    return row


def markdown(run: Row) -> str:
    """Return a row of means for each pair of qualities, as docs/saving-again.md shows it."""
    head = ["qualities", "bytes", "through pixels", "PSNR gain", "its ceiling"]
    head += ["SSIMULACRA 2 gain", "its ceiling", "times as fast"]
    body = []
    for first, second in PAIRS:
        rows = [r for r in run["rows"] if (r["from"], r["to"]) == (first, second)]
        mean = {k: statistics.fmean(r[k] for r in rows) for k in rows[0] if k != "photo"}
        faster = statistics.fmean(r["seconds_pixels"] / r["seconds_latents"] for r in rows)
        body.append(
            [f"{first} to {second}", f"{mean['bytes']:.0f}", f"{mean['bytes_pixels']:.0f}"]
            + [f"{mean[f'psnr_{what}']:+.2f} dB" for what in ("gain", "ceiling")]
            + [f"{mean[f'ssimulacra2_{what}']:+.2f}" for what in ("gain", "ceiling")]
            + [f"{faster:.1f}"]
        )
    return table(head, body)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transcode", description=__doc__)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4, help="photos to use, by name")
    parser.add_argument("--model", default="photo")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    codec = Codec.load(options.model, device="cpu", threads=1)
    codec.warm_up(trellis=32, decoder="quality")
    machine = describe(("numpy", "numba", "onnxruntime", "ssimulacra2"))
    report = Report(options.out, {"machine": machine, "model": options.model})
    for path in track(find_images(options.images)[: options.count], "transcode"):
        pixels = read_pixels(path)
        for pair in PAIRS:
            report.add("rows", {"photo": path.name} | measure(codec, pixels, *pair))
    print(markdown(report.content))


if __name__ == "__main__":
    main()
