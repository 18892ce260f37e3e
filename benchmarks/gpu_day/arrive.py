"""On the machine: unpack what `pack` made, each part once, whichever have come so far."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

WHEELS, PHOTOS, PRUNED = "wheels", "photos", "onnxruntime"
LIST = "pack.json"


def arrive(pack: Path, work: Path) -> tuple[Path, Path | None]:
    """Unpack what has come; return the folders of packages and of photos, None for no photos.

    Raises
    ------
    RuntimeError
        When a part is not the one that was packed.
    """
    listed = json.loads((pack / LIST).read_text(encoding="utf-8"))
    packages, photos = work / "packages", work / "photos"
    packages.mkdir(parents=True, exist_ok=True)
    here = [entry for entry in listed if (pack / entry["name"]).is_file()]
    for entry in here:
        path, done = pack / entry["name"], work / f"{entry['name']}.done"
        if done.is_file():
            continue
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            raise RuntimeError(f"{path} is not the file that was packed")
        if entry["kind"] == WHEELS:
            _install(path, packages)
        else:
            _extract(path, packages if entry["kind"] == PRUNED else photos)
        done.touch()
    return packages, photos if photos.is_dir() else None


def _install(wheel: Path, packages: Path) -> None:
    """Install a wheel without what it needs: that is there, or is packed as well."""
    options = ["--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", str(packages)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *options, str(wheel)]
    subprocess.run(pip, check=True)


def _extract(archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
