"""Run codecs over pictures: every file is really written, in memory, and really decoded."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.codecs import Codec, Pixels, Spec, make
from benchmarks.runs import Point
from benchmarks.scores import SCORES

SUFFIXES = (".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jpg", ".jpeg", ".avif")


class Wanted(NamedTuple):
    """One point: a quality in the codec's own scale, and the scores to compute there."""

    quality: float
    scores: tuple[str, ...] = ("psnr",)


@dataclass(frozen=True)
class Task:
    """One codec on one picture, at some qualities."""

    spec: Spec
    image: Path
    points: tuple[Wanted, ...]


def find_images(folder: Path) -> list[Path]:
    """Return the pictures of a folder, sorted by name.

    Raises
    ------
    FileNotFoundError
        It has none.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"no pictures in {folder} (looked for {', '.join(SUFFIXES)})")
    return found


def read_pixels(path: Path) -> Pixels:
    """Read a picture as (H, W, 3) uint8, without conversion by its profile."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def describe_image(path: Path) -> dict[str, str | int]:
    """Return a picture's name, size and the hash of its file."""
    with Image.open(path) as picture:
        width, height = picture.size
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": path.name, "width": width, "height": height, "sha256": digest}


@functools.lru_cache(maxsize=2)
def _codec(spec: Spec) -> Codec:
    """Keep a process's current codec warm."""
    return make(spec)


def run_task(task: Task, report: Callable[[], None] | None = None) -> list[Point]:
    """Measure one codec on one picture.

    Raises
    ------
    ValueError
        The codec returned a picture of another shape.
    """
    codec = _codec(task.spec)
    original = read_pixels(task.image)
    points = []
    for wanted in task.points:
        points.append(_measure(codec, original, wanted, task))
        if report is not None:
            report()
    return points


def _measure(codec: Codec, original: Pixels, wanted: Wanted, task: Task) -> Point:
    start = perf_counter()
    data = codec.encode(original, wanted.quality)
    encoded = perf_counter()
    decoded = codec.decode(data)
    end = perf_counter()
    if decoded.shape != original.shape:
        raise ValueError(
            f"{task.spec} on {task.image.name} at quality {wanted.quality}: "
            f"decoded {decoded.shape}, expected {original.shape}"
        )
    return Point(
        image=task.image.name,
        quality=wanted.quality,
        bytes=len(data),
        bpp=8 * len(data) / (original.shape[0] * original.shape[1]),
        encode_seconds=encoded - start,
        decode_seconds=end - encoded,
        **{name: SCORES[name].compute(original, decoded) for name in wanted.scores},
    )


def run_tasks(
    tasks: Iterable[Task], jobs: int, report: Callable[[int], None]
) -> Iterator[tuple[Task, list[Point]]]:
    """Run tasks, in this process or in several, and yield them in order.

    Parameters
    ----------
    tasks
        What to do.
    jobs
        Number of processes; 1 works in this one.
    report
        Called with the number of points just finished.
    """
    tasks = list(tasks)
    if jobs == 1:
        for task in tasks:
            yield task, run_task(task, lambda: report(1))
        return
    # "spawn": codecs with threads of their own do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for task, points in zip(tasks, pool.map(run_task, tasks), strict=True):
            report(len(points))
            yield task, points
