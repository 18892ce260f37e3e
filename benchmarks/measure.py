"""Run codecs over pictures: every file is really written, in memory, and really decoded."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

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
    known: tuple[str, ...] = ()
    """Those of the scores that an earlier run has, of a file of `size` bytes."""
    size: int | None = None

    def left(self, size: int) -> tuple[str, ...]:
        """Return what is left to compute of a file of some size; PSNR always is."""
        known = self.known if size == self.size else ()
        return tuple(name for name in self.scores if name == "psnr" or name not in known)


@dataclass(frozen=True)
class Task:
    """One codec on one picture, at some qualities."""

    spec: Spec
    image: Path
    points: tuple[Wanted, ...]
    files: Path | None = None
    """Folder where encoded files are kept, to be decoded again for other scores."""


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
    data, encode_seconds = _encoded(codec, original, wanted.quality, task)
    start = perf_counter()
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
        encode_seconds=encode_seconds,
        decode_seconds=end - start,
        **{name: SCORES[name].compute(original, decoded) for name in wanted.left(len(data))},
    )


def _encoded(codec: Codec, original: Pixels, quality: float, task: Task) -> tuple[bytes, float]:
    """Return a file and the seconds that it took; a kept one, with its seconds, if there is."""
    kept = None if task.files is None else task.files / _file_name(codec, original, quality, task)
    if kept is not None and kept.is_file():
        taken, data = kept.read_bytes().split(b"\n", 1)
        return data, float(taken)
    start = perf_counter()
    data = codec.encode(original, quality)
    seconds = perf_counter() - start
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        beside = kept.with_suffix(f".{os.getpid()}")
        beside.write_bytes(f"{seconds!r}\n".encode() + data)
        beside.replace(kept)  # whole or not at all, should the run be broken off
    return data, seconds


def _file_name(codec: Codec, original: Pixels, quality: float, task: Task) -> str:
    """Return a name that another picture, quality, setting or version does not have."""
    made = [str(task.spec), codec.settings, codec.versions, quality, original.shape]
    digest = hashlib.sha256(json.dumps(made, sort_keys=True).encode())
    digest.update(original.tobytes())
    return f"{task.spec.name}-{digest.hexdigest()[:32]}.kept"


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


def spread(values: Any, count: int) -> list[Any]:
    """Return so many of some values, evenly spaced; all if they are fewer."""
    places = np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int)
    return [values[i] for i in places]
