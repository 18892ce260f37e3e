"""Files a second of ``trellic batch`` on a local Ray, by the number of actors.

::

    python -m benchmarks.scale [--actors 1 2 4] [--count 96] [--images DIR]

Encodes copies of the photos with 1, 2 and 4 actors of one thread each, and decodes what was made.
A rate is that between a quarter and nine tenths of the files: neither the start of actors counts,
nor the end, when some have nothing left. With more actors than cores they share them. Writes
``benchmarks/results/scale.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import ray

from benchmarks._machine import REPOSITORY, describe
from benchmarks.measure import find_images
from trellic.support.cores import usable_cores
from trellic_data.batch.items import find
from trellic_data.batch.run import Report, run
from trellic_data.batch.work import Task

RESULT = REPOSITORY / "benchmarks" / "results" / "scale.json"
FROM, TO = 0.25, 0.9  # of the files


def measured(task: Task, source: Path, actors: int) -> dict[str, float]:
    """Run a task; return its files a second, and bytes a file."""
    items, times = find(str(source), task.kind), list[float]()

    def note(report: Report) -> None:
        times.append(time.monotonic())

    report = run(items, task, actors=actors, batch=1, progress=note)
    if report.done < len(items):
        raise SystemExit(f"error: {report.bad[:3]}")
    first, last = (int(share * len(times)) for share in (FROM, TO))
    return {
        "files_per_s": round((last - first) / (times[last] - times[first]), 3),
        "bytes_in": report.bytes_in // report.done,
        "bytes_out": report.bytes_out // report.done,
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Files a second by the number of actors.")
    parser.add_argument("--images", type=Path, default=REPOSITORY / "samples")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 2)  # of other programs
    ray.init(include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    images, rates = find_images(options.images), list[dict[str, object]]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        for number in range(options.count):
            photo = images[number % len(images)]
            shutil.copy(photo, root / "photos" / f"{number:05}{photo.suffix}")
        for actors in options.actors:
            streams, pictures = (root / f"{kind}-{actors}" for kind in ("streams", "pictures"))
            encode = measured(Task("encode", str(streams)), root / "photos", actors)
            decode = measured(Task("decode", str(pictures), format=".jpg"), streams, actors)
            rates.append({"actors": actors, "encode": encode, "decode": decode})
            print(rates[-1], flush=True)
    record = {
        "machine": describe(("numpy", "numba", "onnxruntime", "ray")),
        "cores": usable_cores(),
        "load": load,
        "photos": [path.name for path in images],
        "files": options.count,
        "rates": rates,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
