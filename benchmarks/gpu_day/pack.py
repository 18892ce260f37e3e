"""Before the day: bring together what a machine lacks that can fetch nothing, in parts.

``python -m benchmarks.gpu_day.pack --photos DIR --onnxruntime WHEEL`` leaves in
``build/gpu_day/pack``

- wheels of packages that the machine lacks (``--wheels``), for its Python;
- onnxruntime-gpu, cut to the code of one GPU (`prune`);
- photos to train on, in parts of 19 MB: JPEG and WebP as they are, others as WebP;
- ``pack.json``: names, kinds and SHA-256 of all of them.

A machine may take a limited number of bytes a call. Parts may come one after the other: what is
there is unpacked, once.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks._machine import REPOSITORY
from benchmarks.gpu_day.arrive import LIST, PHOTOS, PRUNED, WHEELS
from benchmarks.gpu_day.prune import prune_wheel

PART = 19_000_000  # bytes of photos in one file
TRAVEL_AS_THEY_ARE = (".jpg", ".jpeg", ".webp")
QUALITY = 95  # of photos that are WebP only to travel
MISSING = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection")
MISSING_TO_TRAIN = ("pytorch-msssim", "pytorch-optimizer")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def wheels(names: list[str], python: str, folder: Path) -> None:
    """Fetch wheels for another machine's Python, without what they need."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    command += [part for platform in PLATFORMS for part in ("--platform", platform)]
    subprocess.run([*command, "--dest", str(folder), *names], check=True)


def photo_bytes(path: Path) -> tuple[str, bytes] | None:
    """Return a photo as it travels, its name and its bytes; None for what is no photo."""
    if path.suffix.lower() in TRAVEL_AS_THEY_ARE:
        return path.name, path.read_bytes()
    made = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(made, "WEBP", quality=QUALITY)
    except OSError:
        return None
    return f"{path.name}.webp", made.getvalue()


def parts(folder: Path, most: int = PART) -> Iterator[list[tuple[str, bytes]]]:
    """Cut the photos of a folder, sub-folders kept, into parts of so many bytes."""
    part: list[tuple[str, bytes]] = []
    size = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        photo = photo_bytes(path)
        if photo is None:
            continue
        if part and size + len(photo[1]) > most:
            yield part
            part, size = [], 0
        part.append((str(path.parent.relative_to(folder) / photo[0]), photo[1]))
        size += len(photo[1])
    if part:
        yield part


def write_parts(folder: Path, out: Path, most: int = PART) -> None:
    """Write the photos of a folder as archives."""
    for number, part in enumerate(parts(folder, most)):
        with tarfile.open(out / f"{PHOTOS}-{number}.tar", "w") as archive:
            for name, content in part:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


def kind_of(path: Path) -> str:
    """Return what is to be done with a part on the machine."""
    if path.suffix == ".whl":
        return WHEELS
    return PRUNED if path.name.startswith(PRUNED) else PHOTOS


def write_list(out: Path) -> None:
    """Write the names, kinds and digests of all parts."""
    found = sorted(path for path in out.iterdir() if path.name != LIST)
    rows = [
        {
            "name": path.name,
            "kind": kind_of(path),
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in found
    ]
    (out / LIST).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['bytes'] / 1e6:6.1f} MB  {row['kind']:12} {row['name']}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Pack what a machine with a GPU lacks.")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "gpu_day" / "pack")
    parser.add_argument("--photos", type=Path, help="folder of photos to train on")
    parser.add_argument("--onnxruntime", type=Path, help="wheel of onnxruntime-gpu")
    parser.add_argument("--wheels", nargs="*", default=[*MISSING, *MISSING_TO_TRAIN])
    parser.add_argument("--python", default="3.12", help="of the machine")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheels:
        wheels(options.wheels, options.python, options.out)
    if options.onnxruntime:
        prune_wheel(options.onnxruntime, options.out / f"{PRUNED}.tar.xz")
    if options.photos:
        write_parts(options.photos, options.out)
    write_list(options.out)


if __name__ == "__main__":
    main()
